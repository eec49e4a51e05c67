"""Every hyperparameter of PEARL."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms.sac import config as sac


@dataclasses.dataclass(unsafe_hash=True)
class Context:
  """The encoder of the task, from recent transitions.

  Attributes:
    length: W, the number of last transitions of the episode.
    latent_size: size of z.
    hidden_sizes: units of each hidden layer of the encoder.
    activation: of the hidden layers.
    learning_rate: Adam's step size.
    kl_weight: beta, the weight of the KL from N(0, I).
  """

  length: int = config.setting(10, low=1, high=10_000, tiny=3)
  latent_size: int = config.setting(5, low=1, high=2**12, tiny=2)
  hidden_sizes: tuple[int, ...] = config.setting(
    (200, 200, 200), low=1, high=2**16, tiny=8
  )
  activation: str = config.setting('relu', choices=('relu', 'swish', 'tanh'))
  learning_rate: float = config.setting(3e-4, above=0, high=1, sweep=True)
  kl_weight: float = config.setting(0.1, low=0, high=1e6, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Config(sac.Config):
  """The configuration of an experiment; docs/pearl.md lists our own defaults.

  Attributes:
    context: the encoder of the task.
  """

  algorithm: ClassVar[str] = 'pearl'

  context: Context = dataclasses.field(default_factory=Context)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    length, episode = self.context.length, self.collect.episode_length
    if length > episode:
      raise config.ConfigError(
        f'context.length={length}: must be <= {episode}, collect.episode_length'
      )
    least = (length + 1) * self.collect.num_envs
    if self.collect.buffer_capacity < least:
      raise config.ConfigError(
        f'collect.buffer_capacity={self.collect.buffer_capacity}: must be >='
        f' {least}, (context.length + 1) * collect.num_envs'
      )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    learn, context = self.learn, self.context
    return [
      *super().sizes(),
      (
        'context.length',
        learn.num_updates * learn.batch_size * context.length,
        'transitions in the contexts of learn.num_updates * learn.batch_size'
        ' rows',
      ),
      (
        'context.hidden_sizes',
        config.widest_product(context.hidden_sizes),
        'weights between two layers',
      ),
    ]
