"""Every hyperparameter of SAC."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config


@dataclasses.dataclass(unsafe_hash=True)
class Policy:
  """The squashed Gaussian, whose deviation depends on the state.

  Attributes:
    hidden_sizes: units of each hidden layer.
    activation: of the hidden layers.
    min_log_std: least log-deviation, before the tanh.
    max_log_std: greatest log-deviation, before the tanh.
    learning_rate: Adam's step size.
  """

  hidden_sizes: tuple[int, ...] = config.setting(
    (256, 256), low=1, high=2**16, tiny=8
  )
  activation: str = config.setting('relu', choices=('relu', 'swish', 'tanh'))
  min_log_std: float = config.setting(-5.0, low=-20, high=20)
  max_log_std: float = config.setting(2.0, low=-20, high=20)
  learning_rate: float = config.setting(3e-4, above=0, high=1, sweep=True)

  def check(self) -> None:
    """Raises `ConfigError` if the bounds are not in order."""
    if self.max_log_std <= self.min_log_std:
      raise config.ConfigError(
        f'policy.max_log_std={self.max_log_std}: must be > {self.min_log_std},'
        ' policy.min_log_std'
      )


@dataclasses.dataclass(unsafe_hash=True)
class Temperature:
  """The weight alpha of the policy's entropy.

  Attributes:
    initial: initial alpha.
    learned: whether alpha is adapted; otherwise it stays `initial`.
    target_entropy: H, the policy's entropy that alpha is adapted to reach, in
      nats per dimension of the action.
    learning_rate: Adam's step size, in log alpha.
  """

  initial: float = config.setting(1.0, above=0, high=1e6, sweep=True)
  learned: bool = True
  target_entropy: float = config.setting(-1.0, low=-20, high=20, sweep=True)
  learning_rate: float = config.setting(3e-4, above=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Config(off_policy_config.Config):
  """The configuration of an experiment, with the defaults of SAC's authors.

  Only the bounds of the policy's log standard deviation are others.

  Attributes:
    policy: the squashed Gaussian.
    temperature: weight of the policy's entropy.
  """

  algorithm: ClassVar[str] = 'sac'

  policy: Policy = dataclasses.field(default_factory=Policy)
  temperature: Temperature = dataclasses.field(default_factory=Temperature)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.policy.check()

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    return [
      *super().sizes(),
      (
        'policy.hidden_sizes',
        config.widest_product(self.policy.hidden_sizes),
        'weights between two layers',
      ),
    ]
