"""The sections of which every experiment's configuration is made.

An algorithm's own `Config` is a dataclass beside its `make`
(`algorithms/<name>/config.py`): an `Experiment` and the sections that it needs.
The defaults are the values of MB-MPO's paper (Clavera et al. 2018, appendix
A.3). Presets live in `experiments/configs/<algorithm>/<env>.py`.

A field says its default, what it may be, and whether it is a number of the
compiled program that a sweep may vary:

  max_kl: float = setting(0.01, above=0, high=100, sweep=True)

The dataclasses are mutable, because command-line overrides assign to them;
`make` copies the one it is given. `validation.validate` holds a configuration
to the ranges, and to its own `check`.
"""

import copy
import dataclasses
import itertools
import operator
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

from mbmpo_jax import errors

# What counters on the device can hold, and where arrays can be indexed to.
INT32_MAX = 2**31 - 1
_WIDEST_LAYER = 2**16

_Config = TypeVar('_Config', bound='Experiment')


class ConfigError(errors.UserError, ValueError):
  """A field's value is not allowed; the message names field, value, range."""


def setting(
  default: Any,
  *,
  low: float | None = None,
  high: float | None = None,
  above: float | None = None,
  below: float | None = None,
  choices: tuple[str, ...] | None = None,
  sweep: bool = False,
  tiny: int | None = None,
) -> Any:
  """A dataclass field, what it may be, and what else is known about it.

  Args:
    default: its value where none is given.
    low: the least value allowed.
    high: the greatest.
    above: what the value must exceed.
    below: what it must stay under.
    choices: all values allowed.
    sweep: whether it is a number in the algorithm's state (`state.hyper`), in
      which the runs of a sweep may differ; all other fields shape the program.
    tiny: the most that a smoke test uses (`training/launch/tiny.py`).
  """
  known = dict(
    low=low,
    high=high,
    above=above,
    below=below,
    choices=choices,
    sweep=sweep or None,
    tiny=tiny,
  )
  given = {name: value for name, value in known.items() if value is not None}
  return dataclasses.field(default=default, metadata=given)


@dataclasses.dataclass(unsafe_hash=True)
class Env:
  """The real world.

  Attributes:
    name: a name registered with `mbmpo_jax.envs`.
    variant: one of its variants; `None` is the first, see
      `docs/environments.md`.
    physics: `mjx`, or `warp` for MuJoCo Warp, meant for a GPU: what simulates
      an environment from an MJCF file.
    tasks: of a world of many tasks, when one is drawn: for every `episode`, or
      within episodes, too (`switch`); `None` is the world's own.
    switch_period: steps between changes within an episode; 0 is the world's
      own, mostly 300.
    tell_task: whether observations end with the task's numbers; else it is
      hidden.
  """

  name: str = 'half_cheetah'
  variant: str | None = None
  physics: str = setting('mjx', choices=('mjx', 'warp'))
  tasks: str | None = setting(None, choices=('episode', 'switch'))
  switch_period: int = setting(0, low=0, high=10**6, tiny=2)
  tell_task: bool = False


@dataclasses.dataclass(unsafe_hash=True)
class GaussianPolicy:
  """The Gaussian policy: a tanh MLP mean and a state-independent log-std.

  Attributes:
    hidden_sizes: units of each hidden layer.
    init_std: initial standard deviation of every action dimension.
    min_std: floor of the standard deviation, applied when it is read.
    learn_std: whether the standard deviation is learned or stays `init_std`.
    bound_mean: whether the mean is the tanh of the network's output, within the
      bounds of the actions. Beyond them, where actions are clipped, a mean that
      grows changes nothing but the policy's derivatives.
  """

  hidden_sizes: tuple[int, ...] = setting(
    (32, 32), low=1, high=_WIDEST_LAYER, tiny=8
  )
  init_std: float = setting(1.0, above=0, high=1e3)
  min_std: float = setting(1e-6, low=1e-8, high=1e3)
  learn_std: bool = True
  bound_mean: bool = False

  def check(self) -> None:
    """The deviation starts above its floor."""
    if self.init_std < self.min_std:
      raise ConfigError(
        f'policy.init_std={self.init_std}: must be >= {self.min_std},'
        ' policy.min_std'
      )


@dataclasses.dataclass(unsafe_hash=True)
class Ensemble:
  """The ensemble of dynamics models and how it is fitted.

  Attributes:
    num_models: members of the ensemble, K.
    hidden_sizes: units of each hidden layer of a member.
    activation: of these.
    learning_rate: Adam's step size.
    batch_size: transitions per gradient step and member.
    validation_fraction: share of the buffer each member holds out.
    max_epochs: passes over the data after which every member stops.
    max_gradient_steps: gradient steps per fit after which every member stops,
      whatever the buffer holds; `None` is no limit.
    early_stopping: whether a member stops once its validation loss rises above
      its rolling mean; otherwise all run to the limits.
    rolling_persistence: weight of the past in that rolling mean.
    clip_margin: predictions stay within what the buffer has seen, widened by
      this many times its range; `None` leaves only a wide finite bound.
    precision: of the ensemble's matrix products, in fit and imagination.
    bias_max: what every member adds to all of its predictions is drawn in each
      fit between 0 and this, in the units of observations; for studies of bad
      models (`models/biased.py`).
    noise_std: deviation of the noise added to every prediction, in the same
      units.
    predict_reward: whether members predict the reward, too, instead of being
      told the environment's function of observations.
    predict_done: the same of terminations.
  """

  num_models: int = setting(5, low=1, high=10_000)
  hidden_sizes: tuple[int, ...] = setting(
    (512, 512), low=1, high=_WIDEST_LAYER, tiny=16
  )
  activation: str = setting('relu', choices=('relu', 'swish', 'tanh'))
  learning_rate: float = setting(1e-3, above=0, high=1, sweep=True)
  batch_size: int = setting(500, low=1, high=10**6, tiny=32)
  validation_fraction: float = setting(0.2, above=0, below=1)
  max_epochs: int = setting(500, low=1, high=10**6, tiny=2)
  max_gradient_steps: int | None = setting(None, low=1, high=INT32_MAX)
  early_stopping: bool = True
  rolling_persistence: float = setting(0.95, low=0, below=1, sweep=True)
  clip_margin: float | None = setting(None, low=0, high=1e6)
  precision: str = setting(
    'highest', choices=('highest', 'tensorfloat32', 'bfloat16')
  )
  bias_max: float = setting(0.0, low=0, high=1e6)
  noise_std: float = setting(0.0, low=0, high=1e6)
  predict_reward: bool = False
  predict_done: bool = False


@dataclasses.dataclass(unsafe_hash=True)
class Collect:
  """Real data.

  Attributes:
    num_trajectories: trajectories per iteration.
    episode_length: steps per trajectory, a time limit; of evaluations, too.
    buffer_capacity: transitions kept, the newest.
  """

  num_trajectories: int = setting(20, low=1, high=10**6)
  episode_length: int = setting(200, low=1, high=10**6, tiny=5)
  buffer_capacity: int = setting(100_000, low=2, high=10**8, tiny=1_000)

  @property
  def num_envs(self) -> int:
    """Environments that are stepped side by side."""
    return self.num_trajectories

  @property
  def steps(self) -> int:
    """Real transitions per iteration."""
    return self.num_trajectories * self.episode_length

  def check(self, *, validation_fraction: float | None = None) -> None:
    """An iteration fits into the buffer, and a fit can hold some of it out."""
    if self.buffer_capacity < self.steps:
      raise ConfigError(
        f'collect.buffer_capacity={self.buffer_capacity}: must be >='
        f" {self.steps}, one iteration's collect.num_trajectories *"
        ' collect.episode_length'
      )
    if validation_fraction is None:
      return
    if not 0 < int(self.steps * validation_fraction) < self.steps:
      raise ConfigError(
        f'model.validation_fraction={validation_fraction}: must leave at least'
        f' one of {self.steps} transitions on each side of the split'
      )


@dataclasses.dataclass(unsafe_hash=True)
class Steps:
  """Real data from environments that go on from one iteration to the next.

  In place of `Collect`, for methods that need no whole episodes.

  Attributes:
    num_envs: environments stepped side by side.
    steps_per_env: steps of each of them per iteration.
    episode_length: steps after which an episode is cut; of evaluations, too.
  """

  num_envs: int = setting(1, low=1, high=10**6)
  steps_per_env: int = setting(1000, low=1, high=10**6, tiny=10)
  episode_length: int = setting(1000, low=1, high=10**6, tiny=5)

  @property
  def steps(self) -> int:
    """Real transitions per iteration."""
    return self.num_envs * self.steps_per_env


@dataclasses.dataclass(unsafe_hash=True)
class Gae:
  """How an action is judged: generalised advantages.

  Attributes:
    discount: gamma.
    gae_lambda: lambda of generalised advantage estimation.
  """

  discount: float = setting(0.99, low=0, high=1, sweep=True)
  gae_lambda: float = setting(1.0, low=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Advantage(Gae):
  """Generalised advantages over a linear baseline.

  Attributes:
    baseline_ridge: penalty of the linear baseline's least squares.
  """

  baseline_ridge: float = setting(1e-5, above=0, high=1e6, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class TrustRegion:
  """A trust-region step (`optim/trpo.py`).

  Attributes:
    max_kl: trust region delta on the policy's mean KL.
    cg_iterations: conjugate-gradient iterations per step.
    damping: multiple of the identity added to the curvature.
    backtrack_ratio: factor between the step lengths tried.
    max_backtracks: step lengths tried before the step is rejected.
  """

  max_kl: float = setting(0.01, above=0, high=100, sweep=True)
  cg_iterations: int = setting(10, low=1, high=10_000)
  damping: float = setting(1e-5, low=0, high=1e6, sweep=True)
  backtrack_ratio: float = setting(0.8, above=0, below=1)
  max_backtracks: int = setting(15, low=1, high=10_000)


@dataclasses.dataclass(unsafe_hash=True)
class Run:
  """The host's side of a run: how long, how often, what is kept.

  Attributes:
    num_iterations: iterations, each one pass through the algorithm's phases.
    eval_every: iterations between evaluations; the last one always evaluates.
    eval_episodes: episodes per evaluation.
    checkpoint_every: iterations between checkpoints; the last one always saves.
    keep_checkpoints: newest checkpoints kept.
    max_rejected_iterations: consecutive iterations that taught nothing because
      of numbers that are not finite, after which the run stops; 0 is never.
    wandb_project: a Weights & Biases project that gets the metrics too.
    render: whether a finished run leaves a page that plays its best policy, and
      a video where one can be made.
  """

  num_iterations: int = setting(100, low=1, high=INT32_MAX, tiny=2)
  eval_every: int = setting(1, low=1, high=INT32_MAX)
  eval_episodes: int = setting(20, low=1, high=10**6, tiny=2)
  checkpoint_every: int = setting(1, low=1, high=INT32_MAX)
  keep_checkpoints: int = setting(3, low=1, high=INT32_MAX)
  max_rejected_iterations: int = setting(5, low=0, high=INT32_MAX)
  wandb_project: str | None = None
  render: bool = True


class Shares(NamedTuple):
  """How an algorithm's work divides over devices.

  Attributes:
    members: models, each of which has a share of the work; K.
    tasks: shares of a member that other devices may do; P.
    fields: the names of the fields that say so.
  """

  members: int = 1
  tasks: int = 1
  fields: tuple[str, str] = ('', '')


@dataclasses.dataclass(unsafe_hash=True)
class Experiment:
  """What every experiment has; an algorithm's `Config` adds its sections.

  Class attributes:
    algorithm: the name under which `algorithms` knows it.

  Attributes:
    seed: of everything random in the run.
    env: the real world.
    collect: real data; some algorithms have `Steps` here.
    run: iterations, evaluations, checkpoints.
  """

  algorithm: ClassVar[str] = ''

  seed: int = setting(0, low=0, high=INT32_MAX)
  env: Env = dataclasses.field(default_factory=Env)
  collect: Collect = dataclasses.field(default_factory=Collect)
  run: Run = dataclasses.field(default_factory=Run)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Holds fields to their relations; ranges stand at the fields.

    An algorithm's own adds to it, and calls this one first.

    Args:
      env_max_episode_steps: the environment's own step limit, where known.

    Raises:
      ConfigError: one line naming a field, its value and what is allowed.
    """
    self._check_counts()
    self._check_limit(
      env_max_episode_steps,
      'collect.episode_length',
      self.collect.episode_length,
    )

  def shares(self) -> Shares:
    """How the work divides over devices; by default it does not."""
    return Shares()

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits: field, count, of what."""
    return [
      (
        'run.num_iterations',
        self.run.num_iterations * self.collect.steps,
        'transitions are collected in all',
      )
    ]

  def _check_counts(self) -> None:
    for name, size, words in self.sizes():
      if size > INT32_MAX:
        value = operator.attrgetter(name)(self)
        raise ConfigError(
          f'{name}={value!r}: too much, {size} {words}; must be <= {INT32_MAX}'
        )

  def _check_limit(self, limit: int | None, name: str, value: int) -> None:
    """Nothing runs longer than the environment lets an episode last."""
    if limit is not None and value > limit:
      raise ConfigError(
        f'{name}={value}: must be <= {limit}, the step limit of'
        f' env.name={self.env.name!r}'
      )


def widest_product(hidden_sizes: tuple[int, ...]) -> int:
  """The weights between two hidden layers, at most."""
  pairs = itertools.pairwise(hidden_sizes)
  return max((a * b for a, b in pairs), default=0)


def replaced(config: _Config, values: Mapping[str, Any]) -> _Config:
  """A copy with other values in the fields of these dotted names.

  Example:
    >>> small = replaced(
    ...   Experiment(), {'seed': 3, 'collect.episode_length': 50}
    ... )
    >>> small.seed, small.collect.episode_length
    (3, 50)
  """
  config = copy.deepcopy(config)
  for name, value in values.items():
    section, _, field = name.rpartition('.')
    setattr(
      operator.attrgetter(section)(config) if section else config, field, value
    )
  return config


def flatten(config: Experiment) -> dict[str, Any]:
  """Every field's dotted name and value."""
  return {
    name: operator.attrgetter(name)(config)
    for name, _, _ in leaves(type(config))
  }


def sweepable(kind: type[Experiment]) -> tuple[str, ...]:
  """Dotted names of the fields that live in the state (`sweep=True`)."""
  return tuple(name for name, _, known in leaves(kind) if known.get('sweep'))


def leaves(
  section: type, prefix: str = ''
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
  """Dotted name, type and metadata of every field below a section.

  Args:
    section: an experiment's class, or that of one of its sections.
    prefix: of the names.
  """
  hints = typing.get_type_hints(section)
  for field in dataclasses.fields(section):
    hint = hints[field.name]
    if dataclasses.is_dataclass(hint):
      yield from leaves(typing.cast(type, hint), f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, hint, field.metadata
