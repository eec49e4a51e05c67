"""Keeps XLA from computing a chain of bodies over and over.

MJX multiplies the rotations of a chain joint by joint. XLA's CPU compiler fuses
the products, and computes those near the root anew for every one further out:
cost grows exponentially with the length of the chain. A step of 20 arms with
seven joints took 400 ms; it takes 0.6.
"""

import contextlib
from collections.abc import Iterator
from unittest import mock

import jax
from mujoco.mjx._src import math


@contextlib.contextmanager
def unfused_chains() -> Iterator[None]:
  """What is traced within computes every product of rotations once."""
  multiply = math.quat_mul

  def multiply_once(left: jax.Array, right: jax.Array) -> jax.Array:
    return jax.lax.optimization_barrier(multiply(left, right))

  with mock.patch.object(math, 'quat_mul', multiply_once):
    yield
