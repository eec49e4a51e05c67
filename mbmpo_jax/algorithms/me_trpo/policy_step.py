"""One policy step: imagine with sampled members, take a trust-region step.

This is the inner loop of algorithm 1 (Kurutach et al. 2018), and the validation
of the policy in each model. The parts are also available separately.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base as algorithms
from mbmpo_jax.algorithms.me_trpo import config as config_lib
from mbmpo_jax.envs import base
from mbmpo_jax.models import base as models
from mbmpo_jax.models import mixture
from mbmpo_jax.models import starts
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim import fisher
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import imagined


class PolicyStep(NamedTuple):
  """A policy step and its parts; `hyper` is `state.hyper`, keys are consumed.

  `model` is that of all members, leaves `[K, ...]`.
  """

  # (theta, model, key) -> Trajectory [T, N, ...], finite rollouts (bool [N])
  rollout: Callable[..., tuple[types.Trajectory, jax.Array]]
  # (theta, model, key) -> return in each model [K]
  validate: Callable[..., jax.Array]
  # (theta, model, hyper, key) -> new theta, metrics
  step: Callable[..., tuple[types.Params, types.Metrics]]


def make(
  env: base.Environment,
  config: config_lib.Config,
  policy: policies.Policy,
  dynamics: models.Dynamics,
) -> PolicyStep:
  """Builds the policy step for an environment.

  Args:
    env: gives reward, termination and initial observations.
    config: of the experiment.
    policy: the policy to learn.
    dynamics: the functions of one member's model.
  """
  section, trust_region = config.model_rollouts, config.trust_region
  num_models = config.model.num_models
  mixed = mixture.redrawn(dynamics, num_models)
  # A policy without noise acts greedily.
  greedy = policy._replace(noise=lambda key, shape: None)

  def start_obs(model: Any, key: jax.Array, num_rollouts: int) -> jax.Array:
    return starts.draw(env, mixed, model, key, (num_rollouts,))

  def rollout(
    theta: types.Params, model: Any, key: jax.Array
  ) -> tuple[types.Trajectory, jax.Array]:
    num_rollouts = section.num_rollouts
    start_key, rollout_key, restart_key = jax.random.split(key, 3)
    restart_obs = None
    if section.restart and env.can_terminate:
      restart_obs = jax.vmap(lambda key: start_obs(model, key, num_rollouts))(
        jax.random.split(restart_key, section.horizon)
      )
    params, _ = policy.spread(theta, (num_rollouts,), False)
    trajectory = imagined.rollout(
      policy,
      params,
      mixed,
      model,
      rollout_key,
      start_obs(model, start_key, num_rollouts),
      horizon=section.horizon,
      reward_fn=env.reward,
      done_fn=env.done,
      restart_obs=restart_obs,
    )
    return _reject_non_finite(trajectory)

  def validate(theta: types.Params, model: Any, key: jax.Array) -> jax.Array:
    """Returns of the greedy policy, from equal states; NaN if not finite."""
    num_rollouts = config.improve.validation_rollouts
    start_key, rollout_key = jax.random.split(key)
    initial_obs = start_obs(model, start_key, num_rollouts)
    params, axes = policy.spread(theta, (num_models, num_rollouts), False)

    def member(params: types.Params, model: Any) -> jax.Array:
      trajectory = imagined.rollout(
        greedy,
        params,
        dynamics,
        model,
        rollout_key,
        initial_obs,
        horizon=section.horizon,
        reward_fn=env.reward,
        done_fn=env.done,
      )
      live = masking.live(trajectory.reward, trajectory.mask)
      return episodes.mean(live, trajectory.terminated)

    return jax.vmap(member, (axes, 0))(params, model)

  def step(
    theta: types.Params, model: Any, hyper: algorithms.Hyper, key: jax.Array
  ) -> tuple[types.Params, types.Metrics]:
    trajectory, finite_rollouts = rollout(theta, model, key)
    advantages = returns.advantages(
      trajectory,
      discount=hyper['advantage.discount'],
      gae_lambda=hyper['advantage.gae_lambda'],
      ridge=hyper['advantage.baseline_ridge'],
    )
    finite_advantages = masking.all_finite(advantages)
    advantages = jnp.where(finite_advantages, advantages, 0.0)
    about_theta = fisher.differentiate(policy, theta, trajectory, advantages)
    updated, info = trpo.trpo_step(
      theta,
      about_theta,
      max_kl=hyper['trust_region.max_kl'],
      cg_iterations=trust_region.cg_iterations,
      damping=hyper['trust_region.damping'],
      backtrack_ratio=trust_region.backtrack_ratio,
      max_backtracks=trust_region.max_backtracks,
    )
    usable = jnp.any(finite_rollouts) & finite_advantages
    # Whether non-finite numbers rejected the step: all rollouts, or the step.
    not_finite = ~usable | ~info.finite | (info.non_finite_kl > 0)
    count = functools.partial(jnp.sum, dtype=float)
    return updated, {
      **_describe(trajectory, finite_rollouts, model),
      'policy/surrogate_gain': info.surrogate_gain,
      'policy/kl': info.kl,
      'policy/accept_rate': info.accepted.astype(float),
      'policy/backtracks': info.backtracks.astype(float),
      'nonfinite/rollouts': count(~finite_rollouts),
      'nonfinite/advantages': count(~finite_advantages),
      'nonfinite/gradients': count(~info.finite),
      'nonfinite/kl': count(info.non_finite_kl),
      'nonfinite/steps': count(~info.accepted & not_finite),
    }

  return PolicyStep(rollout, validate, step)


def _reject_non_finite(
  trajectory: types.Trajectory,
) -> tuple[types.Trajectory, jax.Array]:
  """Masks rollouts with a non-finite live step; flags the finite ones, [N]."""

  def finite(rollout: types.Trajectory) -> jax.Array:
    one = jax.tree.map(lambda x: jnp.expand_dims(x, 1), rollout)
    return masking.reject_non_finite(one)[1]

  kept = jax.vmap(finite, 1)(trajectory)
  mask = jnp.where(kept[None], trajectory.mask, 0.0)
  return trajectory._replace(mask=mask), kept


def _describe(
  trajectory: types.Trajectory, finite_rollouts: jax.Array, model: Any
) -> types.Metrics:
  """Means over episodes and live steps of the finite rollouts."""
  live, terminated = masking.live_steps(trajectory), trajectory.terminated
  complete = episodes.complete(terminated) & finite_rollouts[None]
  ended = jnp.maximum(jnp.sum(terminated, 0), 1)
  num_episodes = jnp.sum(jnp.where(finite_rollouts, ended, 0.0))
  samples = jnp.sum(trajectory.mask)

  def per_episode(x: jax.Array) -> jax.Array:
    mean = jnp.sum(jnp.where(complete, x, 0.0)) / jnp.maximum(num_episodes, 1)
    return jnp.where(num_episodes > 0, mean, jnp.nan)

  low, high = (x[0][None, None] for x in (model.low, model.high))
  on_bound = jnp.any((live.next_obs <= low) | (live.next_obs >= high), -1)
  clipped = jnp.sum(masking.live(on_bound.astype(float), trajectory.mask))
  return {
    'imagined/return': per_episode(live.reward),
    'imagined/length': per_episode(trajectory.mask),
    'imagined/samples': samples,
    'imagined/clipped': clipped / jnp.maximum(samples, 1),
  }
