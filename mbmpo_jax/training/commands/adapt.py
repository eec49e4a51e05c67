"""Adapts a trained policy in the real environment by policy-gradient steps.

  mbmpo adapt runs/cheetah --bodies=nominal,mass=0.5,mass=2

Each step first collects --rollouts episodes. The comparison includes the given
policy, a second one (by default the zoo's ME-TRPO policy for the same
environment, if it exists) and an untrained one, each on bodies with other
masses, damping and friction. A policy is given by the folder of a run or of a
zoo entry. The same command resumes an interrupted comparison.
"""

import pathlib
from collections.abc import Sequence

from absl import app
from absl import flags

from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.launch import waits

_WORKDIR = flags.DEFINE_string(
  'workdir', None, 'Folder of a run or of an entry of the zoo.'
)
_OTHER = flags.DEFINE_string(
  'other',
  None,
  'Folder of another policy for the same environment; by default'
  ' zoo/me_trpo/<environment>, if it exists.',
)
_BODIES = flags.DEFINE_list(
  'bodies',
  [],
  'Bodies to adapt on, separated by commas: nominal, or factors of mass,'
  ' damping, friction and gear, such as mass=2 or mass=2+friction=0.5. By'
  ' default nominal, and in MJX environments also several others.',
)
_STEPS = flags.DEFINE_integer(
  'steps',
  20,
  'Number of policy-gradient steps.',
  lower_bound=0,
  upper_bound=10_000,
)
_ROLLOUTS = flags.DEFINE_integer(
  'rollouts', 20, 'Number of episodes collected before each step.',
  lower_bound=2, upper_bound=100_000,
)  # fmt: skip
_INNER_LR = flags.DEFINE_float(
  'inner_lr', 1e3, 'Upper bound of the step size alpha.', lower_bound=1e-9
)
_MAX_KL = flags.DEFINE_float(
  'max_kl', 0.01, 'Upper bound of the KL divergence of a step, in nats.',
  lower_bound=1e-9,
)  # fmt: skip
_NUM_SEEDS = flags.DEFINE_integer(
  'num_seeds',
  3,
  'Number of seeds for each policy and body.',
  lower_bound=1,
  upper_bound=1000,
)
_OUT = flags.DEFINE_string(
  'out',
  None,
  'Folder for all results; by default a folder in runs/adapt, named after'
  ' --workdir.',
)
_NAMES = (
  *('workdir', 'other', 'bodies', 'steps', 'rollouts'),
  *('inner_lr', 'max_kl', 'num_seeds', 'out'),
)


def parse(argv: Sequence[str]) -> None:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    training_flags.parse_defined(
      argv, _NAMES, required=['workdir'], of_run=True
    )


def main(_: None) -> None:
  """Adapts the policies and shows the results."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  from mbmpo_jax.training import adaptation
  from mbmpo_jax.training.figures import adaptation as figure
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.storage import saved_policy

  cache.enable()
  with training_flags.one_line_errors():
    workdir = _WORKDIR.value or ''
    for body in _BODIES.value:
      adaptation.factors(body)
    with waits.announced('reading the policies'):
      imports.run()
      saved = saved_policy.load_policy(workdir)
      place = _OTHER.value
      other = (
        figure.given_other(place)
        if place
        else figure.default_other(saved, workdir)
      )
      bodies = _BODIES.value or adaptation.default_bodies(saved.make_env())
    if other is None:
      print(
        'no other policy is compared: none of ME-TRPO in the zoo fits, and'
        ' --other is not given',
        flush=True,
      )
    settings = adaptation.Settings(
      num_steps=_STEPS.value,
      num_rollouts=_ROLLOUTS.value,
      inner_lr=_INNER_LR.value,
      max_kl=_MAX_KL.value,
    )
    num_seeds = _NUM_SEEDS.value
    if tiny.wanted():
      settings = adaptation.Settings(num_steps=2, num_rollouts=2)
      num_seeds = 2
    folder = pathlib.Path(workdir).resolve()
    root = pathlib.Path(
      _OUT.value or f'runs/adapt/{folder.parent.name}-{folder.name}'
    )
    found = figure.make(
      figure.starts(saved, workdir, other),
      tuple(dict.fromkeys(bodies)),
      settings,
      root,
      num_seeds=num_seeds,
      say=lambda line: print(line, flush=True),
    )
    figure.show(found, settings, root)


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
