"""ACKTR: actor-critic by Kronecker-factored trust regions (Wu et al. 2017)."""
