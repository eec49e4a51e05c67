"""Fixes MJX's tendons in double precision.

MJX computes the number of a tendon's wraps in JAX's default integer type, which
has 64 bits if `jax_enable_x64` is set, but stores it in 32 bits. A loop over
steps, as in this package or in MJX's Runge-Kutta integrator, then fails because
the types of the state change.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax
from mujoco import mjx
from mujoco.mjx._src import smooth


@contextlib.contextmanager
def same_types() -> Iterator[None]:
  """A context in which traced code keeps the types of the physics state."""
  original = smooth.tendon

  def tendon(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    return jax.tree.map(
      lambda new, old: new.astype(old.dtype), original(model, data), data
    )

  with mock.patch.object(smooth, 'tendon', tendon):
    yield
