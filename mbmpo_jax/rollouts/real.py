"""Real trajectories: a policy acting in an environment."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import episodes


def rollout_env(
  env: base.Environment,
  policy_params: types.Params,
  key: jax.Array,
  *,
  num_envs: int,
  horizon: int,
  policy_apply: Callable[..., gaussian.Gaussian] = gaussian.apply,
  policy_per_env: bool = False,
  random_actions: jax.Array | bool = False,
  mesh: jax.sharding.Mesh | None = None,
) -> types.Trajectory:
  """Steps `num_envs` environments for `horizon` steps.

  An episode that ends early is followed by a fresh one; no transition crosses
  the reset, and every transition is real, so the mask is 1 throughout.

  Args:
    env: a single environment; batched here.
    policy_params: theta; with one policy per environment, stacked `[N, ...]`.
    key: consumed.
    num_envs: N.
    horizon: T, a time limit.
    policy_apply: `(params, obs [..., O]) -> distribution`.
    policy_per_env: whether there is one policy per environment.
    random_actions: true takes uniform actions instead; may be traced.
    mesh: devices to share the environments out over; where N is no multiple of
      their number, each steps all of them.

  Returns:
    A trajectory `[T, N, ...]`; `terminated` marks where an episode ended.
  """
  if num_envs % parallel.size(mesh):
    mesh = None
  if policy_per_env:
    policy_apply = jax.vmap(policy_apply)

  def run(
    policy_params: types.Params, reset_keys: jax.Array, draws: Any
  ) -> types.Trajectory:
    state = jax.vmap(env.reset)(reset_keys)
    first = policy_apply(policy_params, state.obs)

    def step(state: base.State, xs: Any) -> Any:
      noise_t, uniform_t, keys_t = xs
      action = gaussian.sample(policy_apply(policy_params, state.obs), noise_t)
      action = jnp.where(random_actions, uniform_t, action)
      env_action = jnp.clip(action, -1.0, 1.0)
      after = jax.vmap(env.step)(state, env_action)
      out = (state.obs, action, env_action, after.reward, after.obs, after.done)
      if env.can_terminate:
        after = _restart(env, after, keys_t)
      return after, out

    _, (obs, action, env_action, reward, next_obs, terminated) = jax.lax.scan(
      step, state, draws
    )
    noise, *_ = draws
    log_prob = gaussian.log_prob_of_noise(first.log_std, noise)
    uniform_log_prob = -env.action_size * math.log(2.0)  # of [-1, 1]^A
    return types.Trajectory(
      obs=obs,
      action=action,
      env_action=env_action,
      log_prob=jnp.where(random_actions, uniform_log_prob, log_prob),
      reward=reward,
      next_obs=next_obs,
      terminated=terminated,
      mask=jnp.ones_like(reward),
    )

  reset_key, *step_keys = jax.random.split(key, 4)
  policies = parallel.BY_ENV if policy_per_env else parallel.REPLICATED
  steps = jax.sharding.PartitionSpec(None, *parallel.BY_ENV)
  trajectory = parallel.share_out(
    run,
    mesh=mesh,
    in_specs=(policies, parallel.BY_ENV, steps),
    out_specs=steps,
  )(
    policy_params,
    jax.random.split(reset_key, num_envs),
    _draw(env, step_keys, num_envs, horizon),
  )
  return parallel.replicate(mesh, trajectory)


def _draw(
  env: base.Environment, keys: list[jax.Array], num_envs: int, horizon: int
) -> tuple[jax.Array, jax.Array, jax.Array | None]:
  """Noise and uniform actions [T, N, A], and keys of restarts [T, N, 2].

  No restarts where no episode ends early. Consumes the keys.
  """
  noise_key, uniform_key, restart_key = keys
  shape = (horizon, num_envs, env.action_size)
  noise = jax.random.normal(noise_key, shape, float)
  uniform = jax.random.uniform(uniform_key, shape, float, -1.0, 1.0)
  restart_keys = None
  if env.can_terminate:
    restart_keys = jax.vmap(lambda key: jax.random.split(key, num_envs))(
      jax.random.split(restart_key, horizon)
    )
  return noise, uniform, restart_keys


def to_transitions(
  trajectory: types.Trajectory, first_episode: jax.Array
) -> tuple[types.Transition, jax.Array]:
  """Flattens real trajectories for the buffer, one environment after another.

  Args:
    trajectory: `[T, N, ...]`, of `rollout_env`.
    first_episode: episodes numbered so far.

  Returns:
    Transitions `[N * T, ...]`, whole episodes in order, and the number of
    episodes numbered so far, these included.
  """
  horizon, num_envs = trajectory.reward.shape
  ended = trajectory.terminated.astype(jnp.int32)
  # Episodes begun in each environment so far, and over all environments.
  begun = 1 + episodes.before(ended)
  total = jnp.cumsum(begun[-1], dtype=jnp.int32)
  before = first_episode + total - begun[-1]
  last = jnp.arange(horizon)[:, None] == horizon - 1
  cut = last & (ended == 0)

  def flat(x: jax.Array) -> jax.Array:
    return jnp.swapaxes(x, 0, 1).reshape(horizon * num_envs, *x.shape[2:])

  transitions = types.Transition(
    obs=flat(trajectory.obs),
    action=flat(trajectory.env_action),
    reward=flat(trajectory.reward),
    next_obs=flat(trajectory.next_obs),
    terminated=flat(trajectory.terminated),
    truncated=flat(cut.astype(trajectory.reward.dtype)),
    episode=flat(before[None] + begun - 1),
    time=flat(episodes.time(ended)),
  )
  return transitions, first_episode + total[-1]


def _restart(
  env: base.Environment, state: base.State, keys: jax.Array
) -> base.State:
  """Replaces the environments that are done by fresh ones."""
  fresh = jax.vmap(env.reset)(keys)

  def select(fresh: jax.Array, current: jax.Array) -> jax.Array:
    if current.shape[:1] != state.done.shape:
      return current  # Warp's working memory, which environments share.
    done = broadcasting.trailing(state.done, current.ndim)
    return jnp.where(done > 0, fresh, current)

  return jax.tree.map(select, fresh, state)
