"""Every hyperparameter of PE-PPO."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms.ppo import config as ppo


@dataclasses.dataclass(unsafe_hash=True)
class Context:
  """The encoder of the task, from recent transitions.

  Attributes:
    window: number of last transitions of the episode that are read.
    encoder_sizes: units of the layers that encode a transition.
    latent_size: size of z.
    min_latent_std: floor of the deviations of z, which are below 1.
  """

  window: int = config.setting(50, low=1, high=10**5, tiny=4)
  encoder_sizes: tuple[int, ...] = config.setting(
    (32, 32), low=1, high=2**16, tiny=4
  )
  latent_size: int = config.setting(16, low=1, high=2**16, tiny=2)
  min_latent_std: float = config.setting(0.1, above=0, below=1)


@dataclasses.dataclass(unsafe_hash=True)
class Learn(ppo.Learn):
  """Epochs over an iteration's data.

  Attributes:
    kl_coef: weight of the KL divergence of q(z) from the standard normal.
  """

  kl_coef: float = config.setting(0.1, low=0, high=1e6, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Config(ppo.Config):
  """The configuration of an experiment.

  Attributes:
    context: the encoder of the task.
    learn: epochs over an iteration's data.
  """

  algorithm: ClassVar[str] = 'pe_ppo'

  context: Context = dataclasses.field(default_factory=Context)
  learn: Learn = dataclasses.field(default_factory=Learn)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    if not self.context.encoder_sizes:
      raise config.ConfigError(
        'context.encoder_sizes=(): must have at least one layer'
      )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    return [
      *super().sizes(),
      (
        'context.window',
        self.collect.steps * self.context.window,
        'transitions are read in an iteration',
      ),
    ]
