"""Shared parts of on-policy algorithms: data of an iteration, with advantages.

An iteration steps the environments on from their last state, computes
generalised advantages of all actions with a value network, and improves policy
and value network on these data only. An algorithm gives `improve`, which does
the last part.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import masking
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import on_policy_config
from mbmpo_jax.algorithms import on_policy_metrics
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.networks import critics
from mbmpo_jax.objectives import ppo
from mbmpo_jax.objectives import returns
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import episodes as episodes_lib
from mbmpo_jax.rollouts import real

METRICS = on_policy_metrics.METRICS


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  policy: types.Params  # theta
  value: types.Params  # of the value network
  optimizer: Any  # the states of the optimisers
  running: real.Running  # the state of the environments
  unfinished: episodes_lib.Sums  # of unfinished episodes, [N]
  moments: Any  # of observations, `normalized.Moments`; () if not used


class Batch(NamedTuple):
  """An iteration's data; observations are inputs of the networks."""

  trajectory: types.Trajectory  # [T, N, ...]
  advantages: jax.Array  # A, [T, N], standardised
  targets: jax.Array  # R, targets of the values, [T, N]


class Improved(NamedTuple):
  """The result of an algorithm's improvement on a batch.

  Attributes:
    policy: the new policy parameters.
    value: the new value network parameters.
    optimizer: the new states of the optimisers.
    metrics: the algorithm's own metrics, including `policy/kl` and
      `nonfinite/updates`.
    taken: number of updates taken, a scalar.
  """

  policy: types.Params
  value: types.Params
  optimizer: Any
  metrics: types.Metrics
  taken: jax.Array


# (parameters, obs [..., O]) -> V [...]
ValueFn = Callable[[types.Params, jax.Array], jax.Array]
# (state, batch, key) -> Improved
Improve = Callable[[State, Batch, jax.Array], Improved]


class Parts(NamedTuple):
  """The networks of an algorithm.

  Attributes:
    policy: the policy on network inputs, such as normalised observations.
    acting: the policy on the environment's observations.
    init_value: key -> parameters of the value network; consumes the key.
    value: the value network.
    seen: (moments, trajectory) -> the trajectory with inputs of the networks in
      place of its observations: any pytree of arrays `[T, N, ...]`, such as
      observations with a memory.
  """

  policy: policies.Policy
  acting: policies.Policy
  init_value: Callable[[jax.Array], types.Params]
  value: ValueFn
  seen: Callable[[Any, types.Trajectory], types.Trajectory] = (
    normalized.normalized
  )


def parts(
  env: envs_base.Environment,
  config: on_policy_config.Config,
  policy: policies.Policy | None,
) -> Parts:
  """The networks for an environment.

  Args:
    env: the real environment.
    config: of the experiment.
    policy: a policy with a density, in place of `config.policy`; or `None`.

  Raises:
    config.ConfigError: if the policy does not fit the environment, or has a
      memory that is not part of its actions' extras.
  """
  if policy is None:
    policy = model_based.make_policy(env, config.policy)
  model_based.check_policy(env, policy)
  _check_memory(env, policy)
  acting = policy
  if config.collect.normalize_observations:
    acting = normalized.make(policy, env.observation_size)
  network = critics.Value(config.value.hidden_sizes)

  def init_value(key: jax.Array) -> types.Params:
    return network.init(key, jnp.zeros((1, env.observation_size)))

  def value(params: types.Params, obs: jax.Array) -> jax.Array:
    return jnp.asarray(network.apply(params, obs))

  return Parts(policy, acting, init_value, value)


def algorithm(
  env: envs_base.Environment,
  config: on_policy_config.Config,
  made: Parts,
  start_optimizer: Callable[[types.Params, types.Params, base.Hyper], Any],
  improve: Improve,
  metrics: dict[str, base.Metric],
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> base.Algorithm:
  """Builds an algorithm from its `improve`.

  Args:
    env: the real environment.
    config: of the experiment.
    made: its networks.
    start_optimizer: (theta, value parameters, hyper) -> optimiser states.
    improve: improves policy and value network on a batch.
    metrics: all metrics that the algorithm reports.
    mesh: devices on which the state is replicated; each does all the work.
  """

  def policy_params(state: State) -> types.Params:
    if not config.collect.normalize_observations:
      return state.policy
    return normalized.Params(state.policy, state.moments)

  def init(key: jax.Array, hyper: base.Hyper) -> State:
    key, policy_key, value_key, start_key = jax.random.split(key, 4)
    theta = made.policy.init(policy_key)
    value = made.init_value(value_key)
    moments: Any = ()
    if config.collect.normalize_observations:
      moments = normalized.start(env.observation_size)
    state = State(
      counters=base.start_counters(key),
      hyper=hyper,
      policy=theta,
      value=value,
      optimizer=start_optimizer(theta, value, hyper),
      running=(),  # type: ignore[arg-type]
      unfinished=episodes_lib.start(config.collect.num_envs),
      moments=moments,
    )
    running = real.start(
      env,
      made.acting,
      policy_params(state),
      start_key,
      num_envs=config.collect.num_envs,
    )
    # Each leaf has its own buffer: XLA cannot donate one buffer twice.
    return jax.tree.map(jnp.copy, state._replace(running=running))

  def learn(state: State) -> tuple[State, types.Metrics]:
    key, rollout_key, improve_key, std_key = jax.random.split(
      state.counters.key, 4
    )
    state = state._replace(counters=state.counters._replace(key=key))
    trajectory, running = real.rollout(
      env,
      made.acting,
      policy_params(state),
      rollout_key,
      num_envs=config.collect.num_envs,
      horizon=config.collect.steps_per_env,
      start=state.running,
      time_limit=config.collect.episode_length,
    )
    after, collected = _account(state, trajectory, running)
    trajectory = _sound(trajectory)
    if config.collect.normalize_observations:
      # The data are normalised by the moments that were used for acting.
      after = after._replace(
        moments=normalized.update(
          state.moments, trajectory.obs, trajectory.mask
        )
      )
    seen = made.seen(state.moments, trajectory)
    batch, judged = judge(made.value, state.value, seen, state.hyper)
    improved = improve(state, batch, improve_key)
    counters = after.counters
    after = after._replace(
      counters=counters._replace(iteration=counters.iteration + 1),
      policy=improved.policy,
      value=improved.value,
      optimizer=improved.optimizer,
    )
    stuck = (improved.taken == 0) & (improved.metrics['nonfinite/updates'] > 0)
    assert made.policy.over is not None
    dist = made.policy.over(state.policy, batch.trajectory)
    entropy = jnp.broadcast_to(dist.entropy(), trajectory.mask.shape)
    return after, {
      **collected,
      **judged,
      'policy/entropy': masking.mean(entropy, trajectory.mask),
      'policy/std': policies.mean_std(
        made.acting, policy_params(after), std_key, env.observation_size
      ),
      base.STUCK: stuck.astype(float),
      **improved.metrics,
    }

  return base.Algorithm(
    init=init,
    phases={base.LEARN: base.Phase(parallel.replicating(learn, mesh))},
    policy=made.acting,
    policy_params=policy_params,
    behaviour=None,
    add=add,
    adapt=None,
    metrics=metrics,
  )


def add(state: State, trajectory: types.Trajectory) -> State:
  """Counts real data from outside, `[T, N, ...]`.

  Nothing is learned from them, because on-policy methods learn only from data
  of the current policy.
  """
  counters = state.counters
  transitions, episodes, _ = real.to_transitions(trajectory, counters.episodes)
  steps = transitions.reward.shape[0]
  return state._replace(
    counters=counters._replace(
      env_steps=counters.env_steps + steps, episodes=episodes
    )
  )


def judge(
  value: ValueFn,
  value_params: types.Params,
  trajectory: types.Trajectory,
  hyper: base.Hyper,
) -> tuple[Batch, types.Metrics]:
  """Advantages and value targets of a real trajectory.

  The target is the lambda-return R = A + V; A is standardised afterwards.

  Args:
    value: V.
    value_params: parameters of V.
    trajectory: `[T, N, ...]`, masked where it is not finite.
    hyper: gives discount and lambda.

  Returns:
    The batch and metrics of the values.
  """
  mask = trajectory.mask
  live = masking.live_steps(trajectory)
  values = value(value_params, live.obs)
  advantages = returns.gae(
    live.reward,
    values,
    mask,
    live.terminated,
    discount=hyper['advantage.discount'],
    gae_lambda=hyper['advantage.gae_lambda'],
    next_values=value(value_params, live.next_obs),
    ended=jnp.maximum(live.ended, 1 - mask),
  )
  targets = masking.live(advantages + values, mask)
  centred = targets - masking.mean(targets, mask)
  variance = masking.mean(jnp.square(centred), mask)
  loss = ppo.value_loss(values, targets, mask)
  return Batch(live, returns.standardize(advantages, mask), targets), {
    'value/loss': loss,
    'value/explained': 1 - 2 * loss / jnp.maximum(variance, 1e-8),
  }


def _check_memory(env: envs_base.Environment, policy: policies.Policy) -> None:
  """Raises `ConfigError` if `over` cannot recompute the policy's memory."""

  def act(key: jax.Array, obs: jax.Array) -> tuple[Any, Any]:
    params = policy.init(key)
    carry = policy.start(params, key, (), 1)
    return policy.act(params, carry, obs, policy.noise(key, (1,)))

  obs = jax.ShapeDtypeStruct((1, env.observation_size), jnp.zeros(()).dtype)
  carry, action = jax.eval_shape(act, jax.random.PRNGKey(0), obs)
  if jax.tree.leaves(carry) and not jax.tree.leaves(action.extras):
    raise config_lib.ConfigError(
      'policy: has a memory: must have none, or return what `over` needs of it'
      ' in `Action.extras`, as episodes continue in the next iteration'
    )


def _sound(trajectory: types.Trajectory) -> types.Trajectory:
  """Masks steps with a number that is not finite, or very large."""
  shape = trajectory.mask.shape
  rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), trajectory)
  sound = masking.sound_rows(rows).reshape(shape)
  return trajectory._replace(mask=jnp.where(sound, trajectory.mask, 0.0))


def _account(
  state: State, trajectory: types.Trajectory, running: real.Running
) -> tuple[State, types.Metrics]:
  """Counts the collected transitions and computes their metrics."""
  counters = state.counters
  transitions, episodes, standing = real.to_transitions(
    trajectory, counters.episodes, start=state.running
  )
  steps = transitions.reward.shape[0]
  counters = counters._replace(
    env_steps=counters.env_steps + steps, episodes=episodes
  )
  unfinished, done = episodes_lib.finished(
    state.unfinished, trajectory.reward, trajectory.ended
  )
  state = state._replace(
    counters=counters,
    running=running._replace(episode=standing),
    unfinished=unfinished,
  )
  return state, {
    'env_steps': counters.env_steps,
    'real_steps': jnp.asarray(steps, float),
    'real/return': jnp.nanmean(done.reward),
    'real/length': jnp.nanmean(done.length),
    'policy/saturated': jnp.mean(abs(trajectory.action) > 1),
    'nonfinite/transitions': jnp.sum(
      ~masking.sound_rows(transitions), dtype=float
    ),
  }
