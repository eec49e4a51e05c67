"""Every hyperparameter of PPO."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config


@dataclasses.dataclass(unsafe_hash=True)
class Learn(on_policy_config.Epochs):
  """Epochs over an iteration's data.

  Attributes:
    clip_range: eps, the greatest distance of the ratio from 1 that counts.
    value_coef: weight of the value loss.
    entropy_coef: weight of the policy's entropy.
  """

  clip_range: float = config.setting(0.2, above=0, high=10, sweep=True)
  value_coef: float = config.setting(0.5, low=0, high=1e6, sweep=True)
  entropy_coef: float = config.setting(0.0, low=0, high=1e6, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Config(on_policy_config.Config):
  """The configuration of an experiment.

  Attributes:
    learn: epochs over an iteration's data.
  """

  algorithm: ClassVar[str] = 'ppo'

  learn: Learn = dataclasses.field(default_factory=Learn)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.learn.check('learn', self.collect.steps)
