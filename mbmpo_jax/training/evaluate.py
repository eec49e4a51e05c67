"""How well a policy does in the real world."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import real

Evaluate = Callable[[types.Params, jax.Array], types.Metrics]

METRICS = ('eval/return_mean', 'eval/return_std', 'eval/length_mean')


def make_evaluate(
  env: base.Environment,
  policy: policies.Policy,
  *,
  num_episodes: int,
  episode_length: int,
  mesh: jax.sharding.Mesh | None = None,
) -> Evaluate:
  """Builds the evaluation of a policy as it is, with sampled actions.

  This is the quantity that papers plot: undiscounted returns of fresh episodes,
  each up to its termination or `episode_length`.

  Args:
    env: the real world.
    policy: what acts.
    num_episodes: episodes, run side by side.
    episode_length: steps after which an episode is cut.
    mesh: devices to share the episodes out over.

  Returns:
    A jitted `(policy_params, key) -> metrics`; consumes the key. The metrics
    are `METRICS`, over the episodes.
  """

  def evaluate(policy_params: types.Params, key: jax.Array) -> types.Metrics:
    trajectory, _ = real.rollout(
      env,
      policy,
      policy_params,
      key,
      num_envs=num_episodes,
      horizon=episode_length,
      mesh=mesh,
    )
    live = first_episode(trajectory)
    returns = jnp.sum(jnp.where(live, trajectory.reward, 0.0), 0)
    lengths = jnp.sum(live, 0)
    values = (jnp.mean(returns), jnp.std(returns), jnp.mean(lengths))
    return dict(zip(METRICS, values, strict=True))

  return jax.jit(evaluate)


def first_episode(trajectory: types.Trajectory) -> jax.Array:
  """Whether a step is of its rollout's first episode, bool [T, N].

  Whatever a rollout holds after its first termination, another episode or
  padding, is not; the terminating step is.
  """
  return (episodes.before(trajectory.terminated) == 0) & (trajectory.mask > 0)
