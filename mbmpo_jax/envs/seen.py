"""Refuses a reward that is made of nothing but what no model sees.

A world whose reward nobody can write down is often given one more observation,
the last reward r, and `reward = next_obs[..., -1]`. That teaches, as long as
models see r. Where `model_input` hides it they are to predict r' - r from the
rest, which does not say what r was: errors add up from step to step, and
imagination pays what reality never does.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax.envs import base
from mbmpo_jax.envs import check

_ROWS = 8


def check_reward(env: base.Environment, *, seed: int = 0) -> None:
  """Holds `reward` to what `model_input` shows.

  It is asked at a few random rows whether the reward depends on hidden
  dimensions by more than their change in the step, as that of a position which
  the dynamics do not depend on, and on actions besides, but on nothing seen.

  Args:
    env: an environment whose `reward` is known; another passes.
    seed: of the rows.

  Raises:
    check.ContractError: naming the hidden dimensions.
  """
  if not env.reward_is_known:
    return
  size = env.observation_size
  obs_key, action_key, next_key, shift_key = jax.random.split(
    jax.random.PRNGKey(seed), 4
  )
  obs = jax.random.normal(obs_key, (_ROWS, size))
  shift = jax.random.uniform(shift_key, (_ROWS, size), minval=0.1, maxval=1)
  shown = np.asarray(env.model_input(obs))

  def moves(index: int) -> bool:
    one = jnp.zeros((1, size)).at[0, index].set(1)
    return bool(np.any(np.asarray(env.model_input(obs + shift * one)) != shown))

  hidden = [index for index in range(size) if not moves(index)]
  if not hidden:
    return
  action = env.action_space.sample(action_key, (_ROWS,))
  next_obs = jax.random.normal(next_key, (_ROWS, size))
  of_hidden = jnp.zeros((1, size)).at[0, jnp.array(hidden)].set(1)
  reward = env.reward(obs, action, next_obs)
  by_level = env.reward(
    obs + shift * of_hidden, action, next_obs + shift * of_hidden
  )
  of_seen = 1 - of_hidden
  by_seen = env.reward(
    obs + shift * of_seen, action, next_obs - shift * of_seen
  )
  values = np.stack([np.asarray(x) for x in (reward, by_level, by_seen)])
  if not np.all(np.isfinite(values)):
    return  # Random rows are no rows of this world.
  if np.allclose(values[0], values[1], rtol=1e-4, atol=1e-4):
    return
  if np.allclose(values[0], values[2], rtol=1e-4, atol=1e-4):
    raise check.ContractError(
      f'{type(env).__name__}: reward() reads nothing but dimension'
      f' {", ".join(map(str, hidden))} of the observation, which model_input()'
      ' hides, so that no model can predict its change: must be shown to the'
      ' model, or the reward be predicted (model.predict_reward)'
    )
