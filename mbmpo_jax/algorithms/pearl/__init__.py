"""PEARL: SAC told a latent of its task (Rakelly et al. 2019)."""
