"""The pieces of a meta-step as separate programs, for timing."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mbmpo_jax import parallel
from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.algorithms.mbmpo import meta_step
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.envs import base
from mbmpo_jax.models import ensemble
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import gaussian

State = state_lib.State
Sampled = meta_step.Sampled

# The sharding of a state while tasks use it.
_SPECS: dict[str, Any] = dict.fromkeys(State._fields, parallel.REPLICATED)
_STATE = State(**{**_SPECS, 'model': parallel.BY_MODEL})


class Pieces(NamedTuple):
  """Pure functions of arrays, in the order of a meta-step."""

  imagine: Callable[[State], types.Trajectory]  # T_i, without advantages
  advantages: Callable[[State, types.Trajectory], jax.Array]
  sample: Callable[[State], Sampled]
  # theta_i', and the intermediate results that the outer step needs.
  inner_gradient: Callable[[State, Sampled], Any]
  surrogate_gradient: Callable[[State, Sampled], types.Params]
  # Conjugate gradients for that gradient: `cg_iterations` curvature products,
  # of which the last is needed only along its direction.
  natural_gradient: Callable[[State, Sampled, types.Params], jax.Array]
  # Surrogate and kl at one candidate of the line search.
  evaluation: Callable[[State, Sampled, types.Params], Any]


def make(
  env: base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> Pieces:
  """Builds the pieces of one meta-step for `state.policy` and `state.model`."""
  policy = gaussian.make(env.observation_size, env.action_size, config.policy)
  dynamics = ensemble.make(env, config.model)
  meta = meta_step.make(env, config, policy, dynamics, mesh=mesh)
  all_sum = parallel.all_sum(mesh)

  def imagine(state: State) -> types.Trajectory:
    # Under jit, advantages are not computed, because they are not returned.
    return meta.rollout(
      state.policy,
      state.model,
      state.hyper,
      state.counters.key,
      per_task=False,
    ).trajectory

  def advantages(state: State, trajectory: types.Trajectory) -> jax.Array:
    return tasks.map_tasks(
      functools.partial(
        returns.advantages,
        discount=state.hyper['advantage.discount'],
        gae_lambda=state.hyper['advantage.gae_lambda'],
        ridge=state.hyper['advantage.baseline_ridge'],
      ),
      trajectory,
    )

  def sample(state: State) -> Sampled:
    return meta.sample(
      state.policy, state.model, state.hyper, state.counters.key
    )

  def inner_gradient(state: State, sampled: Sampled) -> Any:
    adapted, adaptations, _ = meta.adapt(state.policy, sampled.pre, state.hyper)
    return adapted, adaptations

  def surrogate_gradient(state: State, sampled: Sampled) -> types.Params:
    return all_sum(
      meta.derivatives(state.policy, sampled, state.hyper).gradient
    )

  def natural_gradient(
    state: State, sampled: Sampled, gradient: types.Params
  ) -> jax.Array:
    about = meta.derivatives(state.policy, sampled, state.hyper)
    return trpo.natural_gradient(
      gradient,
      about.curvature,
      cg_iterations=config.trust_region.cg_iterations,
      damping=state.hyper['trust_region.damping'],
      quadratic_fn=about.quadratic,
      all_sum=all_sum,
    )

  def evaluation(
    state: State, sampled: Sampled, candidate: types.Params
  ) -> tuple[jax.Array, jax.Array]:
    about = meta.derivatives(state.policy, sampled, state.hyper)
    return all_sum(about.objective(candidate))

  def share_out(fn: Callable, *in_specs: Any, out_specs: Any) -> Callable:
    return parallel.share_out(
      fn, mesh=mesh, in_specs=(_STATE, *in_specs), out_specs=out_specs
    )

  by_task, whole = parallel.BY_TASK, parallel.REPLICATED
  return Pieces(
    share_out(imagine, out_specs=by_task),
    share_out(advantages, by_task, out_specs=by_task),
    share_out(sample, out_specs=by_task),
    share_out(inner_gradient, by_task, out_specs=by_task),
    share_out(surrogate_gradient, by_task, out_specs=whole),
    share_out(natural_gradient, by_task, whole, out_specs=whole),
    share_out(evaluation, by_task, whole, out_specs=whole),
  )
