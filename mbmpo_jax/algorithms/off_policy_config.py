"""Configuration sections that off-policy algorithms share."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Collect(config.Steps):
  """Real data: the ring's capacity and the first uniform actions.

  Attributes:
    buffer_capacity: number of newest transitions kept.
    start_steps: number of first transitions, over all environments, with
      uniform actions, rounded up to whole rounds; learning begins after them.
    normalize_observations: whether the networks that learn to act get
      observations, and rewards of remembered steps, normalised by their running
      moments.
  """

  buffer_capacity: int = config.setting(
    1_000_000, low=1, high=10**8, tiny=1_000
  )
  start_steps: int = config.setting(1000, low=0, high=10**8, tiny=10)
  normalize_observations: bool = False


@dataclasses.dataclass(unsafe_hash=True)
class Run(config.Run):
  """The host's side of a run.

  Attributes:
    chunk: number of steps of each environment in one program, with the updates
      that follow them. Results do not depend on it, bit for bit. It determines
      how often the host reports progress and reacts to signals.
  """

  chunk: int = config.setting(250, low=1, high=10**6, tiny=10)


@dataclasses.dataclass(unsafe_hash=True)
class Learn:
  """Gradient updates: `num_updates` after every `update_every` steps.

  Attributes:
    num_updates: G.
    update_every: steps of each environment between updates.
    batch_size: transitions of an update, sampled uniformly with replacement
      (in PEARL one from each of as many equal parts of the buffer).
    discount: gamma.
    target_rate: tau, the step of the target networks towards the networks.
  """

  num_updates: int = config.setting(1, low=1, high=10**6, tiny=2)
  update_every: int = config.setting(1, low=1, high=10**6, tiny=1)
  batch_size: int = config.setting(256, low=1, high=10**6, tiny=8)
  discount: float = config.setting(0.99, low=0, high=1, sweep=True)
  target_rate: float = config.setting(0.005, above=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Critic:
  """The critic networks Q(s, a).

  Attributes:
    hidden_sizes: units of each hidden layer.
    activation: of the hidden layers.
    learning_rate: Adam's step size.
  """

  hidden_sizes: tuple[int, ...] = config.setting(
    (256, 256), low=1, high=2**16, tiny=8
  )
  activation: str = config.setting('relu', choices=('relu', 'swish', 'tanh'))
  learning_rate: float = config.setting(3e-4, above=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """The configuration that experiments of off-policy algorithms share.

  Attributes:
    collect: real data.
    run: iterations, evaluations, checkpoints.
    critic: the networks Q(s, a).
    learn: gradient updates.
  """

  collect: Collect = dataclasses.field(  # type: ignore[assignment]
    default_factory=Collect
  )
  run: Run = dataclasses.field(default_factory=Run)
  critic: Critic = dataclasses.field(default_factory=Critic)
  learn: Learn = dataclasses.field(default_factory=Learn)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    collect, learn, chunk = self.collect, self.learn, self.run.chunk
    for name, size, unit, what in (
      ('collect.steps_per_env', collect.steps_per_env, chunk, 'run.chunk'),
      ('run.chunk', chunk, learn.update_every, 'learn.update_every'),
    ):
      if size % unit:
        raise config.ConfigError(
          f'{name}={size}: must be a multiple of {unit}, {what}'
        )
    transitions = self.run.num_iterations * collect.steps
    if collect.start_steps >= transitions:
      raise config.ConfigError(
        f'collect.start_steps={collect.start_steps}: must be < {transitions},'
        ' run.num_iterations * collect.num_envs * collect.steps_per_env, the'
        ' transitions of the run'
      )
    rows = collect.num_envs * learn.update_every
    if collect.buffer_capacity < max(rows, learn.batch_size):
      raise config.ConfigError(
        f'collect.buffer_capacity={collect.buffer_capacity}: must be >='
        f' {rows}, the collect.num_envs * learn.update_every transitions'
        ' between updates, and'
        f' >= {learn.batch_size}, learn.batch_size'
      )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    collect, learn = self.collect, self.learn
    return [
      *super().sizes(),
      (
        'learn.num_updates',
        learn.num_updates * learn.batch_size,
        'transitions are drawn at once, learn.num_updates * learn.batch_size',
      ),
      (
        'learn.num_updates',
        learn.num_updates * (collect.steps_per_env // learn.update_every),
        'updates per iteration',
      ),
      (
        'critic.hidden_sizes',
        config.widest_product(self.critic.hidden_sizes),
        'weights between two layers',
      ),
    ]
