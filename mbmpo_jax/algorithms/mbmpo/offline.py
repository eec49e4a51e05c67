"""A configuration of MB-MPO for logged data of small environments."""

import dataclasses

from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.algorithms.mbmpo import quick as quick_lib


def quick(
  *, episode_length: int = 200, num_iterations: int = 8, seed: int = 0
) -> mbmpo.Config:
  """`quick.quick` with one long fit, and with bounded adaptation.

  The adaptation of a nearly deterministic policy goes too far, and offline no
  new data correct it. Therefore its KL is bounded.

  Args:
    episode_length: steps of imagined episodes in evaluations.
    num_iterations: number of iterations, of 30 trust-region steps each.
    seed: of all random numbers.
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
