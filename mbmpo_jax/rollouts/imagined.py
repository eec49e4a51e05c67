"""Imagined trajectories: rollouts of a policy in a learned model."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax import backend
from mbmpo_jax import types
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import unroll

# (obs [N, O], alive [N], the model's carry)
_State = tuple[jax.Array, jax.Array, Any]


def rollout(
  policy: policies.Policy,
  params: types.Params,
  dynamics: models.Dynamics,
  model: Any,
  key: jax.Array,
  initial_obs: jax.Array,
  *,
  horizon: int,
  reward_fn: types.RewardFn,
  done_fn: types.DoneFn,
  context: Any = (),
  policy_context: Any = None,
  restart_obs: jax.Array | None = None,
  perturb_fn: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> types.Trajectory:
  """Rolls a policy out in a model (Clavera et al. 2018, eq. 4).

  Takes one policy and one model; use `jax.vmap` over tasks and members. The
  policy's noise is drawn before the loop over time. If the policy does not
  observe rewards, they are computed after the loop.

  Args:
    policy: its parameters may have been transformed by `policy.spread`.
    params: theta.
    dynamics: the model's functions.
    model: of one ensemble member, from `dynamics.ready`.
    key: consumed.
    initial_obs: `[N, O]`.
    horizon: number of steps T.
    reward_fn: the environment's `reward`, for models that predict none.
    done_fn: the environment's `done`, for models that predict no terminations.
    context: the task's context, for policy and model.
    policy_context: the policy's context, if it differs from the model's, as for
      a latent inferred from the context.
    restart_obs: `[T, N, O]`. A rollout whose episode ends at step t continues
      from `restart_obs[t]` with a new episode. Without it, the rollout stays in
      its last state.
    perturb_fn: `(next_obs, key) -> next_obs`, perturbs every prediction, for
      studies of biased and noisy models (section 6.4).

  Returns:
    A trajectory `[T, N, ...]`. The mask is 0 after the end of a rollout that
    does not restart. It is also 0 in a restarted episode that is cut by the
    horizon, because its return is unknown; therefore long restarted episodes
    are underrepresented, as in the authors' sampler. Predictions that are not
    finite stay in the trajectory; the caller rejects the task
    (`masking.reject_non_finite`).
  """
  chex.assert_rank(initial_obs, 2)
  num_rollouts = initial_obs.shape[0]
  noise_key, step_key = jax.random.split(key)
  with backend.whole_blocks():
    noise = policy.noise(noise_key, (horizon, num_rollouts))
  tell = policy.observe is not None
  restarts = restart_obs is not None
  policy_key, model_key, keys_key = jax.random.split(
    jax.random.fold_in(key, 2), 3
  )
  if policy_context is None:
    policy_context = context
  carry = policy.start(params, policy_key, policy_context, num_rollouts)
  model_carry = dynamics.start(model, model_key, context, num_rollouts)

  def step(
    state: _State, action: jax.Array, x: tuple[jax.Array, jax.Array | None]
  ) -> tuple[_State, unroll.Outcome]:
    obs, alive, carry = state
    key, restart = x
    predict_key, perturb_key = jax.random.split(key)
    carry, predicted = dynamics.predict(model, carry, obs, action, predict_key)
    next_obs = predicted.next_obs
    if perturb_fn is not None:
      next_obs = perturb_fn(next_obs, perturb_key)
    next_obs = jnp.where(alive[:, None] > 0, next_obs, obs)
    ends = predicted.terminated
    terminated = alive * (done_fn(next_obs) if ends is None else ends)
    reward = predicted.reward
    if reward is None and tell:
      reward = reward_fn(obs, action, next_obs)
    outcome = unroll.Outcome(reward, next_obs, terminated)
    if restart is None:
      return (next_obs, alive - terminated, carry), outcome
    after, carry = unroll.where_ended(
      terminated, (restart, model_carry), (next_obs, carry)
    )
    return (after, alive, carry), outcome

  alive = jnp.ones(num_rollouts, initial_obs.dtype)
  _, steps = unroll.unroll(
    policy,
    params,
    unroll.World(lambda state: state[0], step, restarts),
    ((initial_obs, alive, model_carry), carry),
    noise,
    (jax.random.split(step_key, horizon), restart_obs),
    context=policy_context,
    restart_keys=jax.random.split(keys_key, horizon),
    keep_obs=restarts,
  )
  action, outcome = steps.action, steps.outcome
  next_obs, terminated = outcome.next_obs, outcome.terminated
  obs = steps.obs
  if obs is None:  # Every step starts where the last one ended.
    obs = jnp.concatenate([initial_obs[None], next_obs[:-1]])
  reward = outcome.reward
  if reward is None:
    reward = reward_fn(obs, action.env, next_obs)
  # Steps that are not finite stay unmasked, so that the task is rejected.
  mask = episodes.complete(terminated) | ~jnp.all(jnp.isfinite(next_obs), -1)
  return types.Trajectory(
    obs=obs,
    action=action.raw,
    env_action=action.env,
    log_prob=action.log_prob,
    reward=reward,
    next_obs=next_obs,
    terminated=terminated,
    mask=mask.astype(obs.dtype),
    extras=action.extras,
  )
