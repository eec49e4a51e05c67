"""Every hyperparameter, documented, typed and checked.

The defaults are the values of the paper (Clavera et al. 2018, appendix A.3).
Presets per environment live in `experiments/configs/`. The dataclasses are
mutable, because command-line overrides assign to them; `make` copies the one
it is given. Ranges stand beside the fields they bound; `validation.validate`
holds a configuration to them and to the relations between fields.
"""

import copy
import dataclasses
import operator
import typing
from collections.abc import Iterator, Mapping
from typing import Any

from mbmpo_jax import errors

# What counters on the device can hold, and where arrays can be indexed to.
INT32_MAX = 2**31 - 1
_WIDEST_LAYER = 2**16


class ConfigError(errors.UserError, ValueError):
  """A field's value is not allowed; the message names field, value, range."""


def _setting(
  default: Any,
  *,
  low: float | None = None,
  high: float | None = None,
  above: float | None = None,
  below: float | None = None,
  choices: tuple[str, ...] | None = None,
) -> Any:
  """A dataclass field with the closed and open bounds of its values."""
  bounds = dict(low=low, high=high, above=above, below=below, choices=choices)
  given = {name: bound for name, bound in bounds.items() if bound is not None}
  return dataclasses.field(default=default, metadata=given)


@dataclasses.dataclass(unsafe_hash=True)
class EnvConfig:
  """The real world.

  Attributes:
    name: a name registered with `mbmpo_jax.envs`.
    variant: one of its variants; `None` is the first, see
      `docs/environments.md`.
    physics: `mjx`, or `warp` for MuJoCo Warp, meant for a GPU: what simulates
      an environment from an MJCF file.
  """

  name: str = 'half_cheetah'
  variant: str | None = None
  physics: str = _setting('mjx', choices=('mjx', 'warp'))


@dataclasses.dataclass(unsafe_hash=True)
class PolicyConfig:
  """The Gaussian policy: a tanh MLP mean and a state-independent log-std.

  Attributes:
    hidden_sizes: units of each hidden layer.
    init_std: initial standard deviation of every action dimension.
    min_std: floor of the standard deviation, applied when it is read.
    learn_std: whether the standard deviation is learned or stays `init_std`.
  """

  hidden_sizes: tuple[int, ...] = _setting((32, 32), low=1, high=_WIDEST_LAYER)
  init_std: float = _setting(1.0, above=0, high=1e3)
  min_std: float = _setting(1e-6, low=1e-8, high=1e3)
  learn_std: bool = True


@dataclasses.dataclass(unsafe_hash=True)
class ModelConfig:
  """The ensemble of dynamics models and how it is fitted.

  Attributes:
    num_models: members of the ensemble, K.
    hidden_sizes: units of each hidden layer of a member.
    learning_rate: Adam's step size.
    batch_size: transitions per gradient step and member.
    validation_fraction: share of the buffer each member holds out.
    max_epochs: passes over the data after which every member stops.
    early_stopping: whether a member stops once its validation loss rises above
      its rolling mean; otherwise all run `max_epochs`.
    rolling_persistence: weight of the past in that rolling mean.
    clip_margin: predictions stay within what the buffer has seen, widened by
      this many times its range; `None` leaves only a wide finite bound.
    precision: of the ensemble's matrix products, in fit and imagination.
  """

  num_models: int = _setting(5, low=1, high=10_000)
  hidden_sizes: tuple[int, ...] = _setting(
    (512, 512), low=1, high=_WIDEST_LAYER
  )
  learning_rate: float = _setting(1e-3, above=0, high=1)
  batch_size: int = _setting(500, low=1, high=10**6)
  validation_fraction: float = _setting(0.2, above=0, below=1)
  max_epochs: int = _setting(500, low=1, high=10**6)
  early_stopping: bool = True
  rolling_persistence: float = _setting(0.95, low=0, below=1)
  clip_margin: float | None = _setting(None, low=0, high=1e6)
  precision: str = _setting(
    'highest', choices=('highest', 'tensorfloat32', 'bfloat16')
  )


@dataclasses.dataclass(unsafe_hash=True)
class CollectConfig:
  """Real data.

  Attributes:
    num_trajectories: trajectories per iteration, shared out equally among the
      adapted policies.
    episode_length: steps per trajectory, a time limit.
    collect_with: `adapted`, one adapted policy per task, or `meta`, the
      unadapted one (the ablation of figure 6).
    buffer_capacity: transitions kept, the newest.
  """

  num_trajectories: int = _setting(20, low=1, high=10**6)
  episode_length: int = _setting(200, low=1, high=10**6)
  collect_with: str = _setting('adapted', choices=('adapted', 'meta'))
  buffer_capacity: int = _setting(100_000, low=2, high=10**8)


@dataclasses.dataclass(unsafe_hash=True)
class ImagineConfig:
  """Imagined data: K * tasks_per_model * rollouts_per_task * horizon steps.

  Attributes:
    tasks_per_model: tasks P that share a member, each with its own rollouts.
    rollouts_per_task: rollouts N of a task, before and after adaptation.
    horizon: steps H of a rollout.
    restart: whether a rollout that ends early goes on as a new episode;
      otherwise it stands still to the horizon.
  """

  tasks_per_model: int = _setting(4, low=1, high=10_000)
  rollouts_per_task: int = _setting(25, low=1, high=10**6)
  horizon: int = _setting(200, low=1, high=10**6)
  restart: bool = False


@dataclasses.dataclass(unsafe_hash=True)
class MetaConfig:
  """The meta-policy's optimisation.

  Attributes:
    num_meta_steps: trust-region steps per iteration.
    inner_lr: step size alpha of the adaptation; 0 is the non-adaptive case.
    inner_objective: `log_likelihood`, mean of log pi * A as in the paper, or
      `likelihood_ratio`, the same gradient at theta but other curvature.
    discount: gamma.
    gae_lambda: lambda of generalised advantage estimation.
    baseline_ridge: penalty of the linear baseline's least squares.
    max_kl: trust region delta on the mean KL of the adapted policies.
    cg_iterations: conjugate-gradient iterations per step.
    damping: multiple of the identity added to the curvature.
    backtrack_ratio: factor between the step lengths tried.
    max_backtracks: step lengths tried before the step is rejected.
    entropy_coef: weight of the adapted policies' entropy in the objective.
  """

  num_meta_steps: int = _setting(30, low=1, high=10**6)
  inner_lr: float = _setting(1e-3, low=0, high=100)
  inner_objective: str = _setting(
    'log_likelihood', choices=('log_likelihood', 'likelihood_ratio')
  )
  discount: float = _setting(0.99, low=0, high=1)
  gae_lambda: float = _setting(1.0, low=0, high=1)
  baseline_ridge: float = _setting(1e-5, above=0, high=1e6)
  max_kl: float = _setting(0.01, above=0, high=100)
  cg_iterations: int = _setting(10, low=1, high=10_000)
  damping: float = _setting(1e-5, low=0, high=1e6)
  backtrack_ratio: float = _setting(0.8, above=0, below=1)
  max_backtracks: int = _setting(15, low=1, high=10_000)
  entropy_coef: float = _setting(0.0, low=0, high=1e3)


@dataclasses.dataclass(unsafe_hash=True)
class RunConfig:
  """The host's side of a run: how long, how often, what is kept.

  Attributes:
    num_iterations: iterations of collect, fit, improve.
    eval_every: iterations between evaluations; the last one always evaluates.
    eval_episodes: episodes per evaluation of the unadapted meta-policy.
    checkpoint_every: iterations between checkpoints; the last one always saves.
    keep_checkpoints: newest checkpoints kept.
    max_rejected_iterations: iterations on end, all of whose meta-steps were
      rejected and some for numbers that are not finite, after which the run
      stops; 0 is never.
    wandb_project: a Weights & Biases project that gets the metrics too.
    render: whether a finished run leaves a page that plays its best policy, and
      a video where one can be made.
  """

  num_iterations: int = _setting(100, low=1, high=INT32_MAX)
  eval_every: int = _setting(1, low=1, high=INT32_MAX)
  eval_episodes: int = _setting(20, low=1, high=10**6)
  checkpoint_every: int = _setting(1, low=1, high=INT32_MAX)
  keep_checkpoints: int = _setting(3, low=1, high=INT32_MAX)
  max_rejected_iterations: int = _setting(5, low=0, high=INT32_MAX)
  wandb_project: str | None = None
  render: bool = True


@dataclasses.dataclass(unsafe_hash=True)
class Config:
  """A whole experiment.

  Attributes:
    seed: of everything random in the run.
    env: the real world.
    policy: the meta-policy.
    model: the ensemble and its fit.
    collect: real data.
    imagine: imagined data.
    meta: inner and outer update.
    run: iterations, evaluations, checkpoints.
  """

  seed: int = _setting(0, low=0, high=INT32_MAX)
  env: EnvConfig = dataclasses.field(default_factory=EnvConfig)
  policy: PolicyConfig = dataclasses.field(default_factory=PolicyConfig)
  model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
  collect: CollectConfig = dataclasses.field(default_factory=CollectConfig)
  imagine: ImagineConfig = dataclasses.field(default_factory=ImagineConfig)
  meta: MetaConfig = dataclasses.field(default_factory=MetaConfig)
  run: RunConfig = dataclasses.field(default_factory=RunConfig)


# The fields that are numbers to a compiled program, by their names in
# `state.Hyper`. All others shape the program.
HYPER_FIELDS = {
  'inner_lr': 'meta.inner_lr',
  'max_kl': 'meta.max_kl',
  'discount': 'meta.discount',
  'gae_lambda': 'meta.gae_lambda',
  'baseline_ridge': 'meta.baseline_ridge',
  'damping': 'meta.damping',
  'entropy_coef': 'meta.entropy_coef',
  'model_learning_rate': 'model.learning_rate',
  'rolling_persistence': 'model.rolling_persistence',
}


def replaced(config: Config, values: Mapping[str, Any]) -> Config:
  """A copy with other values in the fields of these dotted names.

  Example:
    >>> small = replaced(Config(), {'seed': 3, 'imagine.horizon': 50})
    >>> small.seed, small.imagine.horizon, Config().imagine.horizon
    (3, 50, 200)
  """
  config = copy.deepcopy(config)
  for name, value in values.items():
    section, _, field = name.rpartition('.')
    setattr(
      operator.attrgetter(section)(config) if section else config, field, value
    )
  return config


def flatten(config: Config) -> dict[str, Any]:
  """Every field's dotted name and value."""
  return {
    name: operator.attrgetter(name)(config) for name, _, _ in leaves(Config)
  }


def leaves(
  section: type, prefix: str = ''
) -> Iterator[tuple[str, Any, Mapping[str, Any]]]:
  """Dotted name, type and bounds of every field below a section.

  Args:
    section: `Config`, or the class of one of its sections.
    prefix: of the names.
  """
  hints = typing.get_type_hints(section)
  for field in dataclasses.fields(section):
    hint = hints[field.name]
    if dataclasses.is_dataclass(hint):
      yield from leaves(typing.cast(type, hint), f'{prefix}{field.name}.')
    else:
      yield prefix + field.name, hint, field.metadata
