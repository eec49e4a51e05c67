r"""Writes a page that plays the policy of a run in any browser.

  mbmpo render runs/cheetah --out=cheetah.html

The run's folder determines the environment and the episode length. The page
needs no network. --mp4=cheetah.mp4 also writes a video, if there is a GL
library.
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
  'workdir',
  None,
  'Folder of a run; for a sweep, the folder of one of its runs.',
)
_OUT = flags.DEFINE_string(
  'out', None, "HTML file to write; by default policy.html in the run's folder."
)
_MP4 = flags.DEFINE_string(
  'mp4', None, 'Video file to write in addition to the page.'
)
_WHICH = flags.DEFINE_enum(
  'which', 'best', ['best', 'latest'],
  'Which policy: the one with the best evaluation, or that of the newest'
  ' checkpoint.',
)  # fmt: skip
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Seed of initial states and actions.',
  lower_bound=0,
  upper_bound=2**31 - 1,
)
_STEPS = flags.DEFINE_integer(
  'steps', None,
  'Number of steps; by default collect.episode_length of the run.',
  lower_bound=1,
)  # fmt: skip
_NAMES = ('workdir', 'out', 'mp4', 'which', 'seed', 'steps')


def parse(argv: Sequence[str]) -> None:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    training_flags.parse_defined(
      argv, _NAMES, required=['workdir'], of_run=True
    )


def main(_: None) -> None:
  """Writes the page, and a video if requested."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.storage import folder
  from mbmpo_jax.training.storage import saved_policy
  from mbmpo_jax.training.storage import zoo
  from mbmpo_jax.training.viewing import render
  from mbmpo_jax.training.viewing import video

  cache.enable()
  workdir = pathlib.Path(_WORKDIR.value or '')
  with training_flags.one_line_errors():
    page = pathlib.Path(_OUT.value or folder.RunFolder(workdir).page)
    for path in (page, *([pathlib.Path(_MP4.value)] if _MP4.value else [])):
      zoo.check_page(path, workdir)
    with waits.announced('reading the policy'):
      imports.run()
      policy = saved_policy.load_policy(workdir, _WHICH.value)
    with waits.announced('compiling and playing an episode'):
      recording = render.record_policy(
        policy, seed=_SEED.value, num_steps=_STEPS.value
      )
    title = render.title(policy, _WHICH.value)
    render.write_page(recording, page, title=title)
    print(page)
    if _MP4.value:
      with waits.announced('drawing the video'):
        video.write_video(recording, pathlib.Path(_MP4.value))
      print(_MP4.value)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
