"""The command line of all benchmarks."""

from collections.abc import Callable
from typing import Any

from absl import app
from absl import flags

from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import tiny

ENV = flags.DEFINE_string(
  'env', 'half_cheetah', 'Environment to measure; for throughput.py also `all`.'
)
SCALE = flags.DEFINE_enum(
  'scale', 'quick', ['paper', 'quick', 'tiny'],
  'Sizes; for MB-MPO: paper, 5 models of 2x512 units, 100,000 imagined'
  ' transitions per phase, horizon 200; quick, a fifth of the transitions;'
  ' tiny, a smoke test.',
)  # fmt: skip
REPEATS = flags.DEFINE_integer(
  'repeats', 7, 'Repetitions of each measurement.', lower_bound=1
)
OUT = flags.DEFINE_string(
  'out', '', 'JSON file; by default one in benchmarks/results/ named after'
  ' benchmark, platform, environment and scale.',
)  # fmt: skip


def run(main: Callable[[list[str]], Any]) -> None:
  """Runs a benchmark's `main`; bad input exits with one line."""

  def guarded(argv: list[str]) -> None:
    if tiny.wanted():
      small = {'env': 'point', 'scale': 'tiny', 'repeats': 1}
      for name, value in small.items():
        flags.FLAGS[name].value = value
    with training_flags.one_line_errors():
      main(argv)

  for flag in (ENV, SCALE, REPEATS, OUT):
    flags.declare_key_flag(flag.name)  # shows it in the binary's --help
  quiet.quiet_logging(flags.FLAGS)  # Before absl raises it.
  app.run(guarded)
