"""Every hyperparameter of GSSM and of related surrogates."""

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
    num_trajectories: trajectories of the policy per iteration.
    random_trajectories: further trajectories per iteration, with uniform
      actions. They come first, so the policy is given transitions of its task
      already in the task's first iteration. The model learns from them how
      tasks differ in states that the policy avoids.
    task_every: number of iterations after which a new task is sampled.
    random_iterations: number of first iterations with uniform actions only.
  """

  num_trajectories: int = config.setting(1, low=1, high=10**6)
  episode_length: int = config.setting(200, low=1, high=10**6, tiny=5)
  buffer_capacity: int = config.setting(20_000, low=2, high=10**8, tiny=1_000)
  random_trajectories: int = config.setting(0, low=0, high=10**6)
  task_every: int = config.setting(10, low=1, high=10**6, tiny=2)
  random_iterations: int = config.setting(1, low=0, high=10**6)

  @property
  def steps(self) -> int:
    """Real transitions per iteration."""
    num = self.num_trajectories + self.random_trajectories
    return num * self.episode_length


@dataclasses.dataclass(unsafe_hash=True)
class Model(neural_process.Surrogate):
  """The surrogate and its fit.

  Attributes:
    data: the data of the fit, of `all` tasks so far or of the `current` one.
    tasks_per_step: number of tasks whose mean loss a gradient step uses.
  """

  data: str = config.setting('all', choices=('all', 'current'))
  tasks_per_step: int = config.setting(4, low=1, high=10**4, tiny=2)


@dataclasses.dataclass(unsafe_hash=True)
class Policy:
  """An RBF network for BPTT; otherwise ReLU layers (table 5).

  Attributes:
    amortised: whether its input includes a latent of the task.
    num_units: number of units of the RBF network.
    init_scale: scale of the RBF network's initial weights; a small scale gives
      small initial actions.
    hidden_sizes: units of each hidden layer of the ReLU network.
    init_std: initial deviation of actions, unless they are discrete.
    feature_scales: divisors of the features of an observation for policy and
      critic, their usual sizes; `()` for 1. The RBF units initially cover
      inputs of size 1.
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
  """PPO's value network, with ReLU layers and the policy's inputs."""

  hidden_sizes: tuple[int, ...] = config.setting(
    (128,), low=1, high=2**16, tiny=8
  )


@dataclasses.dataclass(unsafe_hash=True)
class ModelRollouts:
  """Imagined data of a policy update: contexts * rollouts * horizon steps.

  Attributes:
    num_contexts: number of contexts.
    num_rollouts: rollouts per context, each with its own sample of the latent.
    horizon: steps of a rollout.
    untold: probability that a rollout's policy gets z = 0, as for an unknown
      task. It thereby learns to act in a task's first episode, and in
      evaluations without a context.
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
    data: tasks from which contexts are sampled, the `current` one or `all`.
    num_learners: number of policies that learn in parallel; the one with the
      highest return in the model acts.
    restart_every: number of iterations after which all other learners are
      initialised again.
  """

  kind: str = config.setting('bptt', choices=('bptt', 'ppo'))
  num_updates: int = config.setting(20, low=1, high=10**6, tiny=2)
  data: str = config.setting('current', choices=('all', 'current'))
  num_learners: int = config.setting(1, low=1, high=1_000, tiny=2)
  restart_every: int = config.setting(10, low=1, high=10**6, tiny=2)


@dataclasses.dataclass(unsafe_hash=True)
class Adaptation:
  """Adaptation at test time, if the policy is not amortised (algorithm 2).

  Attributes:
    num_updates: number of policy updates given the context.
    num_rollouts: imagined trajectories per update.
  """

  num_updates: int = config.setting(5, low=1, high=10**6, tiny=2)
  num_rollouts: int = config.setting(1, low=1, high=10**6)


@dataclasses.dataclass(unsafe_hash=True)
class Learn(ppo.Learn):
  """An update; all fields but rate and gradient norm are for PPO."""

  num_epochs: int = config.setting(8, low=1, high=10**6, tiny=2)
  num_minibatches: int = config.setting(4, low=1, high=10**6, tiny=1)
  learning_rate: float = config.setting(5e-4, above=0, high=1, sweep=True)
  max_grad_norm: float | None = config.setting(1.0, above=0, high=1e6)


@dataclasses.dataclass(unsafe_hash=True)
class Config(config.Experiment):
  """The configuration of an experiment; docs/gssm.md lists our own defaults.

  Attributes:
    collect: real data.
    model: the surrogate and its fit.
    policy: the policy's network.
    value: PPO's value network.
    model_rollouts: imagined data.
    improve: updates of the policy.
    advantage: PPO's advantages; BPTT uses the same discount.
    learn: one update.
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
    """Checks relations between fields; see `config.Experiment.check`."""
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
      self._check_batches(
        per_update * rollouts.horizon,
        'model_rollouts.num_contexts * model_rollouts.num_rollouts',
      )
      if not self.policy.amortised:
        self._check_batches(
          self.adaptation.num_rollouts * rollouts.horizon,
          'adaptation.num_rollouts',
        )

  def _check_batches(self, steps: int, rollouts: str) -> None:
    if steps % self.learn.num_minibatches:
      raise config.ConfigError(
        f'learn.num_minibatches={self.learn.num_minibatches}: must divide'
        f' {steps}, {rollouts} * model_rollouts.horizon'
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
