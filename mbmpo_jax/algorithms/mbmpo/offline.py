"""A configuration of MB-MPO for logs of small worlds."""

import dataclasses

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import quick as quick_lib


def quick(
  *, episode_length: int = 200, num_iterations: int = 8, seed: int = 0
) -> mbmpo.Config:
  """As `quick.quick`, with one long fit, and adaptation that is bounded.

  No new data correct a policy that has become all but deterministic, whose
  adaptation then goes too far.

  Args:
    episode_length: steps of the imagined episodes that evaluate.
    num_iterations: of 30 trust-region steps each.
    seed: of everything random.
  """
  config = quick_lib.quick(
    transitions=1,
    episode_length=episode_length,
    horizon=min(150, episode_length),
    num_meta_steps=30,
    seed=seed,
  )
  return dataclasses.replace(
    config,
    model=dataclasses.replace(config.model, max_epochs=200),
    policy=dataclasses.replace(config.policy, min_std=0.2),
    meta=dataclasses.replace(config.meta, max_inner_kl=0.01),
    run=dataclasses.replace(config.run, num_iterations=num_iterations),
  )
