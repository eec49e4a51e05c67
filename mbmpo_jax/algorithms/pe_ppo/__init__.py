"""PE-PPO."""
