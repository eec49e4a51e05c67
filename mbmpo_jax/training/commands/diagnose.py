r"""Reports how accurate the models of a run are.

  mbmpo diagnose runs/cheetah --steps=50

Loads the newest checkpoint of a run with models. Reports the error of open-loop
predictions, in which predicted observations are fed back, over 1 to --steps
steps for each dimension of the observation, beside two trivial predictors: the
current state, and the mean of the data. The data are new episodes of the
policy; for a run that learned from a log, the rows that it held out; for
another environment outside JAX, episodes that the models were fitted to. --data
compares with another log.

A table is printed; open_loop.json and open_loop.png are written to the run's
folder, or to that of --out.
"""

import pathlib
from collections.abc import Sequence

from absl import app
from absl import flags

from mbmpo_jax import config
from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import log_flags
from mbmpo_jax.training.launch import waits

_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of a run; for a sweep, the folder of one of its runs.',
)
_DATA = flags.DEFINE_string(
  'data',
  None,
  'Log to compare with the predictions: an .npz file, an .hdf5 file, or the'
  ' folder of a Minari data set.',
)
_STEPS = flags.DEFINE_integer(
  'steps', 50, 'Number of steps to predict ahead.', lower_bound=1,
  upper_bound=10_000,
)  # fmt: skip
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Seed of all random choices.', lower_bound=0, upper_bound=2**31 - 1
)
_OUT = flags.DEFINE_string(
  'out',
  None,
  "Existing folder for the numbers and the picture; by default the run's"
  ' folder.',
)
_NAMES = ('workdir', 'data', 'steps', 'seed', 'out', *log_flags.NAMES)


def parse(argv: Sequence[str]) -> None:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    log_flags.define(flags.FLAGS)
    training_flags.parse_defined(
      argv, _NAMES, required=['workdir'], of_run=True
    )


def main(_: None) -> None:
  """Prints the table and writes the files."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax.training import logs
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.logs import diagnosis_report
  from mbmpo_jax.training.reporting import output

  cache.enable()
  with training_flags.one_line_errors():
    imports.run()
    out = pathlib.Path(_OUT.value or _WORKDIR.value or '')
    if not out.is_dir():
      flag = 'out' if _OUT.value else 'workdir'
      raise config.ConfigError(f'--{flag}={out}: must be an existing folder')
    actions = log_flags.read(flags.FLAGS)[0]
    with waits.announced('predicting'):
      found = logs.diagnose(
        _WORKDIR.value or '',
        data=_DATA.value,
        actions=actions,
        steps=_STEPS.value,
        seed=_SEED.value,
      )
    diagnosis_report.report(found, out, output.say)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
