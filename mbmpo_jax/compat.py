"""What other libraries need to run beside the JAX of today."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np


@contextlib.contextmanager
def brax_trainers() -> Iterator[None]:
  """Within it, brax's trainers run with the JAX that is installed.

    with compat.brax_trainers():
      make_policy, params, metrics = ppo.train(envs.make('hopper'), ...)

  brax 0.14 calls `jax.device_put_replicated`, which JAX 0.10 removed
  (google/brax#671): a stand-in takes its place where it is missing. And its
  normaliser broadcasts implicitly, which is allowed whatever the setting.
  """
  stand_in = getattr(jax, 'device_put_replicated', _device_put_replicated)
  with (
    mock.patch.object(jax, 'device_put_replicated', stand_in, create=True),
    jax.numpy_rank_promotion('allow'),
  ):
    yield


def _device_put_replicated(tree: Any, devices: Sequence[jax.Device]) -> Any:
  """A copy of every leaf on every device, along a new leading axis."""
  mesh = jax.sharding.Mesh(np.array(devices), ('device',))
  spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('device'))

  def replicate(leaf: Any) -> jax.Array:
    return jax.device_put(jnp.stack([jnp.asarray(leaf)] * len(devices)), spec)

  return jax.tree.map(replicate, tree)
