"""PE-PPO: PPO with an inferred latent of the task (Wang & van Hoof 2022)."""
