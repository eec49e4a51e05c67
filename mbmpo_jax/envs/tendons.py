"""Tendons in double precision.

MJX counts a tendon's wraps in the default integer, which is 64 bits wide where
`jax_enable_x64` is set, and keeps them in 32 bits: a loop over steps, ours or
that of its Runge-Kutta, then refuses a state that changes its types.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax
from mujoco import mjx
from mujoco.mjx._src import smooth


@contextlib.contextmanager
def same_types() -> Iterator[None]:
  """What is traced within leaves the types of the state as they are."""
  original = smooth.tendon

  def tendon(model: mjx.Model, data: mjx.Data) -> mjx.Data:
    return jax.tree.map(
      lambda new, old: new.astype(old.dtype), original(model, data), data
    )

  with mock.patch.object(smooth, 'tendon', tendon):
    yield
