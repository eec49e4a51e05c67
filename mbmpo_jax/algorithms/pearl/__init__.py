"""PEARL: SAC with an inferred latent of the task (Rakelly et al. 2019)."""
