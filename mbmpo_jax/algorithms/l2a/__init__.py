"""L2A: planning in models that adapt at every step (Nagabandi et al. 2019)."""
