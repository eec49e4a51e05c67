"""The command line, and how a program starts."""
