"""Choices that depend on the platform: where a CPU needs other code than a GPU.

XLA's CPU compiler splits each operation over the threads, and an operation does
not reuse what the one before it left in a core's cache. On a CPU this package
therefore loops over work that other platforms do as one batch, makes each core
a device, and lays out arrays such that elementwise code vectorises.
`WORKSPACE.md` has the measurements behind each choice.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax import parallel

# The largest number of CPU devices; each device starts its own threads.
_MOST_OF_A_CPU = 256
_SIMULATED = '--xla_force_host_platform_device_count'


def in_turn_or_at_once(
  in_turn: Callable[..., Any], at_once: Callable[..., Any], *args: Any
) -> Any:
  """Returns `in_turn(*args)` on a CPU and `at_once(*args)` on other platforms.

  Both functions must compute the same result. `in_turn` loops over tasks or
  ensemble members, `at_once` batches them. If each of them does much work, the
  loop is faster on a CPU, because the data that one task or member reads
  repeatedly stays in the cache.
  """
  return jax.lax.platform_dependent(*args, cpu=in_turn, default=at_once)


def spreads_biases() -> bool:
  """Returns whether to broadcast a bias to the full shape before it is added.

  The broadcast bias costs memory. It pays on a CPU only, where XLA vectorises
  tanh(z + b) only if b has the shape of z.
  """
  return jax.default_backend() == 'cpu'


def whole_blocks() -> contextlib.AbstractContextManager[None]:
  """Returns a context in which random numbers are drawn with unsplit blocks.

  Use it for arrays that one device needs as a whole. Threefry makes two words
  per block. JAX's partitionable layout discards one of them, so that each
  device can draw its part of an array. In this context both words are used. The
  numbers differ from those drawn outside the context.
  """
  return jax.threefry_partitionable(False)


def is_cpu(mesh: jax.sharding.Mesh | None) -> bool:
  """Returns whether a mesh is made of CPU devices.

  Args:
    mesh: the mesh; `None` stands for the first local device.
  """
  first = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]
  return first.platform == 'cpu'


def fits_on_one(mesh: jax.sharding.Mesh | None) -> bool:
  """Returns whether a fit of the models is faster on one device than on all.

  It is faster if the devices are the cores of one CPU and the mesh does not
  divide the ensemble members. In that case the devices would split the rows of
  each minibatch and synchronise at every gradient step.
  """
  if mesh is None or jax.process_count() > 1:
    return False
  return is_cpu(mesh) and parallel.size(mesh, parallel.MODELS) == 1


def num_cores() -> int:
  """Returns the number of CPU cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # Not on a Mac.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def split_cpu(num_devices: int) -> None:
  """Makes `num_devices` JAX devices of the CPU; call it before JAX initialises.

  The devices share the cores. At most 256 are made. The call has no effect on
  other platforms, and none if XLA_FLAGS already sets the number of CPU devices.
  """
  if _SIMULATED not in os.environ.get('XLA_FLAGS', ''):
    jax.config.update('jax_num_cpu_devices', min(num_devices, _MOST_OF_A_CPU))


def compiler_options(sharding: jax.sharding.Sharding) -> dict[str, str]:
  """Returns XLA options for a program whose arguments have this sharding.

  If every core of a CPU is a device, running operations concurrently within one
  device gains nothing. The memory-optimised scheduler runs them in sequence and
  reuses their buffers, which then stay in the core's cache.
  """
  count = len(sharding.addressable_devices)
  if jax.default_backend() == 'cpu' and count > 1 and count >= num_cores():
    return {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}
  return {}
