"""Every choice that depends on the platform: what a CPU needs otherwise.

XLA's CPU compiler shares single operations out among threads and keeps nothing
in a core's cache from one operation to the next. So on a CPU, work is done in
turn where another platform does it all at once; each core is made a device of
its own; and arrays are laid out so that elementwise code vectorises.
`WORKSPACE.md` has the measurements behind each choice.
"""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import jax

from mbmpo_jax import parallel

# Each has threads of its own.
_MOST_OF_A_CPU = 256
_SIMULATED = '--xla_force_host_platform_device_count'


def in_turn_or_at_once(
  in_turn: Callable[..., Any], at_once: Callable[..., Any], *args: Any
) -> Any:
  """`in_turn(*args)` on a CPU, `at_once(*args)` elsewhere; the results agree.

  For tasks or members that each do much work: in turn, what one of them reads
  again and again is still in the cache.
  """
  return jax.lax.platform_dependent(*args, cpu=in_turn, default=at_once)


def spreads_biases() -> bool:
  """Whether a bias as large as what it is added to is worth its memory.

  XLA's CPU compiler vectorises tanh(z + b) only then.
  """
  return jax.default_backend() == 'cpu'


def whole_blocks() -> contextlib.AbstractContextManager[None]:
  """Within it, random numbers are drawn for one device that needs all of them.

  Threefry makes two words per block. JAX's partitionable layout throws one of
  them away, so that a device can draw a part of an array alone; here both are
  used. The numbers differ from those drawn outside.
  """
  return jax.threefry_partitionable(False)


def is_cpu(mesh: jax.sharding.Mesh | None) -> bool:
  """Whether the devices of a mesh, or the one there is without, are a CPU's."""
  first = jax.local_devices()[0] if mesh is None else mesh.devices.flat[0]
  return first.platform == 'cpu'


def fits_on_one(mesh: jax.sharding.Mesh | None) -> bool:
  """Whether a fit is faster on one device of the mesh than on all.

  It is on devices made of the cores of one CPU, unless they have members of
  their own: to share the rows of a minibatch, they meet at every gradient step.
  """
  if mesh is None or jax.process_count() > 1:
    return False
  return is_cpu(mesh) and parallel.size(mesh, parallel.MODELS) == 1


def num_cores() -> int:
  """Cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):  # Not on a Mac.
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def split_cpu(num_devices: int) -> None:
  """Makes so many devices of the CPU; before anything else touches JAX.

  They share the cores; more than 256 are not made. Without effect on other
  devices, and where XLA_FLAGS says how many there are.
  """
  if _SIMULATED not in os.environ.get('XLA_FLAGS', ''):
    jax.config.update('jax_num_cpu_devices', min(num_devices, _MOST_OF_A_CPU))


def compiler_options(sharding: jax.sharding.Sharding) -> dict[str, str]:
  """What to compile a program with whose arguments lie like this.

  Where every core of a CPU is a device, it gains nothing by operations side by
  side, for which XLA would keep their buffers apart: reused, they stay in the
  core's cache.
  """
  count = len(sharding.addressable_devices)
  if jax.default_backend() == 'cpu' and count > 1 and count >= num_cores():
    return {'xla_cpu_scheduler_type': 'CPU_SCHEDULER_TYPE_MEMORY_OPTIMIZED'}
  return {}
