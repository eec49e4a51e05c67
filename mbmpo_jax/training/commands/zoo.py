r"""Adds policies of runs to the zoo, and replays policies of the zoo.

  mbmpo zoo runs/cheetah

evaluates the best policy of a run and writes it to zoo/<algorithm>/<env>, or to
the folder given by --out. Without --workdir, every entry in --out, by default
the whole zoo, is evaluated again; the exit code is 2 if one of them does not
reach its recorded return.
"""

import pathlib
from collections.abc import Sequence

from absl import app
from absl import flags

from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import waits

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of the run whose best policy is added to the zoo.'
)
_OUT = flags.DEFINE_string(
  'out',
  None,
  'With --workdir: folder of the new entry; an existing entry is replaced.'
  ' Without --workdir: folder of the entries to evaluate again.',
)
_EPISODES = flags.DEFINE_integer(
  'episodes', None,
  'Number of episodes; by default 100 for a new entry, and as many as recorded'
  ' for existing entries.',
  lower_bound=2, upper_bound=100_000,
)  # fmt: skip
_SEED = flags.DEFINE_integer(
  'seed', 0, 'Seed of the evaluation of a new entry.',
  lower_bound=0, upper_bound=2**31 - 1,
)  # fmt: skip
_NAMES = ('workdir', 'out', 'episodes', 'seed')


def parse(argv: Sequence[str]) -> None:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    training_flags.parse_defined(argv, _NAMES, of_run=True)


def main(_: None) -> None:
  """Adds a policy, or replays saved policies."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax.training import kept
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.storage import zoo

  cache.enable()
  with training_flags.one_line_errors():
    imports.run()
    if _WORKDIR.value:
      out = pathlib.Path(_OUT.value) if _OUT.value else None
      with waits.announced('playing the policy'):
        made = kept.add(
          pathlib.Path(_WORKDIR.value),
          out,
          episodes=_EPISODES.value or 100,
          seed=_SEED.value,
        )
      print(made.sentence)
      return
    altered = []
    for root in zoo.entries(pathlib.Path(_OUT.value or 'zoo')):
      with waits.announced(f'playing {root}'):
        found = kept.replay(root, episodes=_EPISODES.value)
      print(found.sentence, flush=True)
      if not found.agrees:
        altered.append(str(root))
    if altered:
      raise zoo.ZooError(
        f'{", ".join(altered)}: the return must be the recorded one, within 4'
        ' standard errors plus 0.1%'
      )


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
