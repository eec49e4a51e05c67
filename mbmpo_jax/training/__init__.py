"""The host side of a run: flags, files, timing, terminal output and signals.

`algorithms`, `models`, `optim` and `rollouts` do not import this package.
"""
