"""Every hyperparameter of DDPG and TD3."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config

# Fields that only TD3 uses.
_TD3_FIELDS = ('policy_delay', 'smoothing_std', 'smoothing_clip')


@dataclasses.dataclass(unsafe_hash=True)
class Policy:
  """The deterministic policy and its exploration noise.

  Attributes:
    hidden_sizes: units of each hidden layer.
    activation: of the hidden layers.
    learning_rate: Adam's step size.
    exploration_std: deviation of the Gaussian noise that is added to actions in
      data collection, in units of the action. Evaluations have no noise.
  """

  hidden_sizes: tuple[int, ...] = config.setting(
    (256, 256), low=1, high=2**16, tiny=8
  )
  activation: str = config.setting('relu', choices=('relu', 'swish', 'tanh'))
  learning_rate: float = config.setting(3e-4, above=0, high=1, sweep=True)
  exploration_std: float = config.setting(0.1, above=0, high=10, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Learn(off_policy_config.Learn):
  """Gradient updates.

  Attributes:
    kind: `ddpg`, or `td3`, with two critics and the settings below.
    policy_delay: TD3's number of critic updates per update of the policy and
      of the target networks.
    smoothing_std: deviation of TD3's noise in target actions.
    smoothing_clip: TD3's clip of that noise.
  """

  kind: str = config.setting('ddpg', choices=('ddpg', 'td3'))
  policy_delay: int = config.setting(2, low=1, high=10**6)
  smoothing_std: float = config.setting(0.2, low=0, high=10, sweep=True)
  smoothing_clip: float = config.setting(0.5, low=0, high=10, sweep=True)

  def check(self) -> None:
    """Raises `ConfigError` if a field that only TD3 uses is set without it."""
    if self.kind == 'td3':
      return
    for name in _TD3_FIELDS:
      value, default = getattr(self, name), getattr(Learn, name)
      if value != default:
        raise config.ConfigError(
          f'learn.{name}={value}: must be {default}, as'
          f' learn.kind={self.kind!r} does not use it'
        )


@dataclasses.dataclass(unsafe_hash=True)
class Config(off_policy_config.Config):
  """The configuration of an experiment.

  Attributes:
    policy: the deterministic policy.
    learn: gradient updates, and the choice between DDPG and TD3.
  """

  algorithm: ClassVar[str] = 'ddpg'

  policy: Policy = dataclasses.field(default_factory=Policy)
  learn: Learn = dataclasses.field(default_factory=Learn)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.learn.check()

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
