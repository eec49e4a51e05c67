"""Environments for brax's trainers whose every episode begins anew.

brax's own wrapper goes back to the first state that an environment ever had: a
trainer with one environment would know a single start.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as envs  # Before brax, which it keeps quiet.

# isort: split
from brax.envs.wrappers import training as wrappers

_KEYS = 'reset_keys'


def wrap(
  env: envs.Environment,
  episode_length: int = 1000,
  action_repeat: int = 1,
  randomization_fn: Any = None,
) -> Any:
  """As brax's `wrap`, but for what follows an ending.

  Args:
    env: one environment.
    episode_length: steps after which time runs out.
    action_repeat: steps of an action.
    randomization_fn: must be `None`.
  """
  assert randomization_fn is None
  env = wrappers.EpisodeWrapper(
    wrappers.VmapWrapper(env), episode_length, action_repeat
  )
  return FreshResets(env)


class FreshResets(wrappers.AutoResetWrapper):
  """Draws a new start where an episode ended."""

  def reset(self, rng: jax.Array) -> Any:
    """The first episodes, of keys `[N, 2]`."""
    fold = jax.vmap(jax.random.fold_in, (0, None))
    state = super().reset(rng)
    state.info[_KEYS] = fold(rng, 0)
    return state

  def step(self, state: Any, action: jax.Array) -> Any:
    """A step; those that end are followed by an episode's first state."""
    keys, next_keys = jnp.moveaxis(
      jax.vmap(jax.random.split)(state.info[_KEYS]), 1, 0
    )
    fresh = self.env.reset(keys)
    state.info.update(
      first_pipeline_state=fresh.pipeline_state, first_obs=fresh.obs
    )
    state.info[_KEYS] = next_keys
    return super().step(state, action)
