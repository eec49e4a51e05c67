"""Networks in flax: what is not the two hot MLPs of MB-MPO."""
