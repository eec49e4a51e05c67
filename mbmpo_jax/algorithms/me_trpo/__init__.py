"""ME-TRPO: model-ensemble trust-region policy optimisation (Kurutach 2018)."""
