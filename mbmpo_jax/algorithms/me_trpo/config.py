"""Every hyperparameter of ME-TRPO."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms import stopping_config


@dataclasses.dataclass(unsafe_hash=True)
class ModelRollouts:
  """Imagined data: num_rollouts * horizon steps for each policy step.

  Attributes:
    num_rollouts: rollouts N; a multiple of the number of members, which share
      them equally at every step.
    horizon: steps H of a rollout.
    restart: whether a rollout that ends early continues as a new episode;
      otherwise it stays in its last state up to the horizon.
  """

  num_rollouts: int = config.setting(250, low=1, high=10**6, tiny=10)
  horizon: int = config.setting(200, low=1, high=10**6, tiny=5)
  restart: bool = False


@dataclasses.dataclass(unsafe_hash=True)
class Improve(stopping_config.Stopping):
  """The trust-region steps of the policy in an iteration.

  MB-MPO's authors ran ME-TRPO with `stopping` of `fixed`.

  Attributes:
    num_steps: greatest number of steps per iteration.
    worsened_fraction: a validation fails if the policy is worse than the best
      one in more than this share of the models.
    validation_rollouts: rollouts in each model per validation.
  """

  num_steps: int = config.setting(30, low=1, high=10**6, tiny=2)
  worsened_fraction: float = config.setting(0.3, low=0, high=1, sweep=True)
  validation_rollouts: int = config.setting(50, low=1, high=10**6, tiny=2)


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """The configuration of an experiment; defaults are those of MB-MPO's authors.

  Attributes:
    collect: real data.
    policy: the policy's network.
    model: the ensemble and its fit.
    model_rollouts: imagined data.
    advantage: advantages of imagined actions.
    improve: number of policy steps.
    trust_region: each of these steps.
  """

  algorithm: ClassVar[str] = 'me_trpo'

  collect: model_based_config.Collect = dataclasses.field(
    default_factory=model_based_config.Collect
  )
  policy: config.GaussianPolicy = dataclasses.field(
    default_factory=config.GaussianPolicy
  )
  model: config.Ensemble = dataclasses.field(default_factory=config.Ensemble)
  model_rollouts: ModelRollouts = dataclasses.field(
    default_factory=ModelRollouts
  )
  advantage: config.Advantage = dataclasses.field(
    default_factory=config.Advantage
  )
  improve: Improve = dataclasses.field(default_factory=Improve)
  trust_region: config.TrustRegion = dataclasses.field(
    default_factory=config.TrustRegion
  )

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.collect.check(validation_fraction=self.model.validation_fraction)
    self.policy.check()
    self.improve.check_rounds('improve', 'num_steps')
    rollouts = self.model_rollouts
    if rollouts.num_rollouts % self.model.num_models:
      raise config.ConfigError(
        f'model_rollouts.num_rollouts={rollouts.num_rollouts}: must be a'
        f' multiple of {self.model.num_models}, model.num_models, which share'
        ' the rollouts equally at every step'
      )
    self._check_limit(
      env_max_episode_steps, 'model_rollouts.horizon', rollouts.horizon
    )

  def shares(self) -> config.Shares:
    """Members, for the fit, and environments, for collection."""
    return config.Shares(
      self.model.num_models,
      self.collect.num_trajectories,
      ('model.num_models', 'collect.num_trajectories'),
    )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    rollouts, improve = self.model_rollouts, self.improve
    members = self.model.num_models
    sizes = [
      *super().sizes(),
      (
        'model_rollouts.num_rollouts',
        rollouts.num_rollouts * rollouts.horizon,
        'steps of model_rollouts.num_rollouts * model_rollouts.horizon are'
        ' imagined at once',
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
    if improve.stopping == 'validation':
      sizes.append(
        (
          'improve.validation_rollouts',
          members * improve.validation_rollouts * rollouts.horizon,
          'steps of model.num_models * improve.validation_rollouts *'
          ' model_rollouts.horizon are imagined at once',
        )
      )
    return sizes
