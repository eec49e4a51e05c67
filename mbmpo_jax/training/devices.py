"""The devices of a run, and the mesh over all of them.

The devices may belong to several processes.
"""

import math

import jax
import numpy as np
from jax.experimental import multihost_utils

from mbmpo_jax import backend
from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import parallel

# The axis of `make_run_mesh`, and the sharding of stacked states [S, ...] on
# it.
RUNS = 'runs'
BY_RUN = jax.sharding.PartitionSpec(RUNS)


class DeviceError(errors.UserError, RuntimeError):
  """The requested devices do not exist, or cannot share the work."""


def join(
  coordinator_address: str | None = None,
  num_processes: int | None = None,
  process_id: int | None = None,
) -> None:
  """Makes this process one of several; call it before JAX initialises.

  Args:
    coordinator_address: host:port of process 0. Without it, all settings come
      from the cluster's environment variables, if `jax.distributed` supports
      the cluster: Slurm, Open MPI, Kubernetes, TPU pods.
    num_processes: number of processes.
    process_id: the index of this process, from 0.

  Raises:
    DeviceError: if the processes cannot connect.
  """
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  try:
    jax.distributed.initialize(coordinator_address, num_processes, process_id)
  except (RuntimeError, ValueError) as error:
    raise DeviceError(
      f'the processes of the run cannot connect ({error}); outside a known'
      ' cluster, give --coordinator_address, --num_processes and --process_id'
    ) from error


def divide_cores(config: config_lib.Experiment) -> int:
  """Returns how many devices to make of a CPU.

  It is the largest number up to the number of cores that divides the work, and
  1 for physics other than MJX, which cannot be sharded.
  """
  if config.env.physics != 'mjx':
    return 1
  shares = config.shares()
  return largest_divisor(shares.members * shares.tasks, backend.num_cores())


def divide_cores_by_run(num_runs: int) -> int:
  """Returns how many devices a sweep makes of a CPU.

  It is the largest number up to the number of cores that divides the runs.
  """
  return largest_divisor(num_runs, backend.num_cores())


def largest_divisor(work: int, most: int) -> int:
  """Returns the largest divisor of `work` up to `most`."""
  return max(size for size in range(1, most + 1) if work % size == 0)


def make_mesh(
  config: config_lib.Experiment, num_devices: int | None = None
) -> jax.sharding.Mesh | None:
  """Makes the mesh of `parallel` for the members and tasks of a configuration.

  For D devices, K members and P tasks per member, the axis `models` has gcd(D,
  K) devices and the axis `tasks` has D / gcd(D, K). These divide the work
  evenly whenever D divides K * P.

  Args:
    config: gives K and P by `config.shares()`.
    num_devices: D, the first of the available devices; by default all of them,
      or one if the work does not divide.

  Returns:
    The mesh, or `None` for one device.

  Raises:
    DeviceError: if D does not divide K * P, naming the numbers that do, or if
      fewer devices are available.
  """
  shares = config.shares()
  work = shares.members * shares.tasks
  available = jax.device_count()
  count = num_devices
  if count is None:
    count = available if work > 1 else jax.process_count()
  _check_available(count)
  if count % jax.process_count():
    raise DeviceError(
      f'--num_devices={count}: must be a multiple of {jax.process_count()},'
      ' the number of processes'
    )
  if work == 1 and count > 1:
    raise DeviceError(
      f'--num_devices={count}: must be 1, as {config.algorithm} does not divide'
      ' its work over devices'
    )
  if work % count:
    fitting = [
      str(size)
      for size in range(1, available + 1)
      if work % size == 0 and size % jax.process_count() == 0
    ]
    share = count // math.gcd(count, shares.members)
    members, tasks = shares.fields
    one_of = f'must be one of {", ".join(fitting)}, or ' * bool(fitting)
    raise DeviceError(
      f'--num_devices={count}: does not divide {work} tasks,'
      f' {members}={shares.members} times {tasks}={shares.tasks}:'
      f' {one_of}{tasks} must be a multiple of {share}'
    )
  if count == 1:
    return None
  models = math.gcd(count, shares.members)
  return jax.make_mesh(
    (models, count // models),
    parallel.AXES,
    axis_types=(jax.sharding.AxisType.Auto,) * 2,
    devices=_first(count),
  )


def make_run_mesh(
  num_runs: int, num_devices: int | None = None
) -> jax.sharding.Mesh | None:
  """Makes the mesh of a sweep, on which each device has equally many runs.

  Args:
    num_runs: number of runs in the sweep.
    num_devices: the first of the available devices; by default the largest
      number that divides the runs.

  Returns:
    The mesh with the axis `RUNS`, or `None` for one device.

  Raises:
    DeviceError: if the number does not divide the runs, naming the numbers that
      do; if fewer devices are available; or if there are several processes.
  """
  if jax.process_count() > 1:
    raise DeviceError(
      f'a sweep in {jax.process_count()} processes: must be in one process'
    )
  available = jax.device_count()
  count = num_devices
  if count is None:
    count = largest_divisor(num_runs, available)
  _check_available(count)
  if num_runs % count:
    fitting = [
      str(size) for size in range(1, available + 1) if num_runs % size == 0
    ]
    raise DeviceError(
      f'--num_devices={count}: does not divide {num_runs} runs: must be one of'
      f' {", ".join(fitting)}'
    )
  if count == 1:
    return None
  return jax.make_mesh(
    (count,),
    (RUNS,),
    axis_types=(jax.sharding.AxisType.Auto,),
    devices=jax.devices()[:count],
  )


def check_run_mesh(mesh: jax.sharding.Mesh | None, num_runs: int) -> None:
  """Checks that a sweep's mesh was made by `make_run_mesh` for `num_runs`.

  Raises:
    ConfigError: if it was not.
  """
  if mesh is None:
    return
  if mesh.axis_names != (RUNS,) or num_runs % mesh.size:
    raise config_lib.ConfigError(
      f'mesh: {dict(mesh.shape)} must have one axis, {RUNS!r}, that divides the'
      f' {num_runs} runs; see training.devices.make_run_mesh'
    )


def check_debug_nans(mesh: jax.sharding.Mesh | None, debug_nans: bool) -> None:
  """Checks that the search for non-finite numbers runs on one device.

  Raises:
    ConfigError: if there are several.
  """
  if debug_nans and mesh is not None:
    raise config_lib.ConfigError(
      f'--debug_nans: must be on one device (--num_devices=1), not {mesh.size}'
    )


def replicated(mesh: jax.sharding.Mesh | None) -> jax.sharding.Sharding:
  """Returns the sharding of a state between two phases."""
  if mesh is None:
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
  return jax.sharding.NamedSharding(mesh, parallel.REPLICATED)


def copies(mesh: jax.sharding.Mesh | None) -> int:
  """Returns how many devices of the mesh share one memory.

  On a CPU these are its local devices; on other platforms each device has its
  memory.
  """
  if mesh is None or not backend.is_cpu(mesh):
    return 1
  return len(mesh.local_devices)


def by_run(mesh: jax.sharding.Mesh | None) -> jax.sharding.Sharding:
  """Returns the sharding of the stacked states of a sweep."""
  if mesh is None:
    return replicated(None)
  return jax.sharding.NamedSharding(mesh, BY_RUN)


def is_first_process() -> bool:
  """Whether this process writes the files that only one may write."""
  return jax.process_index() == 0


def any_process(value: bool) -> bool:
  """Whether `value` is true in any process; all processes must call it."""
  if jax.process_count() == 1:
    return value
  return bool(np.any(multihost_utils.process_allgather(np.asarray(value))))


def wait_for_all(name: str) -> None:
  """Waits until every process has called it; `name` identifies the call."""
  multihost_utils.sync_global_devices(name)


def _check_available(count: int) -> None:
  available = jax.device_count()
  if not 1 <= count <= available:
    raise DeviceError(
      f'--num_devices={count}: must be within [1, {available}], the number of'
      ' available devices'
    )


def _first(count: int) -> list[jax.Device]:
  """Returns `count` devices, equally many from every process."""
  share = count // jax.process_count()
  return [
    device
    for process in range(jax.process_count())
    for device in jax.local_devices(process_index=process)[:share]
  ]
