"""M3PO: meta-model-based meta-policy optimisation (Hiraoka et al. 2021)."""
