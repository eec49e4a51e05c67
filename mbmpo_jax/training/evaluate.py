"""How well a policy does in the real world."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import collect

Evaluate = Callable[[types.Params, jax.Array], types.Metrics]


def make_evaluate(
  env: base.Environment,
  *,
  num_episodes: int,
  episode_length: int,
  policy_apply: Callable[..., gaussian.Gaussian] = gaussian.apply,
) -> Evaluate:
  """Builds the evaluation of an unadapted policy, with sampled actions.

  This is the quantity the paper plots: undiscounted returns of fresh episodes,
  each up to its termination or `episode_length`.

  Args:
    env: the real world.
    num_episodes: episodes, run side by side.
    episode_length: steps after which an episode is cut.
    policy_apply: `(params, obs [N, O]) -> distribution`.

  Returns:
    A jitted `(policy_params, key) -> metrics`; consumes the key. The metrics
    are `eval/return_mean` and `eval/return_std`, over the episodes.
  """

  def evaluate(policy_params: types.Params, key: jax.Array) -> types.Metrics:
    trajectory = collect.rollout_env(
      env,
      policy_params,
      key,
      num_envs=num_episodes,
      horizon=episode_length,
      policy_apply=policy_apply,
    )
    returns = first_episode_returns(trajectory)
    return {
      'eval/return_mean': jnp.mean(returns),
      'eval/return_std': jnp.std(returns),
    }

  return jax.jit(evaluate)


def first_episode_returns(trajectory: types.Trajectory) -> jax.Array:
  """Undiscounted return [N] of each rollout's first episode.

  Whatever a rollout holds after its first termination, another episode or
  padding, counts nothing; the terminating step counts.
  """
  before = jnp.cumsum(trajectory.terminated, axis=0) - trajectory.terminated
  alive = (before == 0) & (trajectory.mask > 0)
  return jnp.sum(jnp.where(alive, trajectory.reward, 0.0), axis=0)
