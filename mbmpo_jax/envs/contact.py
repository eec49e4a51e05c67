"""Gives MJX the same contact frames for capsules on planes as MuJoCo.

MuJoCo aligns the first tangent of such a contact with the capsule. MJX does so
too, but uses a fixed axis if the capsule is steeper than 60 degrees
(google-deepmind/mujoco#2774). A pyramidal friction cone depends on its axes:
with MJX's axes the ant's accelerations, with shins in arbitrary directions,
differed from MuJoCo's by up to 19.
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from mujoco import mjx
from mujoco.mjx._src import collision_driver

_PAIR = (mjx.GeomType.PLANE, mjx.GeomType.CAPSULE)
_CONTACTS = 2  # of one pair, at the capsule's ends


@contextlib.contextmanager
def capsule_frames() -> Iterator[None]:
  """A context in which traced code uses MuJoCo's contact frames."""
  original = collision_driver._COLLISION_FUNC[_PAIR]

  def collide(
    model: mjx.Model, data: mjx.Data, key: Any, geom: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    distance, position, _ = original(model, data, key, geom)
    plane, capsule = (data.geom_xmat[geom[:, i], :, 2] for i in (0, 1))
    frames = jax.vmap(_frame)(plane, capsule)
    return distance, position, jnp.repeat(frames, _CONTACTS, axis=0)

  collide.ncon = _CONTACTS  # type: ignore[attr-defined]
  with mock.patch.dict(collision_driver._COLLISION_FUNC, {_PAIR: collide}):
    yield


def _frame(normal: jax.Array, axis: jax.Array) -> jax.Array:
  """Returns rows [3, 3]: normal, capsule axis in the plane, their product."""
  tangent = axis - normal * jnp.dot(normal, axis)
  # If the capsule is upright up to rounding, use any tangent.
  upright = jnp.sum(jnp.square(tangent)) < jnp.finfo(tangent.dtype).eps
  other = jnp.where(jnp.abs(normal[1]) < 0.5, jnp.eye(3)[1], jnp.eye(3)[2])
  tangent = jnp.where(upright, other - normal * jnp.dot(normal, other), tangent)
  tangent /= jnp.linalg.norm(tangent)
  return jnp.stack([normal, tangent, jnp.cross(normal, tangent)])
