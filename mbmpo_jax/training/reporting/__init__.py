"""What a run says: metrics, the terminal, curves, a profile."""
