"""Configuration sections that the algorithms share.

Each algorithm defines its `Config` in `algorithms/<name>/config.py`, beside its
`make`. A `Config` is a dataclass: an `Experiment` plus the sections that the
algorithm needs. The defaults are the values of the MB-MPO paper (Clavera et al.
2018, appendix A.3). Presets are in `experiments/configs/<algorithm>/<env>.py`.

A field declares its default, its allowed range, and whether a sweep may vary it
within one compiled program:

  max_kl: float = setting(0.01, above=0, high=100, sweep=True)

The dataclasses are mutable, because command-line overrides assign to them;
`make` copies the configuration that it is given. `validation.validate` checks a
configuration against the ranges and calls its `check`.
"""

import copy
import dataclasses
import itertools
import operator
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, TypeVar

from mbmpo_jax import errors

# The largest value of int32 counters and array indices on the device.
INT32_MAX = 2**31 - 1
_WIDEST_LAYER = 2**16

_Config = TypeVar('_Config', bound='Experiment')


class ConfigError(errors.UserError, ValueError):
  """A field has a value that is not allowed.

  The message names the field, its value and the allowed range.
  """


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
  """Defines a dataclass field with its default, its range and other metadata.

  Args:
    default: the default value.
    low: the smallest allowed value (inclusive).
    high: the largest allowed value (inclusive).
    above: an exclusive lower bound.
    below: an exclusive upper bound.
    choices: all allowed values.
    sweep: whether the value is a number in the algorithm's state
      (`state.hyper`), so that the runs of a sweep may differ in it. The values
      of all other fields are fixed when the program is compiled.
    tiny: the largest value that a smoke test uses (`training/launch/tiny.py`).
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
  """The real environment.

  Attributes:
    name: a name registered with `mbmpo_jax.envs`.
    variant: a variant of the environment; `None` is its first, see
      `docs/environments.md`.
    physics: the engine that simulates an environment from an MJCF file: `mjx`,
      or `warp` for MuJoCo Warp, meant for a GPU.
    tasks: when a task family draws a new task: `episode` draws one per episode,
      `switch` also changes it within an episode. `None` is the family's
      default.
    switch_period: steps between task changes within an episode; 0 is the
      family's default, mostly 300.
    tell_task: whether the task's numbers are appended to the observation;
      otherwise the task is hidden.
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
    min_std: lower bound of the standard deviation, applied whenever the policy
      computes it.
    learn_std: whether the standard deviation is learned; otherwise it stays at
      `init_std`.
    bound_mean: whether the mean is the tanh of the network's output, which
      keeps it within the action bounds. Without it, a mean beyond the bounds
      can grow although the clipped action no longer changes; only the policy's
      derivatives do.
  """

  hidden_sizes: tuple[int, ...] = setting(
    (32, 32), low=1, high=_WIDEST_LAYER, tiny=8
  )
  init_std: float = setting(1.0, above=0, high=1e3)
  min_std: float = setting(1e-6, low=1e-8, high=1e3)
  learn_std: bool = True
  bound_mean: bool = False

  def check(self) -> None:
    """Checks that the initial deviation is not below its lower bound."""
    if self.init_std < self.min_std:
      raise ConfigError(
        f'policy.init_std={self.init_std}: must be >= {self.min_std},'
        ' policy.min_std'
      )


@dataclasses.dataclass(unsafe_hash=True)
class Ensemble:
  """The ensemble of dynamics models and its fit to the real data.

  Attributes:
    num_models: number of ensemble members, K.
    hidden_sizes: units of each hidden layer of a member.
    activation: activation function of the hidden layers.
    learning_rate: Adam's step size.
    weight_decay: of AdamW; each gradient step also reduces all parameters of a
      member by this share of themselves, times `learning_rate`.
    batch_size: transitions per gradient step and member.
    validation_fraction: fraction of the buffer that each member holds out for
      validation.
    max_epochs: passes over the data after which every member stops.
    max_gradient_steps: gradient steps per fit after which every member stops,
      whatever the size of the buffer; `None` is no limit.
    early_stopping: whether a member stops once its validation loss rises above
      the rolling mean of that loss, or by `patience`; otherwise all members run
      until a limit.
    rolling_persistence: weight of the old value in each update of that rolling
      mean.
    patience: number of epochs in a row without a validation loss that is 1%
      below the lowest so far, after which a member stops, in place of the rule
      with the rolling mean, which then has no effect. The parameters of the
      lowest loss are kept, also without `early_stopping`. With `None` the last
      ones are kept, and the rolling mean decides.
    bootstrap: whether every member draws its training data with replacement.
    clip_margin: predictions are clipped to the range of the data in the buffer,
      widened by this multiple of the range; `None` clips to a wide finite bound
      only.
    precision: precision of the ensemble's matrix products, in the fit and in
      imagined rollouts.
    bias_max: for studies of bad models (`models/biased.py`): each fit draws for
      every member one number between 0 and this value, in the units of
      observations, which is added to all dimensions of the member's
      predictions.
    noise_std: standard deviation of the noise added to every prediction, in the
      units of observations.
    predict_reward: whether the members predict the reward; otherwise imagined
      rollouts use the environment's reward function of observations.
    predict_done: whether the members predict terminations; otherwise imagined
      rollouts use the environment's termination function.
  """

  num_models: int = setting(5, low=1, high=10_000)
  hidden_sizes: tuple[int, ...] = setting(
    (512, 512), low=1, high=_WIDEST_LAYER, tiny=16
  )
  activation: str = setting('relu', choices=('relu', 'swish', 'tanh'))
  learning_rate: float = setting(1e-3, above=0, high=1, sweep=True)
  weight_decay: float = setting(0.0, low=0, high=1e3, sweep=True)
  batch_size: int = setting(500, low=1, high=10**6, tiny=32)
  validation_fraction: float = setting(0.2, above=0, below=1)
  max_epochs: int = setting(500, low=1, high=10**6, tiny=2)
  max_gradient_steps: int | None = setting(None, low=1, high=INT32_MAX)
  early_stopping: bool = True
  rolling_persistence: float = setting(0.95, low=0, below=1, sweep=True)
  patience: int | None = setting(None, low=1, high=10**6)
  bootstrap: bool = False
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
  """Collection of real data in whole trajectories.

  Attributes:
    num_trajectories: trajectories per iteration.
    episode_length: time limit of a trajectory in steps; evaluations use the
      same limit.
    buffer_capacity: transitions that the buffer keeps; the oldest are dropped.
  """

  num_trajectories: int = setting(20, low=1, high=10**6)
  episode_length: int = setting(200, low=1, high=10**6, tiny=5)
  buffer_capacity: int = setting(100_000, low=2, high=10**8, tiny=1_000)

  @property
  def num_envs(self) -> int:
    """Environments that are stepped in parallel."""
    return self.num_trajectories

  @property
  def steps(self) -> int:
    """Real transitions per iteration."""
    return self.num_trajectories * self.episode_length

  def check(self, *, validation_fraction: float | None = None) -> None:
    """Checks that an iteration fits into the buffer and a fit can split it."""
    if self.buffer_capacity < self.steps:
      raise ConfigError(
        f'collect.buffer_capacity={self.buffer_capacity}: must be >='
        f' {self.steps}, the steps of all trajectories of an iteration'
      )
    if validation_fraction is None:
      return
    if not 0 < int(self.steps * validation_fraction) < self.steps:
      raise ConfigError(
        f'model.validation_fraction={validation_fraction}: must leave at least'
        f' one of {self.steps} transitions for training and one for validation'
      )


@dataclasses.dataclass(unsafe_hash=True)
class Steps:
  """Collection of real data from environments that continue across iterations.

  Replaces `Collect` in algorithms that do not need whole episodes.

  Attributes:
    num_envs: environments stepped in parallel.
    steps_per_env: steps of each environment per iteration.
    episode_length: steps after which an episode is truncated; evaluations use
      the same limit.
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
  """Generalised advantage estimation (GAE).

  Attributes:
    discount: the discount gamma.
    gae_lambda: lambda of GAE.
  """

  discount: float = setting(0.99, low=0, high=1, sweep=True)
  gae_lambda: float = setting(1.0, low=0, high=1, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class Advantage(Gae):
  """Generalised advantages over a linear baseline.

  Attributes:
    baseline_ridge: ridge penalty of the least-squares fit of the baseline.
  """

  baseline_ridge: float = setting(1e-5, above=0, high=1e6, sweep=True)


@dataclasses.dataclass(unsafe_hash=True)
class TrustRegion:
  """A trust-region step (`optim/trpo.py`).

  Attributes:
    max_kl: bound delta of the trust region on the policy's mean KL divergence.
    cg_iterations: conjugate-gradient iterations per step.
    damping: multiple of the identity that is added to the curvature matrix.
    backtrack_ratio: factor between successive step lengths of the line search.
    max_backtracks: step lengths that are tried before the step is rejected.
  """

  max_kl: float = setting(0.01, above=0, high=100, sweep=True)
  cg_iterations: int = setting(10, low=1, high=10_000)
  damping: float = setting(1e-5, low=0, high=1e6, sweep=True)
  backtrack_ratio: float = setting(0.8, above=0, below=1)
  max_backtracks: int = setting(15, low=1, high=10_000)


@dataclasses.dataclass(unsafe_hash=True)
class Run:
  """Settings of the training loop: iterations, evaluations, checkpoints, logs.

  Attributes:
    num_iterations: iterations of the run; each runs all phases of the algorithm
      once.
    eval_every: iterations between evaluations; the last iteration is always
      evaluated.
    eval_episodes: episodes per evaluation.
    checkpoint_every: iterations between checkpoints; the last iteration is
      always saved.
    keep_checkpoints: number of checkpoints kept, the newest ones.
    max_rejected_iterations: the run stops after this many consecutive
      iterations in which every update was rejected because of non-finite
      numbers; 0 never stops it.
    solved_at: a return; the run ends early when three evaluations in a row have
      at least this mean return. In a sweep, all runs must have reached it.
      Evaluations of runs that learn from logs are imagined.
    wandb_project: a Weights & Biases project that also receives the metrics.
    render: whether a finished run writes a page that plays its best policy, and
      a video if one can be made.
  """

  num_iterations: int = setting(100, low=1, high=INT32_MAX, tiny=2)
  eval_every: int = setting(1, low=1, high=INT32_MAX)
  eval_episodes: int = setting(20, low=1, high=10**6, tiny=2)
  checkpoint_every: int = setting(1, low=1, high=INT32_MAX)
  keep_checkpoints: int = setting(3, low=1, high=INT32_MAX)
  max_rejected_iterations: int = setting(5, low=0, high=INT32_MAX)
  solved_at: float | None = setting(None, low=-1e12, high=1e12)
  wandb_project: str | None = None
  render: bool = True


class Shares(NamedTuple):
  """How an algorithm's work is divided over devices.

  Attributes:
    members: ensemble members that can be placed on different devices, K.
    tasks: tasks of each member that can be placed on different devices, P.
    fields: the names of the configuration fields that set `members` and
      `tasks`.
  """

  members: int = 1
  tasks: int = 1
  fields: tuple[str, str] = ('', '')


@dataclasses.dataclass(unsafe_hash=True)
class Experiment:
  """The fields of every experiment; an algorithm's `Config` adds its sections.

  Class attributes:
    algorithm: the name under which the algorithm is registered in `algorithms`.

  Attributes:
    seed: seed of all random numbers in the run.
    env: the real environment.
    collect: collection of real data; some algorithms use `Steps` here.
    run: iterations, evaluations, checkpoints.
  """

  algorithm: ClassVar[str] = ''

  seed: int = setting(0, low=0, high=INT32_MAX)
  env: Env = dataclasses.field(default_factory=Env)
  collect: Collect = dataclasses.field(default_factory=Collect)
  run: Run = dataclasses.field(default_factory=Run)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks the relations between fields; each field's range is checked apart.

    An algorithm's `Config` extends this method and calls it first.

    Args:
      env_max_episode_steps: the environment's time limit in steps, if known.

    Raises:
      ConfigError: one line that names a field, its value and what is allowed.
    """
    self._check_counts()
    self._check_limit(
      env_max_episode_steps,
      'collect.episode_length',
      self.collect.episode_length,
    )

  def shares(self) -> Shares:
    """Returns how the work divides over devices; by default it does not."""
    return Shares()

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must fit into 32 bits: (field, count, what it counts)."""
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
          f'{name}={value!r}: too large: {size} {words}: must be <= {INT32_MAX}'
        )

  def _check_limit(self, limit: int | None, name: str, value: int) -> None:
    """Checks that `value` steps do not exceed the environment's time limit."""
    if limit is not None and value > limit:
      raise ConfigError(
        f'{name}={value}: must be <= {limit}, the step limit of'
        f' env.name={self.env.name!r}'
      )


def widest_product(hidden_sizes: tuple[int, ...]) -> int:
  """Returns the largest number of weights between two hidden layers."""
  pairs = itertools.pairwise(hidden_sizes)
  return max((a * b for a, b in pairs), default=0)


def replaced(config: _Config, values: Mapping[str, Any]) -> _Config:
  """Returns a copy of `config` with new values in fields given by dotted name.

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
  """Returns a dict from every field's dotted name to its value."""
  return {
    name: operator.attrgetter(name)(config)
    for name, _, _ in leaves(type(config))
  }


def sweepable(kind: type[Experiment]) -> tuple[str, ...]:
  """Returns the dotted names of fields that are in the state (`sweep=True`)."""
  return tuple(name for name, _, known in leaves(kind) if known.get('sweep'))


def leaves(
  section: type, prefix: str = ''
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
  """Yields dotted name, type and metadata of every field in a section.

  Args:
    section: the class of an experiment or of one of its sections.
    prefix: a prefix of the dotted names.
  """
  hints = typing.get_type_hints(section)
  for field in dataclasses.fields(section):
    hint = hints[field.name]
    if dataclasses.is_dataclass(hint):
      yield from leaves(typing.cast(type, hint), f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, hint, field.metadata
