"""Every hyperparameter of ACKTR."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config


@dataclasses.dataclass(unsafe_hash=True)
class Kfac:
  """Steps with Kronecker factors of the Fisher matrix (`optim/kfac.py`).

  Attributes:
    max_length: eta_max, the greatest step length.
    max_kl: delta, the greatest KL of a step by the Fisher matrix. For the value
      network it is in units of the mean squared error before the step.
    damping: lambda; about this is added to the Fisher matrix's diagonal.
    decay: weight of the past in the factors' running means.
    momentum: weight of the previous direction in the next one.
  """

  max_length: float = config.setting(1.0, above=0, high=1e6, sweep=True)
  max_kl: float = config.setting(0.01, above=0, high=1e6, sweep=True)
  damping: float = config.setting(0.1, above=0, high=1e6, sweep=True)
  decay: float = config.setting(0.9, low=0, below=1, sweep=True)
  momentum: float = config.setting(0.0, low=0, below=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class ValueKfac(Kfac):
  """The steps of the value network.

  Attributes:
    num_steps: number of steps per iteration, each on all data.
  """

  max_kl: float = config.setting(0.1, above=0, high=1e6, sweep=True)
  damping: float = config.setting(0.01, above=0, high=1e6, sweep=True)
  num_steps: int = config.setting(1, low=1, high=10**6, tiny=2)


@dataclasses.dataclass(unsafe_hash=True)
class Config(on_policy_config.Config):
  """The configuration of an experiment.

  Attributes:
    policy_step: the policy's one step per iteration.
    value_step: the steps of the value network.
  """

  algorithm: ClassVar[str] = 'acktr'

  policy_step: Kfac = dataclasses.field(default_factory=Kfac)
  value_step: ValueKfac = dataclasses.field(default_factory=ValueKfac)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    if self.policy.bound_mean:
      raise config.ConfigError(
        'policy.bound_mean=True: must be False for ACKTR, which takes the mean'
        " to be the network's output"
      )
