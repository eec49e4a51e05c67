"""Base classes of errors that a user can fix."""


class UserError(Exception):
  """An error whose message is one line for the user.

  A binary prints the message and the exception's notes without a traceback, and
  exits.

  Attributes:
    exit_code: exit code of the binary; 2 stands for bad input.
  """

  exit_code: int = 2


class NonFiniteError(UserError):
  """Numbers became NaN or infinite; the notes list which, one line per kind."""

  exit_code = 1
