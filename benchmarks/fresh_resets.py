"""Wraps environments for brax's trainers such that each episode is reset anew.

brax's wrapper returns to the first state that an environment ever had, so a
trainer with one environment would see a single initial state.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as envs  # first, because it silences brax

# isort: split
from brax.envs.wrappers import training as wrappers

_KEYS = 'reset_keys'


def wrap(
  env: envs.Environment,
  episode_length: int = 1000,
  action_repeat: int = 1,
  randomization_fn: Any = None,
) -> Any:
  """Like brax's `wrap`, except for the state after the end of an episode.

  Args:
    env: one environment.
    episode_length: time limit in steps.
    action_repeat: steps per action.
    randomization_fn: must be `None`.
  """
  assert randomization_fn is None
  env = wrappers.EpisodeWrapper(
    wrappers.VmapWrapper(env), episode_length, action_repeat
  )
  return FreshResets(env)


class FreshResets(wrappers.AutoResetWrapper):
  """Draws a new initial state when an episode has ended."""

  def reset(self, rng: jax.Array) -> Any:
    """Starts the first episodes, with keys `[N, 2]`."""
    fold = jax.vmap(jax.random.fold_in, (0, None))
    state = super().reset(rng)
    state.info[_KEYS] = fold(rng, 0)
    return state

  def step(self, state: Any, action: jax.Array) -> Any:
    """Takes a step; an ended episode is followed by a new initial state."""
    keys, next_keys = jnp.moveaxis(
      jax.vmap(jax.random.split)(state.info[_KEYS]), 1, 0
    )
    fresh = self.env.reset(keys)
    state.info.update(
      first_pipeline_state=fresh.pipeline_state, first_obs=fresh.obs
    )
    state.info[_KEYS] = next_keys
    return super().step(state, action)
