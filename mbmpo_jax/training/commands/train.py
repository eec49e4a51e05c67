r"""Trains a policy and writes all files of the run into one folder.

  mbmpo train mbmpo/half_cheetah --config.meta.inner_lr=0.005 \
    --workdir=runs/cheetah

The first argument, or --config, is a preset of `experiments/configs/`,
`<algorithm>/<preset>`, or a file of your own with a `get_config()`.
--import=my_module first runs a module of yours, which registers environments.

The same command resumes an interrupted run. --branch_from=runs/other begins a
new run from a checkpoint of another one, under other settings.

The work is sharded over all devices of the host; on a CPU there is one device
per core. To use several hosts, run the command on each with --distributed on a
cluster, or otherwise with --coordinator_address, --num_processes and
--process_id.

On SIGTERM or Ctrl-C, the current iteration is finished and saved, and the exit
code is 75; a second signal stops at once, with exit code 128 + its number. Bad
input, a full disk and similar errors print one line and exit with 2.
"""

from collections.abc import Sequence

from absl import app
from absl import flags

from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import presets

_DEFAULT = presets.named('mbmpo/half_cheetah_quick')
_BRANCH_FROM = flags.DEFINE_string(
  'branch_from',
  None,
  'Folder of another run, from whose newest checkpoint this run begins: with'
  ' its state, data and metrics, under the hyperparameters given here.',
)
_BRANCH_AT = flags.DEFINE_integer(
  'branch_at',
  None,
  'Begins from the checkpoint after this iteration instead of the newest.'
  ' run.keep_checkpoints says how many of them a run keeps.',
  lower_bound=0,
)
_PROFILE = flags.DEFINE_boolean(
  'profile',
  False,
  "Whether to write a jax.profiler trace of one iteration to the run's folder:"
  ' the first iteration in which nothing is compiled.',
)


def parse(argv: Sequence[str]) -> training_flags.Arguments:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    return training_flags.parse(
      argv,
      default_config=_DEFAULT,
      further=('profile', 'branch_from', 'branch_at'),
    )


def main(arguments: training_flags.Arguments) -> None:
  """Trains, or resumes training."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax import backend
  from mbmpo_jax import config as config_lib
  from mbmpo_jax.training import branching
  from mbmpo_jax.training import devices
  from mbmpo_jax.training import loop
  from mbmpo_jax.training import signals
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.storage import checkpoint
  from mbmpo_jax.training.storage import folder

  cache.enable()
  config, workdir, where, debug_nans = arguments
  with training_flags.one_line_errors():
    if where.distributed:
      devices.join(
        where.coordinator_address, where.num_processes, where.process_id
      )
    else:
      cpu_devices = 1 if debug_nans else devices.divide_cores(config)
      backend.split_cpu(where.num_devices or cpu_devices)
    imports.run()  # After the devices are made, because it may use JAX.
    if _BRANCH_AT.value is not None and not _BRANCH_FROM.value:
      raise config_lib.ConfigError(
        f'--branch_at={_BRANCH_AT.value}: must be left out without'
        ' --branch_from'
      )
    # A branch that has checkpoints no longer needs the other run.
    begins = not checkpoint.steps(folder.RunFolder(workdir).checkpoints)
    branch = (
      branching.load(_BRANCH_FROM.value, _BRANCH_AT.value)
      if _BRANCH_FROM.value and begins
      else None
    )
    mesh = devices.make_mesh(config, where.num_devices)
    with signals.exiting() as stop:
      loop.train(
        config,
        workdir,
        mesh=mesh,
        stop=stop,
        profile=_PROFILE.value,
        debug_nans=debug_nans,
        branch=branch,
      )


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
