"""Every hyperparameter of MB-MPC."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config

# Those of its numbers that a kind of search reads; a sweep could vary the
# others to no effect.
_READ = {
  'random_shooting': (),
  'cem': ('init_std', 'min_std', 'smoothing'),
  'mppi': ('init_std', 'temperature'),
}


@dataclasses.dataclass(unsafe_hash=True)
class Planner:
  """How the next action is searched for; in each world, at each step.

  A plan costs num_candidates * horizon predictions, times num_iterations with
  CEM and MPPI, times the number of members where all of them score a candidate.

  Attributes:
    kind: `random_shooting`; `cem`, the cross-entropy method; or `mppi`, model
      predictive path integral control. In a `Discrete` space all of them draw
      choices.
    num_candidates: action sequences scored at a time, C.
    horizon: steps of a sequence, H.
    members: `one`, each candidate is imagined by one member, all members get
      as many; or `all`, by each of them.
    disagreement_coef: what the deviation of the members' returns costs, with
      `members='all'`.
    discount: of imagined rewards, per step.
    num_elites: of CEM: the best candidates, to which its distribution is
      fitted.
    num_iterations: of CEM and MPPI: rounds of candidates.
    init_std: of CEM: deviation of the first candidates about the last plan; of
      MPPI: that of all candidates. In a `Discrete` space, the share of their
      choices that is drawn uniformly, at most 1.
    min_std: of CEM: the floor of the deviation, or of that share.
    smoothing: of CEM: weight of the last distribution in the next one.
    temperature: of MPPI: by how much a return must be less than the best for a
      weight of 1/e, in units of returns.
  """

  kind: str = config.setting('random_shooting', choices=tuple(_READ))
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
  temperature: float = config.setting(1.0, above=0, high=1e6, sweep=True)

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
    for name in sorted(set().union(*_READ.values()) - set(_READ[self.kind])):
      value, default = getattr(self, name), getattr(type(self), name)
      if value != default:
        raise config.ConfigError(
          f'planner.{name}={value}: must be {default}, as'
          f' planner.kind={self.kind!r} has no such number'
        )

  def steps(self, num_models: int) -> int:
    """Model steps of all candidates for one action in one environment."""
    rounds = 1 if self.kind == 'random_shooting' else self.num_iterations
    copies = num_models if self.members == 'all' else 1
    return rounds * copies * self.num_candidates * self.horizon

  def sizes(
    self, num_models: int, environments: int, widest: int
  ) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits, see `config.Experiment.sizes`.

    Args:
      num_models: members.
      environments: planned for side by side, at most.
      widest: units of a layer of the model, at most.
    """
    copies = num_models if self.members == 'all' else 1
    candidates = environments * self.num_candidates
    return [
      (
        'planner.horizon',
        candidates * self.horizon,
        'actions in the planner.num_candidates of all environments',
      ),
      (
        'planner.num_candidates',
        candidates * copies * widest,
        'activations of a layer of the model, for the candidates of all'
        ' environments',
      ),
    ]


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
    return self.planner.steps(self.model.num_models)

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
    members, sizes = self.model.num_models, self.model.hidden_sizes
    environments = max(self.collect.num_trajectories, self.run.eval_episodes)
    return [
      *super().sizes(),
      *self.planner.sizes(members, environments, max(sizes, default=1)),
      (
        'model.hidden_sizes',
        members * config.widest_product(sizes),
        f'weights between two layers for {members} models',
      ),
    ]
