"""Flax networks: all but the performance-critical MLPs of MB-MPO."""
