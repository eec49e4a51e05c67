"""Base classes of errors that a user can fix."""

# A part of the note that JAX adds.
_JAX_NOTE = 'JAX has removed its'


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


def notes(error: BaseException) -> list[str]:
  """The notes of an error, without the one that JAX adds.

  JAX adds a note on its own stack frames to errors of functions that it traces.

  Example:
    >>> error = UserError('no')
    >>> error.add_note('seed 3: twice')
    >>> error.add_note('For simplicity, JAX has removed its frames')
    >>> notes(error)
    ['seed 3: twice']
  """
  found = getattr(error, '__notes__', ())
  return [note for note in found if _JAX_NOTE not in note]
