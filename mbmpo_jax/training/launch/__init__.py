"""The command line and the start of programs."""
