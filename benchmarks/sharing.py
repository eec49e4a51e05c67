"""The flag for devices that share the work, and the CPU's devices."""

from absl import flags

from mbmpo_jax import backend
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.training import devices

NUM_DEVICES = flags.DEFINE_integer(
  'num_devices', None,
  'Number of devices that share the work, as in a training run; by default all'
  ' available devices, and on a CPU the largest number that divides the work'
  ' evenly and is at most the number of cores.',
  lower_bound=1,
)  # fmt: skip


def split_cpu() -> None:
  """Makes the CPU's devices; call it before JAX initialises."""
  count = NUM_DEVICES.value or devices.divide_cores(config_lib.Config())
  backend.split_cpu(count)
