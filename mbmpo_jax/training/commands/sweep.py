r"""Trains with several hyperparameter values and seeds in one program.

  mbmpo sweep mbmpo/point --sweep.meta.inner_lr=0.001,0.01,0.1 \
    --num_seeds=4 --workdir=runs/sweep

Every combination of values is a setting, and every setting runs with every
seed. All runs are one program, sharded over all devices of the host; on a CPU
there is one device per core, as far as the number of runs divides. The same
command resumes an interrupted sweep; stopping is as for train.py.
"""

from collections.abc import Sequence

from absl import app

from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import presets
from mbmpo_jax.training.launch import sweep_flags

_DEFAULT = presets.named('mbmpo/point')


def parse(argv: Sequence[str]) -> sweep_flags.Arguments:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    return sweep_flags.parse(argv, default_config=_DEFAULT)


def main(arguments: sweep_flags.Arguments) -> None:
  """Trains, or resumes training."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax import backend
  from mbmpo_jax.training import devices
  from mbmpo_jax.training import signals
  from mbmpo_jax.training import sweep
  from mbmpo_jax.training.launch import cache

  cache.enable()
  grid, workdir, num_devices, debug_nans = arguments
  num_runs = len(grid.runs())
  with training_flags.one_line_errors():
    if debug_nans and num_devices is None:
      num_devices = 1
    backend.split_cpu(num_devices or devices.divide_cores_by_run(num_runs))
    imports.run()  # After the devices are made, because it may use JAX.
    mesh = devices.make_run_mesh(num_runs, num_devices)
    with signals.exiting() as stop:
      sweep.sweep(grid, workdir, mesh=mesh, stop=stop, debug_nans=debug_nans)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
