"""Notes to the user about the data to which models were fitted."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import envs
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import statistics
from mbmpo_jax.rollouts import buffer as buffer_lib

_SHOWN = 12  # greatest number of dimensions listed in a line


def attached(
  algorithm: base.Algorithm, env: envs_base.Environment
) -> base.Algorithm:
  """The algorithm with `notes`, if it fits models to a buffer of `env`.

  There are no notes for this package's own environments, whose observations are
  known.
  """
  if base.FIT not in algorithm.phases or envs.is_own(env):
    return algorithm
  return algorithm._replace(notes=functools.partial(constants, env))


def constants(env: envs_base.Environment, state: Any) -> list[str]:
  """A line that names dimensions treated as constant, or no line.

  Args:
    env: gives `model_input` and `change`.
    state: with transitions in its field `buffer`, on the host's devices.
  """
  ring = getattr(state, 'buffer', None)
  if ring is None or not isinstance(ring.data, types.Transition):
    return []
  steady, unseen = jax.tree.map(np.asarray, _steady(env, ring))
  parts = []
  if steady.any():
    parts.append(
      f'observation dimensions {_listed(steady)} change equally in every step,'
      ' and are predicted to do so'
    )
  seen, action = np.split(unseen, [unseen.size - env.action_size])
  if seen.any():
    parts.append(f'dimensions {_listed(seen)} of model_input are constant')
  if action.any():
    parts.append(f'action dimensions {_listed(action)} never change')
  if not parts:
    return []
  return [f'up to rounding, {"; ".join(parts)}']


def _steady(
  env: envs_base.Environment, ring: buffer_lib.Buffer
) -> tuple[jax.Array, jax.Array]:
  """Flags of constant changes of observations [O] and model inputs [I]."""

  @jax.jit
  def flags(ring: buffer_lib.Buffer) -> tuple[jax.Array, jax.Array]:
    data = ring.data
    inputs = jnp.concatenate([env.model_input(data.obs), data.action], -1)
    sound = masking.sound_rows((data, inputs))
    valid = jnp.where(sound, buffer_lib.mask(ring), 0.0)
    found = statistics.fit(
      inputs,
      env.change(data.obs, data.next_obs),
      data.next_obs,
      valid,
      clip_margin=None,
    )
    several = jnp.sum(valid) > 1
    return (
      several & (found.targets.std == 0),
      several & (found.inputs.std == 0),
    )

  return flags(ring)


def _listed(flags: np.ndarray) -> str:
  places = np.flatnonzero(flags).tolist()
  more = f' and {len(places) - _SHOWN} more' if len(places) > _SHOWN else ''
  return f'{places[:_SHOWN]}{more}'
