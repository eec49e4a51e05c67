"""Contact frames of capsules on planes, as MuJoCo has them.

MuJoCo lays the first tangent of such a contact along the capsule. MJX does so
too, but takes a fixed axis where the capsule stands steeper than 60 degrees
(google-deepmind/mujoco#2774). A pyramidal friction cone depends on its axes:
the ant's accelerations, its shins pointing anywhere, were off by up to 19.
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
  """What is traced within has MuJoCo's contact frames."""
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
  """Rows [3, 3]: the normal, the axis within the plane, their product."""
  tangent = axis - normal * jnp.dot(normal, axis)
  # Upright to rounding: any direction will do.
  upright = jnp.sum(jnp.square(tangent)) < jnp.finfo(tangent.dtype).eps
  other = jnp.where(jnp.abs(normal[1]) < 0.5, jnp.eye(3)[1], jnp.eye(3)[2])
  tangent = jnp.where(upright, other - normal * jnp.dot(normal, other), tangent)
  tangent /= jnp.linalg.norm(tangent)
  return jnp.stack([normal, tangent, jnp.cross(normal, tangent)])
