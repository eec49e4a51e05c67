"""What all errors have in common that a user can do something about."""


class UserError(Exception):
  """Said in one line: a binary prints it, and notes below, and exits.

  Attributes:
    exit_code: the binary's; 2 is bad input.
  """

  exit_code: int = 2


class NonFiniteError(UserError):
  """Numbers went bad; notes say which, one line per kind."""

  exit_code = 1
