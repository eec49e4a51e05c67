"""Imagined trajectories: a policy acting inside a learned model."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import types
from mbmpo_jax.models import ensemble
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import episodes

# (params, carry, obs, action, key) -> (carry, next_obs, extras)
PredictFn = Callable[..., tuple[Any, jax.Array, Any]]


def rollout_model(
  policy_params: types.Params,
  model: Any,
  key: jax.Array,
  initial_obs: jax.Array,
  reward_fn: types.RewardFn,
  done_fn: types.DoneFn,
  *,
  horizon: int,
  policy_apply: Callable[..., gaussian.Gaussian] = gaussian.apply,
  predict: PredictFn = ensemble.predict,
  model_carry: Any = None,
  restart_obs: jax.Array | None = None,
  perturb_fn: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
) -> types.Trajectory:
  """Rolls a policy out in a model (Clavera et al. 2018, eq. 4).

  One policy and one model; `jax.vmap` over tasks and members. All noise is
  drawn before the loop over time, rewards are computed after it.

  Args:
    policy_params: theta.
    model: what `predict` takes as its first argument; by default one member of
      an ensemble, `ensemble.Model` without its leading axis.
    key: consumed.
    initial_obs: `[N, O]`.
    reward_fn: the environment's `reward`, applied to predictions.
    done_fn: the environment's `done`, likewise.
    horizon: steps T.
    policy_apply: `(params, obs) -> distribution`.
    predict: `(model, carry, obs, action, key) -> (carry, next_obs, extras)`.
    model_carry: the first carry of a model with memory, leading `[N]`.
    restart_obs: `[T, N, O]`; a rollout that ends at step t goes on from
      `restart_obs[t]` as a new episode. Without it, it stands still.
    perturb_fn: `(next_obs, key) -> next_obs`, spoils every prediction: for
      studies of biased and noisy models (section 6.4).

  Returns:
    A trajectory `[T, N, ...]`. The mask is 0 where a rollout stands still, and
    in a restarted episode that the horizon cuts, whose return is not known; so
    of the restarted ones the longer are missing, as in the authors' sampler.
    Non-finite predictions are left in: the caller rejects the task
    (`masking.reject_non_finite`).
  """
  noise_key, step_key = jax.random.split(key)
  first = policy_apply(policy_params, initial_obs)
  shape = (horizon, *first.mean.shape)
  # Drawn flat, as XLA vectorises along the last axis; from both words of every
  # block of Threefry: no device needs to draw a part of one task's numbers.
  with jax.threefry_partitionable(False):
    noise = jax.random.normal(noise_key, (math.prod(shape),), initial_obs.dtype)
  noise = noise.reshape(shape)
  step_keys = jax.random.split(step_key, horizon)

  def step(state: Any, xs: Any) -> Any:
    obs, alive, carry = state
    noise_t, key_t, restart_t = xs
    model_key, perturb_key = jax.random.split(key_t)
    action = gaussian.sample(policy_apply(policy_params, obs), noise_t)
    carry, next_obs, _ = predict(
      model, carry, obs, jnp.clip(action, -1.0, 1.0), model_key
    )
    if perturb_fn is not None:
      next_obs = perturb_fn(next_obs, perturb_key)
    next_obs = jnp.where(alive[:, None] > 0, next_obs, obs)
    terminated = alive * done_fn(next_obs)
    if restart_t is None:
      out = (None, action, next_obs, terminated)
      return (next_obs, alive - terminated, carry), out

    def restart(fresh: jax.Array, current: jax.Array) -> jax.Array:
      ended = broadcasting.trailing(terminated, current.ndim)
      return jnp.where(ended > 0, fresh, current)

    after = restart(restart_t, next_obs)
    out = (obs, action, next_obs, terminated)
    return (after, alive, jax.tree.map(restart, model_carry, carry)), out

  alive = jnp.ones(initial_obs.shape[0], initial_obs.dtype)
  _, (obs, action, next_obs, terminated) = jax.lax.scan(
    step, (initial_obs, alive, model_carry), (noise, step_keys, restart_obs)
  )
  env_action = jnp.clip(action, -1.0, 1.0)
  if obs is None:  # Every step starts where the last one ended.
    obs = jnp.concatenate([initial_obs[None], next_obs[:-1]])
  # What is not finite stays in sight, wherever it is, for the task's rejection.
  mask = episodes.complete(terminated) | ~jnp.all(jnp.isfinite(next_obs), -1)
  return types.Trajectory(
    obs=obs,
    action=action,
    env_action=env_action,
    log_prob=gaussian.log_prob_of_noise(first.log_std, noise),
    reward=reward_fn(obs, env_action, next_obs),
    next_obs=next_obs,
    terminated=terminated,
    mask=mask.astype(obs.dtype),
  )
