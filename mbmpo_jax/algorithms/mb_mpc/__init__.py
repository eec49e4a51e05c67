"""MB-MPC: planning in a learned model (Nagabandi et al. 2017)."""
