"""What all errors have in common that a user can do something about."""


class UserError(Exception):
  """Bad input, said in one line: a binary prints it and exits with code 2."""
