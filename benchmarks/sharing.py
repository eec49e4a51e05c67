"""Devices that share the work of what is measured, as in a training run."""

from typing import NamedTuple

import jax
from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax.training import devices

NUM_DEVICES = flags.DEFINE_integer(
  'num_devices', None,
  'Devices that share the work, as in a training run: by default all there are,'
  ' on a CPU one for each core as far as the tasks divide.',
  lower_bound=1,
)  # fmt: skip


class Sharing(NamedTuple):
  """The devices, and where a state lies on them."""

  mesh: jax.sharding.Mesh | None
  fit_on_one: bool
  on_all: jax.sharding.Sharding
  on_one: jax.sharding.Sharding

  @property
  def num_devices(self) -> int:
    """How many devices there are."""
    return 1 if self.mesh is None else self.mesh.size

  def home(self, phase: str) -> jax.sharding.Sharding:
    """Where the state lies in a phase."""
    return self.on_one if phase == 'fit' and self.fit_on_one else self.on_all


def split_cpu() -> None:
  """Makes the CPU's devices; before anything else touches JAX."""
  count = NUM_DEVICES.value or devices.divide_cores(config_lib.Config())
  devices.split_cpu(count)


def over(config: config_lib.Config, num_devices: int | None) -> Sharing:
  """All devices, or the first `num_devices`, as `devices.make_mesh` has them.

  Raises:
    DeviceError: as there.
  """
  mesh = devices.make_mesh(config, num_devices)
  return Sharing(
    mesh,
    devices.fits_on_one(mesh),
    devices.replicated(mesh),
    devices.replicated(None),
  )
