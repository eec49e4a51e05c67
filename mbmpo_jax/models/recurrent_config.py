"""The configuration of `models/recurrent.py`; needs no JAX."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Ensemble(config.Ensemble):
  """The Gaussian members and their fit.

  Attributes:
    hidden_sizes: units of each hidden layer of a member.
    activation: of the hidden layers.
    min_log_std: least log-deviation, of standardised targets.
    max_log_std: greatest log-deviation.
    num_elites: number of members that imagine after a fit, those with the
      lowest validation losses; `None` for all.
    batch_size: transitions per gradient step and member.
    max_gradient_steps: per fit; `None` for no limit.
    reward_weight: weight of the reward in the loss; all dimensions of the
      observation share the rest. With `None` the reward counts like one of
      them.
  """

  hidden_sizes: tuple[int, ...] = config.setting(
    (256, 256), low=1, high=2**16, tiny=16
  )
  activation: str = config.setting('swish', choices=('relu', 'swish', 'tanh'))
  min_log_std: float = config.setting(-5.0, low=-20, high=20)
  max_log_std: float = config.setting(0.25, low=-20, high=20)
  num_elites: int | None = config.setting(None, low=1, high=10_000)
  batch_size: int = config.setting(256, low=1, high=10**6, tiny=32)
  max_epochs: int = config.setting(100, low=1, high=10**6, tiny=2)
  max_gradient_steps: int | None = config.setting(
    2000, low=1, high=config.INT32_MAX, tiny=4
  )
  reward_weight: float | None = config.setting(0.5, low=0, high=1)

  @property
  def num_imagining(self) -> int:
    """Number of members that imagine."""
    return self.num_models if self.num_elites is None else self.num_elites

  def check(self) -> None:
    """Raises `ConfigError` for unordered bounds or a choice of predictions."""
    if self.num_imagining > self.num_models:
      raise config.ConfigError(
        f'model.num_elites={self.num_elites}: must be <= {self.num_models},'
        ' model.num_models'
      )
    if self.predict_reward or self.predict_done:
      name = 'predict_reward' if self.predict_reward else 'predict_done'
      raise config.ConfigError(
        f'model.{name}=True: must be False, as these models always predict'
        ' the reward, and never the termination'
      )
    if self.max_log_std <= self.min_log_std:
      raise config.ConfigError(
        f'model.max_log_std={self.max_log_std}: must be > {self.min_log_std},'
        ' model.min_log_std'
      )
