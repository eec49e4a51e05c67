"""Real trajectories: rollouts of a policy in an environment."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import unroll


class Running(NamedTuple):
  """The state of N environments, from which a rollout can continue."""

  env: base.State  # leaves [N, ...]
  carry: Any  # the policy's memory, leaves [N, ...]
  time: jax.Array  # [N] int32, steps since the episode began
  episode: jax.Array  # [N] int32, episode number; -1 before `to_transitions`


def rollout(
  env: base.Environment,
  policy: policies.Policy,
  params: types.Params,
  key: jax.Array,
  *,
  num_envs: int,
  horizon: int,
  context: Any = (),
  per_env: bool = False,
  random_actions: jax.Array | bool = False,
  greedy: bool = False,
  start: Running | None = None,
  time_limit: int | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[types.Trajectory, Running]:
  """Steps `num_envs` environments for `horizon` steps.

  When an episode ends, the environment is reset and a new episode follows. No
  transition crosses the reset. The mask is 1 throughout, since all transitions
  are real.

  Args:
    env: a single environment; it is batched here.
    policy: chooses the actions.
    params: the policy's parameters; with `per_env`, leaves `[N, ...]`.
    key: consumed.
    num_envs: N.
    horizon: T.
    context: the task's context, an input of the policy at an episode's start.
    per_env: whether every environment has its own policy parameters.
    random_actions: true replaces all actions by uniform ones; may be traced.
    greedy: whether the policy acts without noise.
    start: the state to continue from; by default all environments are reset.
    time_limit: number of steps after which an episode is cut and another one
      begins. By default only the end of the rollout is a limit.
    mesh: devices over which the environments are distributed. If N is not a
      multiple of their number, or the policy's noise does not have the leading
      axes [T, N], every device steps all environments.

  Returns:
    A trajectory `[T, N, ...]` and the final state of the environments. The
    trajectory's `terminated` marks where an episode ended and, with a
    `time_limit`, `truncated` where it was cut.
  """
  if per_env:
    policy = policies.per_rollout(policy)
  reset_key, noise_key, uniform_key, restart_key = jax.random.split(key, 4)
  shape = (horizon, num_envs)
  noise = None if greedy else policy.noise(noise_key, shape)
  if num_envs % parallel.size(mesh) or any(
    leaf.shape[:2] != shape for leaf in jax.tree.leaves(noise)
  ):
    mesh = None
  policy = _shared_starts(policy, num_envs, mesh, per_env=per_env)
  world = _world(env, time_limit)
  xs: _Inputs = _Inputs(None, None, None)
  if world.restarts:
    keys = jax.random.split(restart_key, horizon)
    xs = xs._replace(
      restart_keys=jax.vmap(lambda key: jax.random.split(key, num_envs))(keys),
    )
  modify: Callable[..., policies.Action] | None = None
  if random_actions is not False:
    uniform = env.action_space.sample(uniform_key, shape)
    flags = jnp.broadcast_to(random_actions, shape)
    xs = xs._replace(uniform=uniform, random=flags)
    modify = _random(env)

  # The carry's keys must differ from all others: `fold_in(key, i)` equals
  # `split(key, n)[i]`, and the first four of these are in use.
  carry_key, carries_key = jax.random.split(jax.random.fold_in(key, 4))
  carries_keys = jax.random.split(carries_key, horizon)

  def run(params: types.Params, begin: Any, noise: Any, xs: Any) -> Any:
    if start is None:
      state = jax.vmap(env.reset)(begin)
      count = begin.shape[0]
      carry = policy.start(params, carry_key, context, count)
      time = jnp.zeros(count, jnp.int32)
    else:
      state, carry, time = begin
    (final, carry), steps = unroll.unroll(
      policy,
      params,
      world,
      (_Stand(state, time), carry),
      noise,
      xs,
      context=context,
      restart_keys=carries_keys,
      modify=modify,
    )
    return steps, (final.env, carry, final.time)

  begin: Any = jax.random.split(reset_key, num_envs)
  if start is not None:
    begin = (start.env, start.carry, start.time)
  steps_spec = jax.sharding.PartitionSpec(None, *parallel.BY_ENV)
  steps, (state, carry, time) = parallel.share_out(
    run,
    mesh=mesh,
    in_specs=(
      parallel.BY_ENV if per_env else parallel.REPLICATED,
      parallel.BY_ENV,
      steps_spec,
      steps_spec,
    ),
    out_specs=(steps_spec, parallel.BY_ENV),
  )(params, begin, noise, xs)
  outcome = steps.outcome
  trajectory = types.Trajectory(
    obs=steps.obs,
    action=steps.action.raw,
    env_action=steps.action.env,
    log_prob=steps.action.log_prob,
    reward=outcome.reward,
    next_obs=outcome.next_obs,
    terminated=outcome.terminated,
    mask=jnp.ones_like(outcome.reward),
    extras=steps.action.extras,
    truncated=outcome.truncated,
  )
  if start is None:
    episode = jnp.full(num_envs, -1, jnp.int32)
  else:
    episode = start.episode
  running = Running(state, carry, time, episode)
  return parallel.replicate(mesh, (trajectory, running))


def _shared_starts(
  policy: policies.Policy,
  num_envs: int,
  mesh: jax.sharding.Mesh | None,
  *,
  per_env: bool,
) -> policies.Policy:
  """The policy, whose devices share out the carries of all environments.

  Otherwise devices, which have the same keys, would draw the same carries. With
  parameters per environment, a device has those of its own only, and draws from
  a key of its own.
  """
  if mesh is None:
    return policy

  def start(params: types.Params, key: Any, context: Any, num: int) -> Any:
    if per_env:
      key = jax.random.fold_in(key, jax.lax.axis_index(parallel.AXES))
      return policy.start(params, key, context, num)
    whole = policy.start(params, key, context, num_envs)
    return jax.tree.map(lambda x: parallel.own(mesh, x, parallel.BY_ENV), whole)

  return policy._replace(start=start)


def start(
  env: base.Environment,
  policy: policies.Policy,
  params: types.Params,
  key: jax.Array,
  *,
  num_envs: int,
  context: Any = (),
) -> Running:
  """`num_envs` environments at the start of an episode.

  Args:
    env: a single environment; it is batched here.
    policy: its carry starts as well.
    params: the policy's parameters.
    key: consumed.
    num_envs: N.
    context: the task's context, an input of `policy.start`.
  """
  reset_key, carry_key = jax.random.split(key)
  return Running(
    env=jax.vmap(env.reset)(jax.random.split(reset_key, num_envs)),
    carry=policy.start(params, carry_key, context, num_envs),
    time=jnp.zeros(num_envs, jnp.int32),
    episode=jnp.full(num_envs, -1, jnp.int32),
  )


def to_transitions(
  trajectory: types.Trajectory,
  first_episode: jax.Array,
  *,
  start: Running | None = None,
  alternating: bool = False,
) -> tuple[types.Transition, jax.Array, jax.Array]:
  """Flattens real trajectories to rows of the buffer.

  Args:
    trajectory: `[T, N, ...]`, from `rollout`.
    first_episode: number of episodes so far, the number of the next new one.
    start: the state that the rollout continued from. Its unfinished episodes
      keep their numbers. Without it all episodes are new.
    alternating: orders rows by step, then environment; by default rows are
      ordered by environment, then step.

  Returns:
    Transitions `[N * T, ...]`; the number of episodes so far, including these;
    and the number of each environment's unfinished episode [N], or -1, for
    `Running.episode`. A rollout without a time limit ends all its episodes:
    the last step of each environment is marked `truncated` unless it
    terminated.
  """
  horizon, num_envs = trajectory.reward.shape
  ended = trajectory.ended.astype(jnp.int32)
  fresh, time = jnp.ones((), jnp.int32), episodes.time(ended)
  if start is not None:
    known = start.episode >= 0
    fresh = 1 - known[None].astype(jnp.int32)
    of_first = episodes.before(ended) == 0
    time = jnp.where(of_first, time + start.time[None], time)
  # `index` counts each environment's episodes from 0; `begun`, the new ones.
  index = episodes.before(ended)
  begun = index + fresh
  new = begun[-1]
  total = jnp.cumsum(new, dtype=jnp.int32)
  before = first_episode + total - new
  episode = before[None] + begun - 1
  if start is not None:
    goes_on = (index == 0) & known[None]
    episode = jnp.where(goes_on, start.episode[None], episode)
  truncated = trajectory.truncated
  if truncated is None:
    last = jnp.arange(horizon)[:, None] == horizon - 1
    truncated = (last & (ended == 0)).astype(trajectory.reward.dtype)
  # If the last step ended an episode, the next episode has no number yet.
  standing = jnp.where(ended[-1] > 0, -1, episode[-1])

  def flat(x: jax.Array) -> jax.Array:
    if not alternating:
      x = jnp.swapaxes(x, 0, 1)
    return x.reshape(horizon * num_envs, *x.shape[2:])

  transitions = types.Transition(
    obs=flat(trajectory.obs),
    action=flat(trajectory.env_action),
    reward=flat(trajectory.reward),
    next_obs=flat(trajectory.next_obs),
    terminated=flat(trajectory.terminated),
    truncated=flat(truncated),
    episode=flat(episode),
    time=flat(time),
    extras=jax.tree.map(flat, trajectory.extras),
  )
  return transitions, first_episode + total[-1], standing


class _Inputs(NamedTuple):
  """Inputs of a step, leaves [T, N, ...]; `None` for those not needed."""

  restart_keys: Any
  uniform: Any
  random: Any


class _Stand(NamedTuple):
  """The environments' state in the scan."""

  env: base.State
  time: jax.Array


def _world(env: base.Environment, time_limit: int | None) -> unroll.World:
  """N copies of `env`, batched over their states."""
  restarts = env.can_terminate or time_limit is not None

  def step(
    stand: _Stand, action: jax.Array, x: _Inputs
  ) -> tuple[_Stand, unroll.Outcome]:
    after = jax.vmap(env.step)(stand.env, action)
    time = stand.time + 1
    truncated = None
    if time_limit is not None:
      cut = (time >= time_limit) & (after.done == 0)
      truncated = cut.astype(after.done.dtype)
    outcome = unroll.Outcome(after.reward, after.obs, after.done, truncated)
    state = after
    if restarts:
      # A reset costs as much as a step, but is rarely needed.
      state = jax.lax.cond(
        jnp.any(outcome.ended > 0),
        lambda: unroll.where_ended(
          outcome.ended, jax.vmap(env.reset)(x.restart_keys), after
        ),
        lambda: after,
      )
      time = jnp.where(outcome.ended > 0, 0, time)
    return _Stand(state, time), outcome

  return unroll.World(lambda stand: stand.env.obs, step, restarts)


def _random(
  env: base.Environment,
) -> Callable[[policies.Action, _Inputs], policies.Action]:
  """Replaces actions by uniform ones where `x.random` is true."""

  def modify(action: policies.Action, x: _Inputs) -> policies.Action:
    flags = x.random
    log_prob = jnp.where(
      flags, env.action_space.log_prob_uniform, action.log_prob
    )

    def select(uniform: jax.Array, own: jax.Array) -> jax.Array:
      return jnp.where(flags[:, None], uniform, own)

    return action._replace(
      raw=select(x.uniform, action.raw),
      env=select(x.uniform, action.env),
      log_prob=log_prob,
    )

  return modify
