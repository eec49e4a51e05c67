r"""Learns a policy from logged data, without access to an environment.

  mbmpo offline mbmpo/offline --data=robot.npz --action_low=-2 --action_high=2 \
    --task=my_tasks:pendulum --workdir=runs/robot --export=policy.bin

--data is an .npz file, an HDF5 file in D4RL's layout, or a Minari data set: its
folder, or the main_data.hdf5 in it. Problems in the data are reported, one line
each. Models are fitted to the data, their multi-step error is reported on
held-out episodes, and the policy is improved in the models.

--task is an `external.Task` in an importable module; it defines reward and
termination. Without it, the models learn to predict both. The same command
resumes an interrupted run; stopping, exit codes and the folder are as for
train.py.
"""

import pathlib
from collections.abc import Sequence
from typing import Any

from absl import app
from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax import quiet
from mbmpo_jax.training.launch import attributes
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import log_flags
from mbmpo_jax.training.launch import presets
from mbmpo_jax.training.launch import waits

_DEFAULT = presets.named('mbmpo/offline')
_DATA = flags.DEFINE_string(
  'data',
  None,
  'Log to learn from: an .npz file, an .hdf5 file, or the folder of a Minari'
  ' data set.',
)
_TASK = flags.DEFINE_string(
  'task',
  None,
  'module:attribute of an external.Task with reward and termination; by'
  ' default the models learn to predict both.',
)
_HELD_OUT = flags.DEFINE_float(
  'held_out', 0.1,
  'Minimum share of the rows to hold out from training, in whole episodes.',
  lower_bound=0.001, upper_bound=0.9,
)  # fmt: skip
_EXPORT = flags.DEFINE_string(
  'export',
  None,
  'File to which the best policy is exported by jax.export; the exported policy'
  ' acts greedily.',
)
_FURTHER = ('data', 'task', 'held_out', 'export', *log_flags.NAMES)


def parse(argv: Sequence[str]) -> training_flags.Arguments:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    log_flags.define(flags.FLAGS)
    arguments = training_flags.parse(
      argv, default_config=_DEFAULT, devices=False, further=_FURTHER
    )
    if not _DATA.value:
      raise config_lib.ConfigError('--data: is missing')
    return arguments


def main(arguments: training_flags.Arguments) -> None:
  """Learns, or resumes learning."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax.training import external
  from mbmpo_jax.training import logs
  from mbmpo_jax.training import signals
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.storage import saved_policy

  cache.enable()
  with training_flags.one_line_errors():
    imports.run()
    task: Any = external.Task()
    if _TASK.value is not None:
      task = attributes.load('task', _TASK.value)
    actions, limit = log_flags.read(flags.FLAGS)
    with signals.exiting() as stop:
      logs.train(
        _DATA.value or '',
        task,
        arguments.config,
        arguments.workdir,
        actions=actions,
        max_episode_steps=limit,
        held_out=_HELD_OUT.value,
        stop=stop,
      )
    if _EXPORT.value and not stop.obeyed:
      path = pathlib.Path(_EXPORT.value)
      with waits.announced('exporting the policy'):
        policy = saved_policy.load_policy(arguments.workdir)
        saved_policy.export_policy(policy, path)
      print(f'{path}: the best policy, {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
