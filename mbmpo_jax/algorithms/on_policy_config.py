"""Configuration sections that on-policy algorithms share."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Collect(config.Steps):
  """Real data: num_envs * steps_per_env transitions of one policy.

  Attributes:
    normalize_observations: whether networks get observations normalised by
      their running moments.
  """

  num_envs: int = config.setting(20, low=1, high=10**6)
  steps_per_env: int = config.setting(200, low=1, high=10**6, tiny=10)
  normalize_observations: bool = True


@dataclasses.dataclass(unsafe_hash=True)
class Advantage(config.Gae):
  """Generalised advantages with a value network."""

  gae_lambda: float = config.setting(0.95, low=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Value:
  """The value network.

  Attributes:
    hidden_sizes: units of each hidden layer, with tanh.
  """

  hidden_sizes: tuple[int, ...] = config.setting(
    (64, 64), low=1, high=2**16, tiny=8
  )


@dataclasses.dataclass(unsafe_hash=True)
class Epochs:
  """Epochs over an iteration's data in minibatches, with Adam.

  Attributes:
    num_epochs: number of passes over the data.
    num_minibatches: minibatches per pass; must divide the data.
    learning_rate: Adam's step size.
    max_grad_norm: gradients are clipped to this norm; `None` for no clipping.
  """

  num_epochs: int = config.setting(10, low=1, high=10**6, tiny=2)
  num_minibatches: int = config.setting(8, low=1, high=10**6, tiny=2)
  learning_rate: float = config.setting(3e-4, above=0, high=1, sweep=True)
  max_grad_norm: float | None = config.setting(None, above=0, high=1e6)

  def check(self, name: str, steps: int) -> None:
    """Raises `ConfigError` unless minibatches divide an iteration's data.

    Args:
      name: of this section in the configuration.
      steps: number of transitions of an iteration.
    """
    if steps % self.num_minibatches:
      raise config.ConfigError(
        f'{name}.num_minibatches={self.num_minibatches}: must divide {steps},'
        ' the collect.num_envs * collect.steps_per_env transitions of an'
        ' iteration'
      )


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """The configuration that experiments of on-policy algorithms share.

  Attributes:
    collect: real data.
    policy: a Gaussian; for discrete actions a softmax with the same hidden
      layers.
    value: the value network.
    advantage: advantages of actions.
  """

  collect: Collect = dataclasses.field(  # type: ignore[assignment]
    default_factory=Collect
  )
  policy: config.GaussianPolicy = dataclasses.field(
    default_factory=config.GaussianPolicy
  )
  value: Value = dataclasses.field(default_factory=Value)
  advantage: Advantage = dataclasses.field(default_factory=Advantage)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.policy.check()

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    return [
      *super().sizes(),
      *(
        (name, config.widest_product(sizes), 'weights between two layers')
        for name, sizes in (
          ('policy.hidden_sizes', self.policy.hidden_sizes),
          ('value.hidden_sizes', self.value.hidden_sizes),
        )
      ),
    ]
