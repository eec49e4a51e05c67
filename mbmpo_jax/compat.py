"""Workarounds that let other libraries run with the installed JAX."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def brax_trainers() -> Iterator[None]:
  """A context in which brax's trainers run with the installed version of JAX.

    with compat.brax_trainers():
      make_policy, params, metrics = ppo.train(envs.make('hopper'), ...)

  brax 0.14 calls `jax.device_put_replicated`, which JAX 0.10 removed
  (google/brax#671). This context supplies a replacement if the function is
  missing. brax's normaliser broadcasts implicitly, so the context also allows
  rank promotion.
  """
  stand_in = getattr(jax, 'device_put_replicated', _device_put_replicated)
  with (
    mock.patch.object(jax, 'device_put_replicated', stand_in, create=True),
    jax.numpy_rank_promotion('allow'),
  ):
    yield


def _device_put_replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """Puts a copy of every leaf on every device, along a new leading axis."""
  mesh = jax.sharding.Mesh(np.array(devices), ('device',))
  spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('device'))

  def replicate(leaf: Any) -> jax.Array:
    return jax.device_put(jnp.stack([jnp.asarray(leaf)] * len(devices)), spec)

  return jax.tree.map(replicate, tree)
