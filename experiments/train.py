r"""Trains a policy by MB-MPO and keeps everything about it in one folder.

  python experiments/train.py --config=experiments/configs/half_cheetah.py \
    --config.meta.inner_lr=0.005 --workdir=runs/cheetah

The same command again continues a run that was interrupted.
"""

import pathlib
from collections.abc import Sequence

from absl import app

from mbmpo_jax.training import flags as training_flags

_DEFAULT = pathlib.Path(__file__).resolve().parent / 'configs'
_DEFAULT /= 'half_cheetah_quick.py'


def parse(argv: Sequence[str]) -> training_flags.Arguments:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    return training_flags.parse(argv, default_config=_DEFAULT)


def main(arguments: training_flags.Arguments) -> None:
  """Trains, or goes on training."""
  # Imported here: a mistyped flag need not wait for them.
  from mbmpo_jax.training import cache
  from mbmpo_jax.training import loop

  cache.enable()
  with training_flags.one_line_errors():
    loop.train(arguments.config, arguments.workdir)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
