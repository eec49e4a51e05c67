"""Every hyperparameter of L2A."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc
from mbmpo_jax.models import grbal_config


@dataclasses.dataclass(unsafe_hash=True)
class Planner(mb_mpc.Planner):
  """The search for the next action, with the authors' defaults.

  Attributes:
    num_candidates: C, action sequences scored per search iteration.
  """

  num_candidates: int = config.setting(500, low=1, high=10**6, tiny=60)


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """The configuration of an experiment; docs/l2a.md lists our own defaults.

  Attributes:
    model: the network and its fit.
    adaptation: of the model to the last steps of an episode.
    planner: the search for actions.
  """

  algorithm: ClassVar[str] = 'l2a'

  model: grbal_config.Ensemble = dataclasses.field(
    default_factory=grbal_config.Ensemble
  )
  adaptation: grbal_config.Adaptation = dataclasses.field(
    default_factory=grbal_config.Adaptation
  )
  planner: Planner = dataclasses.field(default_factory=Planner)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.collect.check(validation_fraction=self.model.validation_fraction)
    self.model.check()
    self.adaptation.check(self.collect.episode_length)
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
    copies = max(environments, self.model.batch_size)
    return [
      *super().sizes(),
      *self.planner.sizes(members, environments, max(sizes, default=1)),
      (
        'model.hidden_sizes',
        members * copies * config.widest_product(sizes),
        f'weights between two layers for {members} models, adapted for each'
        ' environment, or for each of model.batch_size segments',
      ),
      (
        'model.batch_size',
        self.model.batch_size
        * sum(self.adaptation.segment)
        * max(sizes, default=1),
        'activations of a layer of the model, for the segments of a batch',
      ),
      (
        'adaptation.adapt_steps',
        self.collect.buffer_capacity * sum(self.adaptation.segment),
        'steps in the segments of collect.buffer_capacity transitions',
      ),
    ]
