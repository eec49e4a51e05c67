"""Every hyperparameter of MB-MPO."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms import stopping_config


@dataclasses.dataclass(unsafe_hash=True)
class Collect(model_based_config.Collect):
  """Real data.

  Attributes:
    policy: the policies that collect data. With `adapted` there is one adapted
      policy per task, and they share the trajectories equally. `meta` is the
      meta-policy without adaptation (the ablation of figure 6).
  """

  policy: str = config.setting('adapted', choices=('adapted', 'meta'))


@dataclasses.dataclass(unsafe_hash=True)
class ModelRollouts:
  """Imagined data: K * tasks_per_model * rollouts_per_task * horizon steps.

  Attributes:
    tasks_per_model: number of tasks P that share a member, each with its own
      rollouts.
    rollouts_per_task: rollouts N of a task, before and after adaptation.
    horizon: steps H of a rollout.
    restart: whether a rollout that ends early continues as a new episode;
      otherwise it stays in its last state up to the horizon.
    buffer_starts: share of the rollouts that start at states of the buffer,
      from any time of a real episode, including failed ones. The others start
      like episodes of the environment. While the buffer is empty, `improve` is
      refused outside of `jit`; inside, all rollouts start like episodes.
    newest_starts: number of newest transitions from which these states are
      taken.
  """

  tasks_per_model: int = config.setting(4, low=1, high=10_000)
  rollouts_per_task: int = config.setting(25, low=1, high=10**6, tiny=10)
  horizon: int = config.setting(200, low=1, high=10**6, tiny=5)
  restart: bool = False
  buffer_starts: float = config.setting(0.0, low=0, high=1)
  newest_starts: int = config.setting(20_000, low=1, high=config.INT32_MAX)

  @property
  def num_seen(self) -> int:
    """Number of rollouts of a task that start at states of the buffer."""
    return round(self.buffer_starts * self.rollouts_per_task)


@dataclasses.dataclass(unsafe_hash=True)
class Meta(stopping_config.Stopping):
  """The meta-policy's optimisation.

  With `stopping` of `validation`, the returns in the models are those of the
  policies adapted in each of them. They are compared on random numbers that no
  meta-step sees.

  Attributes:
    num_meta_steps: greatest number of trust-region steps per iteration.
    inner_lr: step size alpha of the adaptation; 0 for no adaptation.
    inner_objective: `log_likelihood`, mean of log pi * A as in the paper, or
      `likelihood_ratio`, with the same gradient at theta but other curvature.
    entropy_coef: weight of the adapted policies' entropy in the objective.
    max_inner_kl: greatest KL, in nats and to second order, by which adaptation
      may move the policy. A longer inner step is shortened to this KL. `None`
      is no limit, as in the paper.
    patience: see `Stopping`; by default the first validation that fails
      ends the iteration.
    worsened_fraction: a validation fails if the adapted policies are worse than
      the best ones in more than this share of the models.
  """

  num_meta_steps: int = config.setting(30, low=1, high=10**6, tiny=1)
  inner_lr: float = config.setting(1e-3, low=0, high=100, sweep=True)
  inner_objective: str = config.setting(
    'log_likelihood', choices=('log_likelihood', 'likelihood_ratio')
  )
  entropy_coef: float = config.setting(0.0, low=0, high=1e3, sweep=True)
  max_inner_kl: float | None = config.setting(None, above=0, high=100)
  patience: int = config.setting(5, low=1, high=10**6)
  worsened_fraction: float = config.setting(0.3, low=0, high=1)


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """The configuration of an experiment; defaults are those of appendix A.3.

  Attributes:
    collect: real data.
    policy: the meta-policy.
    model: the ensemble and its fit.
    model_rollouts: imagined data.
    advantage: advantages of imagined actions.
    meta: the inner step, and the number of outer steps.
    trust_region: the outer step, on the mean KL of the adapted policies.
  """

  algorithm: ClassVar[str] = 'mbmpo'

  collect: Collect = dataclasses.field(default_factory=Collect)
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
  meta: Meta = dataclasses.field(default_factory=Meta)
  trust_region: config.TrustRegion = dataclasses.field(
    default_factory=config.TrustRegion
  )

  @property
  def num_tasks(self) -> int:
    """Number of tasks of all members, K * P."""
    return self.model.num_models * self.model_rollouts.tasks_per_model

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Checks relations between fields; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.collect.check(validation_fraction=self.model.validation_fraction)
    self.policy.check()
    self.meta.check_rounds('meta', 'num_meta_steps')
    if self.meta.max_inner_kl is not None and self.meta.inner_lr == 0:
      raise config.ConfigError(
        f'meta.max_inner_kl={self.meta.max_inner_kl}: must be None with'
        ' meta.inner_lr=0, which adapts nothing'
      )
    rollouts = self.model_rollouts
    if rollouts.buffer_starts and not rollouts.num_seen:
      raise config.ConfigError(
        f'model_rollouts.buffer_starts={rollouts.buffer_starts}: must be 0, or'
        f' > {0.5 / rollouts.rollouts_per_task:.3g}, 0.5 /'
        ' model_rollouts.rollouts_per_task'
      )
    count = self.collect.num_trajectories
    if self.collect.policy == 'adapted' and count % self.num_tasks:
      raise config.ConfigError(
        f'collect.num_trajectories={count}: must be a multiple of'
        f' {self.num_tasks}, model.num_models *'
        " model_rollouts.tasks_per_model, with collect.policy='adapted'"
      )
    self._check_limit(
      env_max_episode_steps,
      'model_rollouts.horizon',
      self.model_rollouts.horizon,
    )

  def shares(self) -> config.Shares:
    """Members, and tasks of each member."""
    return config.Shares(
      self.model.num_models,
      self.model_rollouts.tasks_per_model,
      ('model.num_models', 'model_rollouts.tasks_per_model'),
    )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    rollouts = self.model_rollouts
    steps = rollouts.rollouts_per_task * rollouts.horizon
    return [
      *super().sizes(),
      (
        'model_rollouts.rollouts_per_task',
        self.num_tasks * steps,
        'steps of all model.num_models * model_rollouts.tasks_per_model tasks'
        ' of model_rollouts.rollouts_per_task * model_rollouts.horizon are'
        ' imagined at once',
      ),
      (
        'policy.hidden_sizes',
        self.num_tasks * config.widest_product(self.policy.hidden_sizes),
        f'weights between two layers for {self.num_tasks} tasks',
      ),
      (
        'model.hidden_sizes',
        self.model.num_models * config.widest_product(self.model.hidden_sizes),
        f'weights between two layers for {self.model.num_models} models',
      ),
    ]
