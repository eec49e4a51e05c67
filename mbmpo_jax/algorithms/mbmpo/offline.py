"""A configuration of MB-MPO for logs of small worlds."""

import dataclasses

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import quick as quick_lib


def quick(
  *, episode_length: int = 200, num_iterations: int = 6, seed: int = 0
) -> mbmpo.Config:
  """As `quick.quick`, with one long fit.

  Args:
    episode_length: steps of the imagined episodes that evaluate.
    num_iterations: of 60 trust-region steps each.
    seed: of everything random.
  """
  config = quick_lib.quick(
    transitions=1,
    episode_length=episode_length,
    horizon=min(150, episode_length),
    seed=seed,
  )
  return dataclasses.replace(
    config,
    model=dataclasses.replace(config.model, max_epochs=200),
    run=dataclasses.replace(config.run, num_iterations=num_iterations),
  )
