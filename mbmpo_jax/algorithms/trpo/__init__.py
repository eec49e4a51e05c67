"""TRPO: trust-region policy optimisation (Schulman et al. 2015)."""
