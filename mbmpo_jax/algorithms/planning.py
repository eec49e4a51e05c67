"""Shared parts of the algorithms that plan, MB-MPC and L2A.

An iteration collects episodes and fits the ensemble to all data so far. The
first episodes have random actions; later ones use a planner
(`policies/planner.py`). The planner's only learned parameters are the ensemble.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import shared_metrics as metrics_lib
from mbmpo_jax.algorithms.mb_mpc import config as config_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import spaces
from mbmpo_jax.models import base as models
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import cem
from mbmpo_jax.policies import mppi
from mbmpo_jax.policies import planner
from mbmpo_jax.policies import random_shooting
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real

METRICS = {
  **metrics_lib.COLLECT,
  **metrics_lib.FIT,
  'imagined_steps': base.Metric(
    "model steps for all candidate action sequences of the iteration's plans; 0"
    ' if its actions were random',
    over_runs='sum',
    per_second_of='collect',
  ),
  **metrics_lib.STUCK,
}


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  ensemble: fit_lib.FitState  # K members and their optimisers' states
  model: Any  # the members after the last fit, for planning, [K, ...]
  buffer: buffer_lib.Buffer


# (state, mesh) -> (state, metrics): fits the ensemble to the buffer.
FitFn = Callable[[State, jax.sharding.Mesh | None], tuple[State, types.Metrics]]


class Learner(NamedTuple):
  """The parts that a specific planning algorithm gives.

  Attributes:
    policy: the planner, with `planner.Params`.
    world: `(key, hyper) -> model_based.World`: members, their model before any
      data, and an empty buffer; consumes the key.
    fit: `(state, mesh) -> (state, metrics)`, fits members to the buffer.
    metrics: all metrics that the algorithm reports.
  """

  policy: policies.Policy
  world: Callable[[jax.Array, base.Hyper], model_based.World]
  fit: FitFn
  metrics: Mapping[str, base.Metric]


def make(
  env: envs_base.Environment,
  config: Any,
  learner: Learner,
  *,
  mesh: jax.sharding.Mesh | None,
) -> base.Algorithm:
  """Builds the algorithm.

  Args:
    env: the real environment.
    config: with the sections `collect` and `planner`.
    learner: the parts of the specific algorithm.
    mesh: devices over which environments and fit are distributed.

  Raises:
    ValueError: if the work cannot be divided equally over the devices.
  """
  if mesh is not None:
    shares = config.shares()
    parallel.check(
      mesh, num_models=shares.members, tasks_per_model=shares.tasks
    )
  collector = _idle_while_random(learner.policy)
  per_plan = config.planner.steps(config.model.num_models)

  def init(key: jax.Array, hyper: base.Hyper) -> State:
    key, model_key = jax.random.split(key)
    world = learner.world(model_key, hyper)
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(
      jnp.copy, State(base.start_counters(key), hyper, *world)
    )

  def policy_params(state: State) -> planner.Params:
    return planner.Params(state.model, numbers(state.hyper))

  def collect(state: State) -> tuple[State, types.Metrics]:
    """Adds real episodes to the buffer, with random actions at first."""
    key, rollout_key = jax.random.split(state.counters.key)
    random_actions = state.counters.iteration == 0
    trajectory, _ = real.rollout(
      env,
      collector,
      (random_actions, policy_params(state)),
      rollout_key,
      num_envs=config.collect.num_trajectories,
      horizon=config.collect.episode_length,
      random_actions=random_actions,
      mesh=mesh,
    )
    state = state._replace(counters=state.counters._replace(key=key))
    state, metrics = store(state, trajectory)
    imagined = config.collect.steps * per_plan
    return state, {
      **metrics,
      'imagined_steps': jnp.where(random_actions, 0.0, float(imagined)),
    }

  def store(
    state: State, trajectory: types.Trajectory
  ) -> tuple[State, types.Metrics]:
    state, metrics = model_based.store(state, trajectory)
    del metrics['policy/saturated']  # Planned actions are within the bounds.
    return state, metrics

  def fit(
    state: State, mesh: jax.sharding.Mesh | None = mesh
  ) -> tuple[State, types.Metrics]:
    """Fits the ensemble to the buffer; ends the iteration."""
    state, metrics = learner.fit(state, mesh)
    counters = state.counters
    counters = counters._replace(iteration=counters.iteration + 1)
    # No member kept an epoch: all losses were non-finite.
    stuck = metrics['model/epochs'] == 0
    return state._replace(counters=counters), {
      **metrics,
      base.STUCK: stuck.astype(float),
    }

  fit_alone = None
  if backend.fits_on_one(mesh):
    fit_alone = functools.partial(fit, mesh=None)
  return base.Algorithm(
    init=init,
    phases={
      base.COLLECT: base.Phase(parallel.replicating(collect, mesh)),
      base.FIT: base.Phase(parallel.replicating(fit, mesh), alone=fit_alone),
    },
    policy=learner.policy,
    policy_params=policy_params,
    # One model plans in all environments; N copies of it would be large.
    behaviour=None,
    add=lambda state, trajectory: store(state, trajectory)[0],
    adapt=None,
    metrics=learner.metrics,
  )


def make_policy(
  env: envs_base.Environment,
  config: Any,
  dynamics: models.Dynamics,
  world: Callable[[jax.Array, base.Hyper], model_based.World],
  adaptation: planner.Adaptation | None = None,
) -> policies.Policy:
  """The planner of `config.planner`, with models of `dynamics`.

  Args:
    env: the real environment.
    config: with the section `planner`.
    dynamics: the model's functions.
    world: as in `Learner`.
    adaptation: of the model, at every step; `None` for none.
  """

  def init(key: jax.Array) -> planner.Params:
    hyper = base.hyper(config)
    return planner.Params(world(key, hyper).model, numbers(hyper))

  return planner.make(
    env,
    dynamics,
    make_search(env.action_space, config.planner),
    init=init,
    members=config.planner.members,
    adaptation=adaptation,
  )


def make_search(
  space: spaces.ActionSpace, section: config_lib.Planner
) -> planner.Search:
  """The configured search over the actions of a space."""
  sizes = {
    'num_candidates': section.num_candidates,
    'horizon': section.horizon,
  }
  if section.kind == 'random_shooting':
    return random_shooting.make(space, **sizes)
  sizes['num_iterations'] = section.num_iterations
  if section.kind == 'mppi':
    return mppi.make(space, **sizes)
  return cem.make(space, num_elites=section.num_elites, **sizes)


def numbers(hyper: base.Hyper) -> planner.Numbers:
  """The numeric settings of the section `planner`."""
  return planner.Numbers(
    **{name: hyper[f'planner.{name}'] for name in planner.Numbers._fields}
  )


def _idle_while_random(policy: policies.Policy) -> policies.Policy:
  """The policy with parameters (random, params); it does not search if random.

  In iteration 0 the collector replaces all actions by random ones, and a search
  would only cost time.
  """

  def start(params: Any, key: jax.Array, context: Any, num: int) -> Any:
    return policy.start(params[1], key, context, num)

  def act(
    params: Any, carry: Any, obs: jax.Array, noise: Any
  ) -> tuple[Any, policies.Action]:
    idle, params = params
    shapes = jax.eval_shape(policy.act, params, carry, obs, noise)
    nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes[1])
    return jax.lax.cond(
      idle,
      lambda: (carry, nothing),
      lambda: policy.act(params, carry, obs, noise),
    )

  def observe(params: Any, carry: Any, step: policies.Experience) -> Any:
    assert policy.observe is not None
    return policy.observe(params[1], carry, step)

  return policy._replace(
    start=start,
    act=act,
    observe=None if policy.observe is None else observe,
  )
