"""Evaluates a policy in the models, for runs without an environment."""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.models import starts
from mbmpo_jax.rollouts import imagined
from mbmpo_jax.training import evaluate as evaluate_lib


class Evaluation:
  """Like `evaluate.make_evaluate`, with imagined episodes in every member.

  Attributes:
    model: the parameters of all members, `[K, ...]`; set it before the call.
  """

  model: Any = None

  def __init__(
    self, env: elsewhere.Elsewhere, algorithm: base.Algorithm, config: Any
  ) -> None:
    """Compiles nothing yet."""
    dynamics = model_based.make_dynamics(env, config.model)
    num = -(-config.run.eval_episodes // config.model.num_models)

    @jax.jit
    def play(params: types.Params, model: Any, key: jax.Array) -> types.Metrics:
      def member(model: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        start_key, key = jax.random.split(key)
        trajectory = imagined.rollout(
          algorithm.policy,
          params,
          dynamics,
          model,
          key,
          starts.draw(env, dynamics, model, start_key, (num,)),
          horizon=config.collect.episode_length,
          reward_fn=env.reward,
          done_fn=env.done,
        )
        live = evaluate_lib.first_episode(trajectory)
        return jnp.sum(jnp.where(live, trajectory.reward, 0.0), 0), jnp.sum(
          live.astype(float), 0
        )

      keys = jax.random.split(key, config.model.num_models)
      returns, lengths = jax.vmap(member)(model, keys)
      values = (jnp.mean(returns), jnp.std(returns), jnp.mean(lengths))
      return dict(zip(evaluate_lib.METRICS, values, strict=True))

    self._play = play

  def __call__(self, params: types.Params, key: jax.Array) -> types.Metrics:
    """Returns mean and std of returns, and the mean length; consumes `key`."""
    return self._play(params, self.model, key)
