"""Differences between versions of JAX, for our code and other libraries."""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np


def scan_parts(
  params: Mapping[str, Any], inputs: Sequence[Any]
) -> tuple[list[Any], list[Any], list[Any]]:
  """Returns the constants, the carry and the sequences among a scan's inputs.

  Args:
    params: parameters of an equation of primitive `scan`.
    inputs: one value for each input of the equation or of its jaxpr.
  """
  if 'ft_in' in params:  # JAX 0.12 groups the inputs in a tree.
    parts = params['ft_in'].update(list(inputs)).unpack()
    consts, carry, sequences = map(list, parts)
    return consts, carry, sequences
  first = params['num_consts']
  second = first + params['num_carry']
  values = list(inputs)
  return values[:first], values[first:second], values[second:]


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
