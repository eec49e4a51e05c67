"""Every hyperparameter of M3PO, M3PO-h, Full and MBPO."""

import dataclasses
from typing import Any, ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.sac import config as sac
from mbmpo_jax.models import recurrent_config


@dataclasses.dataclass(unsafe_hash=True)
class History:
  """The history of an episode, an input of model, policy and critics.

  Attributes:
    length: number of steps L of (o, a, r). With 0 the networks have no GRU, as
      in MBPO.
    units: size of each GRU's state.
  """

  length: int = config.setting(10, low=0, high=10_000, tiny=3)
  units: int = config.setting(32, low=1, high=2**12, tiny=4)


@dataclasses.dataclass(unsafe_hash=True)
class ModelRollouts:
  """Imagined data: num_rollouts * horizon model steps in every round.

  Attributes:
    kind: `branched` rollouts start at histories that are uniform in the real
      data. `full` rollouts have `collect.episode_length` steps from an
      episode's start; `num_full` of them are imagined at once, at intervals
      that give the same number of model steps per round.
    num_rollouts: M; a multiple of the number of imagining members, which share
      them equally at every step.
    horizon: number of steps k of a branched rollout.
    final_horizon: k at the end, if it changes: linearly, and rounded down,
      between `growth_start` and `growth_end` real steps, as in MBPO; `None` for
      a constant k.
    growth_start: number of real steps at which k begins to change.
    growth_end: number of real steps from which k is `final_horizon`.
    num_full: number of full rollouts at once, a multiple of the number of
      members.
    buffer_capacity: number of newest imagined steps kept, with histories.
  """

  kind: str = config.setting('branched', choices=('branched', 'full'))
  num_rollouts: int = config.setting(400, low=1, high=10**6, tiny=10)
  horizon: int = config.setting(1, low=1, high=10**6, tiny=2)
  final_horizon: int | None = config.setting(None, low=1, high=10**6)
  growth_start: int = config.setting(0, low=0, high=config.INT32_MAX)
  growth_end: int = config.setting(100_000, low=1, high=config.INT32_MAX)
  num_full: int = config.setting(20, low=1, high=10**6, tiny=10)
  buffer_capacity: int = config.setting(100_000, low=1, high=10**8, tiny=200)

  @property
  def steps(self) -> int:
    """Model steps per round, at most."""
    return self.num_rollouts * max(self.horizon, self.final_horizon or 1)


@dataclasses.dataclass(unsafe_hash=True)
class Batches:
  """The data of the policy's updates.

  Attributes:
    kind: `model`, only imagined data, as in algorithm 2, or `mixed` with real
      data, as in M3PO-h and MBPO. The other fields are for `mixed` only.
    model_share: initial share of imagined data in a minibatch.
    final_model_share: share after `decay_steps`; it changes linearly.
    decay_steps: number of real steps.
  """

  kind: str = config.setting('model', choices=('model', 'mixed'))
  model_share: float = config.setting(0.95, low=0, high=1, sweep=True)
  final_model_share: float = config.setting(0.0, low=0, high=1, sweep=True)
  decay_steps: int = config.setting(200_000, low=1, high=config.INT32_MAX)

  def check(self) -> None:
    """Raises `ConfigError` for a share of real data if there are none."""
    if self.kind == 'mixed':
      return
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if field.name != 'kind' and value != field.default:
        raise config.ConfigError(
          f'batches.{field.name}={value}: must be left at {field.default} with'
          " batches.kind='model', which has no real data"
        )


@dataclasses.dataclass(unsafe_hash=True)
class Collect(off_policy_config.Collect):
  """Real data: the ring's capacity and the first uniform actions."""

  normalize_observations: bool = True


@dataclasses.dataclass(unsafe_hash=True)
class Policy(sac.Policy):
  """The squashed Gaussian."""

  activation: str = config.setting('swish', choices=('relu', 'swish', 'tanh'))


@dataclasses.dataclass(unsafe_hash=True)
class Critic(off_policy_config.Critic):
  """The critic networks Q(h, s, a)."""

  activation: str = config.setting('swish', choices=('relu', 'swish', 'tanh'))


@dataclasses.dataclass(unsafe_hash=True)
class Learn(off_policy_config.Learn):
  """Gradient updates: `num_updates` after every `update_every` steps.

  Attributes:
    num_updates: G.
  """

  num_updates: int = config.setting(10, low=1, high=10**6, tiny=2)


# What distinguishes MBPO (Janner et al. 2019) from M3PO. Its authors' sizes are
# in the presets; docs/m3po.md lists what differs.
MBPO: dict[str, Any] = {
  'collect.normalize_observations': False,
  'history.length': 0,
  'model.num_models': 7,
  'model.num_elites': 5,
  'model.patience': 5,
  'model.bootstrap': True,
  'model.reward_weight': None,
  'batches.kind': 'mixed',
  'batches.final_model_share': 0.95,
}


@dataclasses.dataclass(unsafe_hash=True)
class Config(off_policy_config.Config):
  """The configuration of an experiment; docs/m3po.md lists our own defaults.

  Attributes:
    collect: real data.
    history: the history that all networks read.
    model: the ensemble and its fit.
    model_rollouts: imagined data.
    batches: data of the policy's updates.
    policy: the squashed Gaussian.
    critic: the networks Q(h, s, a).
    temperature: of the policy's entropy.
    learn: gradient updates.
  """

  algorithm: ClassVar[str] = 'm3po'

  collect: Collect = dataclasses.field(default_factory=Collect)
  history: History = dataclasses.field(default_factory=History)
  model: recurrent_config.Ensemble = dataclasses.field(
    default_factory=recurrent_config.Ensemble
  )
  model_rollouts: ModelRollouts = dataclasses.field(
    default_factory=ModelRollouts
  )
  batches: Batches = dataclasses.field(default_factory=Batches)
  policy: Policy = dataclasses.field(default_factory=Policy)
  critic: Critic = dataclasses.field(default_factory=Critic)
  temperature: sac.Temperature = dataclasses.field(
    default_factory=sac.Temperature
  )
  learn: Learn = dataclasses.field(default_factory=Learn)

  @property
  def full_period(self) -> int:
    """Number of rounds between full rollouts."""
    rollouts = self.model_rollouts
    return rollouts.num_full * self.collect.episode_length // rollouts.steps

  @property
  def start_rounds(self) -> int:
    """Number of rounds with uniform actions before the first fit."""
    return -(
      -self.collect.start_steps
      // (self.collect.num_envs * self.learn.update_every)
    )

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.policy.check()
    self.model.check()
    self.batches.check()
    length, collect = self.history.length, self.collect
    if length > collect.episode_length:
      raise config.ConfigError(
        f'history.length={length}: must be <= {collect.episode_length},'
        ' collect.episode_length'
      )
    for name, value in (
      ('buffer_capacity', collect.buffer_capacity),
      ('start_steps', collect.start_steps),
    ):
      least = max((length + 1) * collect.num_envs, 2)
      if value < least:
        raise config.ConfigError(
          f'collect.{name}={value}: must be >= {least}, the larger of 2 and'
          ' (history.length + 1) * collect.num_envs'
        )
    self._check_rollouts()

  def _check_rollouts(self) -> None:
    rollouts, members = self.model_rollouts, self.model.num_imagining
    full = rollouts.kind == 'full'
    self._check_growth()
    name = 'num_full' if full else 'num_rollouts'
    count = getattr(rollouts, name)
    if count % members:
      raise config.ConfigError(
        f'model_rollouts.{name}={count}: must be a multiple of {members}, the'
        ' members that imagine, which share the rollouts equally at every step'
      )
    rows = rollouts.steps
    if full:
      rows = count * self.collect.episode_length
    if full and rows % rollouts.steps:
      raise config.ConfigError(
        f'model_rollouts.num_full={count}: model_rollouts.num_full *'
        f' collect.episode_length = {rows} must be a multiple of'
        f' {rollouts.steps}, model_rollouts.num_rollouts *'
        ' model_rollouts.horizon'
      )
    if rollouts.buffer_capacity < max(rows, self.learn.batch_size):
      raise config.ConfigError(
        f'model_rollouts.buffer_capacity={rollouts.buffer_capacity}: must be'
        f' >= {rows}, the steps imagined at once, and >='
        f' {self.learn.batch_size}, learn.batch_size'
      )

  def _check_growth(self) -> None:
    rollouts = self.model_rollouts
    if rollouts.final_horizon is None:
      for name in ('growth_start', 'growth_end'):
        value, default = getattr(rollouts, name), getattr(ModelRollouts, name)
        if value != default:
          raise config.ConfigError(
            f'model_rollouts.{name}={value}: must be left at {default} without'
            ' model_rollouts.final_horizon'
          )
      return
    if rollouts.kind == 'full':
      raise config.ConfigError(
        f'model_rollouts.final_horizon={rollouts.final_horizon}: must be None'
        " with model_rollouts.kind='full', whose rollouts last an episode"
      )
    if rollouts.growth_end <= rollouts.growth_start:
      raise config.ConfigError(
        f'model_rollouts.growth_end={rollouts.growth_end}: must be >'
        f' {rollouts.growth_start}, model_rollouts.growth_start'
      )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    rollouts, members = self.model_rollouts, self.model.num_models
    per_epoch = self.collect.steps_per_env // self.learn.update_every
    return [
      *super().sizes(),
      (
        'model_rollouts.num_rollouts',
        rollouts.steps * per_epoch,
        'steps are imagined per iteration',
      ),
      (
        'model_rollouts.final_horizon',
        abs((rollouts.final_horizon or rollouts.horizon) - rollouts.horizon)
        * (rollouts.growth_end - rollouts.growth_start),
        'in (model_rollouts.final_horizon - model_rollouts.horizon) *'
        ' (model_rollouts.growth_end - model_rollouts.growth_start)',
      ),
      (
        'model_rollouts.num_full',
        rollouts.num_full * self.collect.episode_length,
        'steps of model_rollouts.num_full * collect.episode_length are'
        ' imagined at once',
      ),
      (
        'model_rollouts.buffer_capacity',
        rollouts.buffer_capacity * (self.history.length + 1),
        'steps in the histories of model_rollouts.buffer_capacity rows',
      ),
      (
        'policy.hidden_sizes',
        config.widest_product(self.policy.hidden_sizes),
        'weights between two layers',
      ),
      (
        'model.hidden_sizes',
        members * config.widest_product(self.model.hidden_sizes),
        f'weights between two layers for {members} models',
      ),
    ]
