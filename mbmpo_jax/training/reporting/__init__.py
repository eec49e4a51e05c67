"""Output of a run: metrics, terminal display, curves, a profile."""
