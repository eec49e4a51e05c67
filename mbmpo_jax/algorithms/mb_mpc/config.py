"""Every hyperparameter of MB-MPC."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config

# The settings that each kind of search uses, among those that only some use.
_READ = {
  'random_shooting': (),
  'cem': ('init_std', 'min_std', 'smoothing'),
  'mppi': ('init_std', 'temperature'),
}


@dataclasses.dataclass(unsafe_hash=True)
class Planner:
  """The search for the next action, in each environment and at each step.

  A plan costs num_candidates * horizon predictions. This is multiplied by
  num_iterations with CEM and MPPI, and by the number of members if all members
  score every candidate.

  Attributes:
    kind: `random_shooting`; `cem`, the cross-entropy method; or `mppi`, model
      predictive path integral control. In a `Discrete` space they sample
      choices.
    num_candidates: C, action sequences scored per iteration.
    horizon: H, steps of a sequence.
    members: with `one`, each candidate is scored by one member, and all members
      score equally many. With `all`, every member scores every candidate.
    disagreement_coef: weight of the members' standard deviation, which is
      subtracted from a return, with `members='all'`.
    discount: of imagined rewards, per step.
    num_elites: CEM's number of best candidates, to which its distribution is
      fitted.
    num_iterations: iterations of CEM and MPPI.
    init_std: CEM's deviation of the first iteration, around the last plan;
      MPPI's deviation of all iterations. In a `Discrete` space, the probability
      of a uniform choice, at most 1.
    min_std: CEM's floor of the deviation, or of that probability.
    smoothing: CEM's weight of the previous distribution in the next one.
    temperature: MPPI's difference from the best return that gives a weight of
      1/e, in units of returns.
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
    """Raises `ConfigError` for fields that contradict each other."""
    if self.members == 'one':
      if self.num_candidates % num_models:
        raise config.ConfigError(
          f'planner.num_candidates={self.num_candidates}: must be a multiple of'
          f" {num_models}, model.num_models, with planner.members='one'"
        )
      if self.disagreement_coef:
        raise config.ConfigError(
          f'planner.disagreement_coef={self.disagreement_coef}: must be 0 with'
          " planner.members='one', where one member imagines each candidate"
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
          f' planner.kind={self.kind!r} does not use it'
        )

  def steps(self, num_models: int) -> int:
    """Number of model steps for one action in one environment."""
    rounds = 1 if self.kind == 'random_shooting' else self.num_iterations
    copies = num_models if self.members == 'all' else 1
    return rounds * copies * self.num_candidates * self.horizon

  def sizes(
    self, num_models: int, environments: int, widest: int
  ) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits, see `config.Experiment.sizes`.

    Args:
      num_models: number of members.
      environments: greatest number of environments that plan in parallel.
      widest: greatest number of units of a layer of the model.
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
  """The configuration of an experiment; the planner's defaults are the paper's.

  Attributes:
    model: the ensemble and its fit; the paper has one member.
    planner: the search for actions.
  """

  algorithm: ClassVar[str] = 'mb_mpc'

  model: config.Ensemble = dataclasses.field(default_factory=config.Ensemble)
  planner: Planner = dataclasses.field(default_factory=Planner)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.collect.check(validation_fraction=self.model.validation_fraction)
    self.planner.check(self.model.num_models)

  def shares(self) -> config.Shares:
    """Members, for the fit, and environments, for planning."""
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
