"""Every hyperparameter of TRPO."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config


@dataclasses.dataclass(unsafe_hash=True)
class Value(on_policy_config.Value, on_policy_config.Epochs):
  """The value network and its fit to an iteration's returns."""

  learning_rate: float = config.setting(1e-3, above=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Config(on_policy_config.Config):
  """The configuration of an experiment.

  Attributes:
    value: the value network and its fit.
    trust_region: the policy's step.
  """

  algorithm: ClassVar[str] = 'trpo'

  value: Value = dataclasses.field(default_factory=Value)
  trust_region: config.TrustRegion = dataclasses.field(
    default_factory=config.TrustRegion
  )

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.value.check('value', self.collect.steps)
