"""What a run takes: `mbmpo_jax/training/figures/costs.py`."""

from mbmpo_jax.training.figures import costs

seconds = costs.seconds
