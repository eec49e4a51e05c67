r"""Trains and evaluates in a Gymnasium environment.

  mbmpo external mbmpo/gymnasium --gym=Pendulum-v1 \
    --task=my_tasks:pendulum --workdir=runs/pendulum

--task is an `external.Task` in an importable module; it defines reward and
termination. Without it, the models learn to predict both. --config.env is
ignored. The same command resumes an interrupted run; stopping, exit codes and
the folder are as for train.py.
"""

from collections.abc import Sequence
from typing import Any

from absl import app
from absl import flags

from mbmpo_jax import config as config_lib
from mbmpo_jax import quiet
from mbmpo_jax.training.launch import attributes
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import presets

_DEFAULT = presets.named('mbmpo/gymnasium')
_GYM = flags.DEFINE_string('gym', None, 'Id of the Gymnasium environment.')
_TASK = flags.DEFINE_string(
  'task',
  None,
  'module:attribute of an external.Task with reward and termination; by'
  ' default the models learn to predict both.',
)


def parse(argv: Sequence[str]) -> training_flags.Arguments:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    arguments = training_flags.parse(
      argv, default_config=_DEFAULT, devices=False, further=('gym', 'task')
    )
    if not _GYM.value:
      raise config_lib.ConfigError('--gym: is missing')
    return arguments


def main(arguments: training_flags.Arguments) -> None:
  """Trains, or resumes training."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax.training import external
  from mbmpo_jax.training import signals
  from mbmpo_jax.training.external import gym
  from mbmpo_jax.training.launch import cache

  cache.enable()
  with training_flags.one_line_errors():
    imports.run()
    make_env = gym.by_id(_GYM.value or '')
    task: Any = external.Task()
    if _TASK.value is not None:
      task = attributes.load('task', _TASK.value)
    with signals.exiting() as stop:
      external.train(
        make_env, task, arguments.config, arguments.workdir, stop=stop
      )
    if not stop.obeyed:
      returns, _ = external.evaluate(arguments.workdir, make_env, task=task)
      print(f'20 episodes of {_GYM.value}: return {returns.mean():.4g} mean')


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
