r"""Evaluates the policy of a run: returns of new episodes, in one line.

  mbmpo evaluate runs/cheetah --episodes=100

The run's folder determines the environment and the episode length. Actions are
sampled, as in the run's evaluations; with --greedy, they are not.
--export=policy.bin also writes the policy, as a program for
`jax.export.deserialize`.

  mbmpo evaluate runs/cartpole --tasks=test --context=50

evaluates on the fixed test tasks of a task family, each held fixed for its
episodes; --tasks='1.5,0.8;1,1' on two tasks of these numbers. --context=50
first collects 50 transitions in each task, to which the algorithm adapts with
its last saved state.
"""

import pathlib
import zipfile
from collections.abc import Sequence

from absl import app
from absl import flags

from mbmpo_jax import config
from mbmpo_jax import quiet
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.launch import waits

_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder of a run; for a sweep, the folder of one of its runs.',
)
_WHICH = flags.DEFINE_enum(
  'which', 'best', ['best', 'latest'],
  'Which policy: the one with the best evaluation, or that of the newest'
  ' checkpoint.',
)  # fmt: skip
_EPISODES = flags.DEFINE_integer(
  'episodes', None,
  'Number of episodes, with --tasks for each task; by default'
  ' run.eval_episodes of the run.',
  lower_bound=1, upper_bound=10**6,
)  # fmt: skip
_SEED = flags.DEFINE_integer(
  'seed',
  0,
  'Seed of initial states and actions.',
  lower_bound=0,
  upper_bound=2**31 - 1,
)
_EXPORT = flags.DEFINE_string(
  'export',
  None,
  'File to which the policy is exported by jax.export; the exported policy acts'
  ' greedily.',
)
_TASKS = flags.DEFINE_string(
  'tasks', None,
  "Evaluates on tasks of a family, each held fixed, instead of the run's"
  " environment: `test` for the family's test tasks, or the numbers of tasks,"
  ' such as 1.5,0.8;1,1 for two tasks.',
)  # fmt: skip
_CONTEXT = flags.DEFINE_integer(
  'context', None,
  'With --tasks: number of transitions of each task to which the algorithm'
  ' adapts first.',
  lower_bound=1, upper_bound=10**7,
)  # fmt: skip
_GREEDY = flags.DEFINE_bool(
  'greedy', False, 'Acts without noise, instead of sampling actions.'
)  # fmt: skip
_NAMES = (
  'workdir', 'which', 'episodes', 'seed', 'export', 'tasks', 'context',
  'greedy',
)  # fmt: skip


def parse(argv: Sequence[str]) -> None:
  """Parses the command line; bad input exits with one line."""
  with training_flags.one_line_errors():
    training_flags.parse_defined(
      argv, _NAMES, required=['workdir'], of_run=True
    )
    if _TASKS.value == '':
      raise config.ConfigError(
        "--tasks=: must be 'test', or the numbers of tasks"
      )
    if _CONTEXT.value and _TASKS.value is None:
      raise config.ConfigError(
        f'--context={_CONTEXT.value}: must come with --tasks'
      )
    if _CONTEXT.value and _WHICH.present and _WHICH.value == 'best':
      raise config.ConfigError(
        '--which=best: must be latest with --context, which adapts the'
        ' last state'
      )


def main(_: None) -> None:
  """Evaluates the policy, and exports it if requested."""
  quiet.quiet_xla()
  # Imported here, so that a mistyped flag fails without waiting for them.
  import jax

  from mbmpo_jax.training import evaluate
  from mbmpo_jax.training import evaluate_tasks
  from mbmpo_jax.training.launch import cache
  from mbmpo_jax.training.storage import saved_policy

  cache.enable()
  which = 'latest' if _CONTEXT.value else _WHICH.value
  with training_flags.one_line_errors():
    with waits.announced('reading the policy'):
      imports.run()
      policy = saved_policy.load_policy(_WORKDIR.value or '', which)
    if _EXPORT.value:
      path = pathlib.Path(_EXPORT.value)
      with waits.announced('exporting the policy'):
        saved_policy.export_policy(policy, path)
      print(f'{path}: the {which} policy, {_written(path)}', flush=True)
    context = _CONTEXT.value or 0
    if tiny.wanted():
      sizes = config.flatten(policy.config)
      context = min(context, sizes.get('model.context_size', context))
    episodes = _EPISODES.value or policy.config.run.eval_episodes
    key = jax.random.PRNGKey(_SEED.value)
    playing = waits.announced(f'compiling and playing {episodes} episodes')
    if _TASKS.value:
      with playing:
        said = evaluate_tasks.on_tasks(
          _WORKDIR.value or '',
          policy,
          key,
          num_episodes=episodes,
          given=_TASKS.value,
          greedy=_GREEDY.value,
          context=context,
        )
    else:
      run = evaluate.make_evaluate(
        policy.make_env(),
        policy.policy,
        num_episodes=episodes,
        episode_length=policy.config.collect.episode_length,
        greedy=_GREEDY.value,
      )
      with playing:
        metrics = run(policy.params, key)
        mean, std, length = (float(metrics[name]) for name in evaluate.METRICS)
      said = (
        f'{episodes} episodes: return {mean:.4g} mean, {std:.4g} std;'
        f' length {length:.4g}'
      )
    acting = ', acting greedily' if _GREEDY.value else ''
    print(f'{policy.describe(which)}{acting}, {said}')


def _written(path: pathlib.Path) -> str:
  """Describes the output of `export_policy`: one program, or two in a zip."""
  kind = (
    'a zip of start.bin and step.bin'
    if zipfile.is_zipfile(path)
    else 'a program'
  )
  return f'{kind} for jax.export.deserialize, {path.stat().st_size:,} bytes'


if __name__ == '__main__':
  app.run(main, flags_parser=parse)
