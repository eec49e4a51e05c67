"""The configuration of `models/grbal.py`; needs no JAX."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Ensemble(config.Ensemble):
  """The network, and the fit of its parameters before adaptation.

  Attributes:
    num_models: number of members; 1 in the paper.
    hidden_sizes: units of each hidden layer of a member.
    batch_size: segments of M + K steps per gradient step and member.
    validation_fraction: share of the segments that each member holds out.
    max_epochs: greatest number of passes over the segments.
    max_gradient_steps: per fit; `None` for no limit.
    rolling_persistence: weight of the past in the early stop's rolling mean.
  """

  num_models: int = config.setting(1, low=1, high=10_000)
  hidden_sizes: tuple[int, ...] = config.setting(
    (512, 512, 512), low=1, high=2**16, tiny=16
  )
  batch_size: int = config.setting(10, low=1, high=10**6, tiny=8)
  validation_fraction: float = config.setting(0.1, above=0, below=1)
  max_epochs: int = config.setting(100, low=1, high=10**6, tiny=2)
  max_gradient_steps: int | None = config.setting(
    None, low=1, high=config.INT32_MAX, tiny=10
  )
  rolling_persistence: float = config.setting(0.99, low=0, below=1, sweep=True)

  def check(self) -> None:
    """Raises `ConfigError` if a choice of predicted quantities is set."""
    for name in ('predict_reward', 'predict_done'):
      if getattr(self, name):
        raise config.ConfigError(
          f'model.{name}=True: must be False, as these models predict the'
          ' reward whenever it is not known, and never the termination'
        )


@dataclasses.dataclass(unsafe_hash=True)
class Adaptation:
  """Adaptation of the model to the last steps of an episode.

  Attributes:
    adapt_steps: M, the number of last steps to which the model adapts.
    predict_steps: K, the number of following steps to predict, in the fit.
    inner_lr: alpha, the step size; 0 for no adaptation.
  """

  adapt_steps: int = config.setting(16, low=1, high=10_000, tiny=3)
  predict_steps: int = config.setting(16, low=1, high=10_000, tiny=2)
  inner_lr: float = config.setting(0.01, low=0, high=1e3, sweep=True)

  @property
  def segment(self) -> tuple[int, int]:
    """(M, K)."""
    return self.adapt_steps, self.predict_steps

  def check(self, episode_length: int) -> None:
    """Raises `ConfigError` if a segment is longer than an episode."""
    total = self.adapt_steps + self.predict_steps
    if total > episode_length:
      raise config.ConfigError(
        f'adaptation.adapt_steps={self.adapt_steps}: must be <='
        f' {episode_length - self.predict_steps}, collect.episode_length -'
        ' adaptation.predict_steps'
      )
