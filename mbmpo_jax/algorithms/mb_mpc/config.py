"""Every hyperparameter of MB-MPC."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config

# What only the cross-entropy method reads, and a sweep could vary to no effect.
_CEM_NUMBERS = ('init_std', 'min_std', 'smoothing')


@dataclasses.dataclass(unsafe_hash=True)
class Planner:
  """How the next action is searched for; in each world, at each step.

  A plan costs num_candidates * horizon predictions, times num_iterations with
  CEM, times the number of members where all of them score a candidate.

  Attributes:
    kind: `random_shooting`, or `cem`, the cross-entropy method.
    num_candidates: action sequences scored at a time, C.
    horizon: steps of a sequence, H.
    members: `one`, each candidate is imagined by one member, all members get
      as many; or `all`, by each of them.
    disagreement_coef: what the deviation of the members' returns costs, with
      `members='all'`.
    discount: of imagined rewards, per step.
    num_elites: of CEM: the best candidates, to which its distribution is
      fitted.
    num_iterations: of CEM: rounds of candidates.
    init_std: of CEM: deviation of the first candidates about the last plan. In
      a `Discrete` space, the share of their choices that is drawn uniformly,
      at most 1.
    min_std: of CEM: the floor of the deviation, or of that share.
    smoothing: of CEM: weight of the last distribution in the next one.
  """

  kind: str = config.setting(
    'random_shooting', choices=('random_shooting', 'cem')
  )
  num_candidates: int = config.setting(1000, low=1, high=10**6, tiny=60)
  horizon: int = config.setting(10, low=1, high=10**6, tiny=3)
  members: str = config.setting('one', choices=('one', 'all'))
  disagreement_coef: float = config.setting(0.0, low=0, high=1e3, sweep=True)
  discount: float = config.setting(1.0, low=0, high=1, sweep=True)
  num_elites: int = config.setting(50, low=1, high=10**6, tiny=5)
  num_iterations: int = config.setting(5, low=1, high=10_000, tiny=2)
  init_std: float = config.setting(0.5, above=0, high=100, sweep=True)
  min_std: float = config.setting(0.05, low=0, high=1, sweep=True)
  smoothing: float = config.setting(0.1, low=0, below=1, sweep=True)

  def check(self, num_models: int) -> None:
    """Holds the fields to each other and to the number of members."""
    if self.members == 'one':
      if self.num_candidates % num_models:
        raise config.ConfigError(
          f'planner.num_candidates={self.num_candidates}: must be a multiple of'
          f' {num_models}, the model.num_models that share them'
          " (planner.members='one')"
        )
      if self.disagreement_coef:
        raise config.ConfigError(
          f'planner.disagreement_coef={self.disagreement_coef}: must be 0 with'
          " planner.members='one', where no two members imagine the same"
        )
    if self.kind == 'cem':
      if self.num_elites > self.num_candidates:
        raise config.ConfigError(
          f'planner.num_elites={self.num_elites}: must be <='
          f' {self.num_candidates}, planner.num_candidates'
        )
      if self.min_std > self.init_std:
        raise config.ConfigError(
          f'planner.min_std={self.min_std}: must be <= {self.init_std},'
          ' planner.init_std'
        )
      return
    for name in _CEM_NUMBERS:
      value, default = getattr(self, name), getattr(Planner, name)
      if value != default:
        raise config.ConfigError(
          f'planner.{name}={value}: must be {default}, as'
          " planner.kind='random_shooting' has no such number"
        )


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """A whole experiment; the planner's defaults are those of the paper.

  Attributes:
    model: the ensemble and its fit; one member is the paper's case.
    planner: how it acts.
  """

  algorithm: ClassVar[str] = 'mb_mpc'

  model: config.Ensemble = dataclasses.field(default_factory=config.Ensemble)
  planner: Planner = dataclasses.field(default_factory=Planner)

  @property
  def steps_per_plan(self) -> int:
    """Model steps of all candidates for one action in one environment."""
    planner = self.planner
    rounds = planner.num_iterations if planner.kind == 'cem' else 1
    copies = self.model.num_models if planner.members == 'all' else 1
    return rounds * copies * planner.num_candidates * planner.horizon

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Holds fields to their relations; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.collect.check(validation_fraction=self.model.validation_fraction)
    self.planner.check(self.model.num_models)

  def shares(self) -> config.Shares:
    """Members, which are fitted, and the environments that are planned for."""
    return config.Shares(
      self.model.num_models,
      self.collect.num_trajectories,
      ('model.num_models', 'collect.num_trajectories'),
    )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    planner, widest = self.planner, max(self.model.hidden_sizes, default=1)
    copies = self.model.num_models if planner.members == 'all' else 1
    environments = max(self.collect.num_trajectories, self.run.eval_episodes)
    candidates = environments * planner.num_candidates
    return [
      *super().sizes(),
      (
        'planner.horizon',
        candidates * planner.horizon,
        'actions in the planner.num_candidates of all environments',
      ),
      (
        'planner.num_candidates',
        candidates * copies * widest,
        'activations of a layer of the model, for the candidates of all'
        ' environments',
      ),
      (
        'model.hidden_sizes',
        self.model.num_models * config.widest_product(self.model.hidden_sizes),
        f'weights between two layers for {self.model.num_models} models',
      ),
    ]
