"""Normalises the unit quaternions in predicted observations."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np

# Shorter quaternions have no meaningful direction.
_SHORTEST = 1e-6
_CLOSE = 1e-5


def normalized(obs: jax.Array, places: tuple[int, ...]) -> jax.Array:
  """Returns `obs` [..., O] with its quaternions scaled to unit length.

  Args:
    obs: observations, which may be predictions.
    places: the index of the first of the four numbers of each quaternion.

  Example:
    >>> normalized(jnp.array([5.0, 0.0, 3.0, 0.0, 4.0]), (1,)).round(6).tolist()
    [5.0, 0.0, 0.6000000238418579, 0.0, 0.800000011920929]
  """
  for place in places:
    part = obs[..., place : place + 4]
    squared = jnp.sum(jnp.square(part), -1, keepdims=True)
    length = jnp.sqrt(jnp.maximum(squared, _SHORTEST**2))
    obs = obs.at[..., place : place + 4].set(part / length)
  return obs


def addresses(model: mujoco.MjModel) -> list[int]:
  """Returns where the quaternions of free and ball joints start in `qpos`."""
  free, ball = mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_BALL
  return [
    int(start) + 3 * (kind == free)
    for kind, start in zip(model.jnt_type, model.jnt_qposadr, strict=True)
    if kind in (int(free), int(ball))
  ]


def example(model: mujoco.MjModel) -> np.ndarray:
  """Returns a random `qpos` [nq] of distinct numbers and unit quaternions."""
  rng = np.random.default_rng(0)
  qpos = rng.uniform(0.1, 0.9, model.nq)
  for place in addresses(model):
    part = rng.normal(size=4)
    qpos[place : place + 4] = part / np.linalg.norm(part)
  return qpos


def places(
  model: mujoco.MjModel, qpos: np.ndarray, obs: np.ndarray
) -> tuple[int, ...]:
  """Returns the indices in `obs` [O] where quaternions of `qpos` [nq] start."""
  found = []
  for address in addresses(model):
    part = qpos[address : address + 4]
    for place in range(len(obs) - 3):
      if np.allclose(obs[place : place + 4], part, atol=_CLOSE):
        found.append(place)
  return tuple(found)
