"""MB-MPO's settings for bodies, sized for a CPU; the presets start from them.

They are the paper's except for models, fits, meta-steps and imagined rollouts.
`docs/algorithm.md` compares them with others.
"""

from typing import Any

from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms.mbmpo import config as mbmpo

# Members have four layers of 200 units and swish. A fit takes 500 gradient
# steps, whatever the size of the buffer. Predictions are clipped to the range
# of the data in the buffer, widened by a quarter of it; otherwise a single
# diverging rollout would dominate the advantages of its task.
MODEL: dict[str, Any] = {
  'model.hidden_sizes': (200,) * 4,
  'model.activation': 'swish',
  'model.learning_rate': 2e-3,
  'model.max_epochs': 40,
  'model.max_gradient_steps': 500,
  'model.clip_margin': 0.25,
}
# With the paper's 30 meta-steps of 0.01 and 25 rollouts per task, imagined
# returns were 1.7 times the real ones in one seed.
STEPS: dict[str, Any] = {
  'meta.num_meta_steps': 15,
  'trust_region.max_kl': 0.03,
}
# For bodies that earn a reward by standing. With a small standard deviation the
# policy learned to stand still.
STANDING: dict[str, Any] = {'policy.min_std': 0.5}
# A policy that falls after 20 steps would leave nine tenths of its imagined
# rollouts unused.
_FALLING: dict[str, Any] = {
  'model_rollouts.restart': True,
  'model_rollouts.rollouts_per_task': 20,
}


def config(
  name: str,
  *,
  num_iterations: int = 25,
  stands: bool = False,
  max_epochs: int = 40,
) -> mbmpo.Config:
  """The configuration for an environment, of 4,000 transitions per iteration.

  Args:
    name: of the environment.
    num_iterations: iterations of the run.
    stands: whether an episode ends when the body falls, and standing earns a
      reward.
    max_epochs: greatest number of epochs of a fit. With 40, the first fit takes
      280 gradient steps instead of 500; later fits are the same.

  Example:
    >>> config('hopper', stands=True).policy.min_std
    0.5
  """
  values = {
    'env.name': name,
    'model_rollouts.rollouts_per_task': 12,
    'run.num_iterations': num_iterations,
    **MODEL,
    'model.max_epochs': max_epochs,
    **STEPS,
    **(STANDING | _FALLING if stands else {}),
  }
  return config_lib.replaced(mbmpo.Config(), values)
