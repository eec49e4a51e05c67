"""The host's side of a run: flags, disks, clocks, terminals and signals.

Nothing that `algorithms`, `models`, `optim` or `rollouts` compute imports it.
"""
