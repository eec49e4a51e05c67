"""Every hyperparameter of GSSM and of the surrogates beside it."""

import dataclasses
from typing import ClassVar

from mbmpo_jax import config
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms.ppo import config as ppo
from mbmpo_jax.models.neural_process import config as neural_process


@dataclasses.dataclass(unsafe_hash=True)
class Collect(config.Collect):
  """Real data: whole episodes of one task.

  Attributes:
    task_every: iterations after which another task is drawn.
    random_iterations: the first iterations, whose actions are uniform.
  """

  num_trajectories: int = config.setting(1, low=1, high=10**6)
  episode_length: int = config.setting(200, low=1, high=10**6, tiny=5)
  buffer_capacity: int = config.setting(20_000, low=2, high=10**8, tiny=1_000)
  task_every: int = config.setting(10, low=1, high=10**6, tiny=2)
  random_iterations: int = config.setting(1, low=0, high=10**6)


@dataclasses.dataclass(unsafe_hash=True)
class Model(neural_process.Surrogate):
  """The surrogate and its fit.

  Attributes:
    data: what it is fitted to, of `all` tasks so far or the `current` one.
    tasks_per_step: tasks whose losses a gradient step is the mean of.
  """

  data: str = config.setting('all', choices=('all', 'current'))
  tasks_per_step: int = config.setting(4, low=1, high=10**4, tiny=2)


@dataclasses.dataclass(unsafe_hash=True)
class Policy:
  """An RBF network where BPTT learns it, else ReLU layers (table 5).

  Attributes:
    amortised: whether it is told a latent of the task.
    num_units: of the RBF network.
    init_scale: of the RBF network's first weights: it begins with little force.
    hidden_sizes: units of each hidden layer of the other.
    init_std: deviation that its actions begin with, unless they are choices.
    feature_scales: what policy and critic see each feature of an observation
      divided by, its usual size in the world; `()` is 1 for all. What the RBF
      network's units cover at first is of the size 1.
  """

  amortised: bool = True
  num_units: int = config.setting(50, low=1, high=2**16, tiny=8)
  init_scale: float = config.setting(0.01, above=0, high=1e3)
  hidden_sizes: tuple[int, ...] = config.setting(
    (128,), low=1, high=2**16, tiny=8
  )
  init_std: float = config.setting(0.5, above=0, high=1e3)
  feature_scales: tuple[float, ...] = config.setting((), above=0, high=1e6)


@dataclasses.dataclass(unsafe_hash=True)
class Value(on_policy_config.Value):
  """The value network of PPO, with ReLU layers; sees what the policy sees."""

  hidden_sizes: tuple[int, ...] = config.setting(
    (128,), low=1, high=2**16, tiny=8
  )


@dataclasses.dataclass(unsafe_hash=True)
class ModelRollouts:
  """Imagined data of a policy update: contexts * rollouts * horizon steps.

  Attributes:
    num_contexts: contexts drawn.
    num_rollouts: rollouts given each of them, each with a latent of its own.
    horizon: steps of a rollout.
    untold: share of the rollouts, in the mean, whose policy is told no task, so
      that it learns to act in a task's first episode, and in evaluations
      without a context.
  """

  num_contexts: int = config.setting(5, low=1, high=10**4, tiny=2)
  num_rollouts: int = config.setting(10, low=1, high=10**6, tiny=2)
  horizon: int = config.setting(200, low=1, high=10**6, tiny=5)
  untold: float = config.setting(0.2, low=0, high=1)


@dataclasses.dataclass(unsafe_hash=True)
class Improve:
  """Updates of the policy inside the model.

  Attributes:
    kind: `bptt`, the gradient through the model (equation 12), or `ppo`.
    num_updates: per iteration, N of algorithm 1.
    data: of which tasks contexts are: the `current` one, or `all` so far.
    num_learners: policies that learn side by side; the one that earns most in
      the model acts.
    restart_every: iterations after which all learners but that one are drawn
      anew.
  """

  kind: str = config.setting('bptt', choices=('bptt', 'ppo'))
  num_updates: int = config.setting(20, low=1, high=10**6, tiny=2)
  data: str = config.setting('current', choices=('all', 'current'))
  num_learners: int = config.setting(1, low=1, high=1_000, tiny=2)
  restart_every: int = config.setting(10, low=1, high=10**6, tiny=2)


@dataclasses.dataclass(unsafe_hash=True)
class Adaptation:
  """At test time, of a policy that is not amortised (algorithm 2).

  Attributes:
    num_updates: updates of the policy given the context.
    num_rollouts: imagined trajectories of each.
  """

  num_updates: int = config.setting(5, low=1, high=10**6, tiny=2)
  num_rollouts: int = config.setting(1, low=1, high=10**6)


@dataclasses.dataclass(unsafe_hash=True)
class Learn(ppo.Learn):
  """An update; all but rate and length are of PPO."""

  num_epochs: int = config.setting(8, low=1, high=10**6, tiny=2)
  num_minibatches: int = config.setting(4, low=1, high=10**6, tiny=1)
  learning_rate: float = config.setting(5e-4, above=0, high=1, sweep=True)
  max_grad_norm: float | None = config.setting(1.0, above=0, high=1e6)


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """A whole experiment; docs/gssm.md says which defaults are ours.

  Attributes:
    collect: real data.
    model: the surrogate and its fit.
    policy: what acts.
    value: the value network of PPO.
    model_rollouts: imagined data.
    improve: updates of the policy.
    advantage: how PPO judges an action; its discount is that of BPTT, too.
    learn: an update.
    adaptation: at test time.
  """

  algorithm: ClassVar[str] = 'gssm'

  collect: Collect = dataclasses.field(default_factory=Collect)
  model: Model = dataclasses.field(default_factory=Model)
  policy: Policy = dataclasses.field(default_factory=Policy)
  value: Value = dataclasses.field(default_factory=Value)
  model_rollouts: ModelRollouts = dataclasses.field(
    default_factory=ModelRollouts
  )
  improve: Improve = dataclasses.field(default_factory=Improve)
  advantage: on_policy_config.Advantage = dataclasses.field(
    default_factory=on_policy_config.Advantage
  )
  learn: Learn = dataclasses.field(default_factory=Learn)
  adaptation: Adaptation = dataclasses.field(default_factory=Adaptation)

  def check(self, *, env_max_episode_steps: int | None = None) -> None:
    """Holds fields to their relations; see `config.Experiment.check`."""
    super().check(env_max_episode_steps=env_max_episode_steps)
    self.collect.check()
    self.model.check('model')
    rollouts = self.model_rollouts
    self._check_limit(
      env_max_episode_steps, 'model_rollouts.horizon', rollouts.horizon
    )
    if self.policy.amortised and self.model.kind == 'dropout':
      raise config.ConfigError(
        "policy.amortised=True: must be False for model.kind='dropout', which"
        ' infers no latent'
      )
    if self.model.context_size > self.collect.buffer_capacity:
      raise config.ConfigError(
        f'model.context_size={self.model.context_size}: must be <='
        f' {self.collect.buffer_capacity}, collect.buffer_capacity'
      )
    if self.improve.kind == 'ppo':
      per_update = rollouts.num_contexts * rollouts.num_rollouts
      self._check_batches(per_update * rollouts.horizon)
      if not self.policy.amortised:
        self._check_batches(self.adaptation.num_rollouts * rollouts.horizon)

  def _check_batches(self, steps: int) -> None:
    if steps % self.learn.num_minibatches:
      raise config.ConfigError(
        f'learn.num_minibatches={self.learn.num_minibatches}: must divide'
        f' {steps}, the imagined steps of an update'
      )

  def sizes(self) -> list[tuple[str, int, str]]:
    """Counts that must stay within 32 bits."""
    rollouts, model = self.model_rollouts, self.model
    steps = rollouts.num_contexts * rollouts.num_rollouts * rollouts.horizon
    rows = model.context_size + model.target_size
    return [
      *super().sizes(),
      (
        'model_rollouts.num_rollouts',
        steps,
        'steps are imagined at once',
      ),
      (
        'model.context_size',
        model.tasks_per_step * rows**2,
        'pairs of points are compared in a gradient step',
      ),
      (
        'model.decoder_sizes',
        config.widest_product(model.decoder_sizes),
        'weights between two layers',
      ),
      (
        'policy.hidden_sizes',
        config.widest_product(self.policy.hidden_sizes),
        'weights between two layers',
      ),
    ]
