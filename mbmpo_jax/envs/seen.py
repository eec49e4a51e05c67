"""Rejects a reward that depends only on observations hidden from the models.

If a reward is not a known function of observations, users often append the last
reward r to the observation and define `reward = next_obs[..., -1]`. This works
if the models' input includes r. If `model_input` hides r, the models have to
predict the change r' - r from the other numbers, which do not determine r. The
errors then accumulate over the steps of an imagined rollout, whose rewards no
longer resemble real ones.
"""

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax.envs import base
from mbmpo_jax.envs import check

_ROWS = 8


def check_reward(
  env: base.Environment,
  *,
  otherwise: str = 'model.predict_reward must be True',
  seed: int = 0,
) -> None:
  """Checks that `reward` depends on numbers that `model_input` includes.

  At a few random rows the check tests how the reward depends on the hidden
  dimensions. A reward passes if it depends on them only through their change in
  the step, as for a position that does not affect the dynamics, or if it also
  depends on visible dimensions. It fails if it depends on hidden dimensions and
  possibly actions, but on nothing visible.

  Args:
    env: an environment. The check passes if its `reward` is not known.
    otherwise: what the error advises besides a larger `model_input`.
    seed: of the random rows.

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
    return  # Random rows are outside the reward's domain.
  if np.allclose(values[0], values[1], rtol=1e-4, atol=1e-4):
    return
  if np.allclose(values[0], values[2], rtol=1e-4, atol=1e-4):
    raise check.ContractError(
      f'{type(env).__name__}: reward() reads only dimension'
      f' {", ".join(map(str, hidden))} of the observation, which model_input()'
      ' leaves out, so models cannot predict it: must be in model_input(), or'
      f' {otherwise}'
    )
