"""Measurements of GSSM's figures in unseen tasks, shared by its figures.

A run is measured once (`training/figures/unseen_tasks.py`), whichever figure
needs the result first. Where the paper's test tasks are random, ours are drawn
with a seed that is used for nothing else: the presets' settings were not chosen
on these tasks.
"""

import numpy as np

from experiments.figures import gssm_methods as methods_lib
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import task_pools
from mbmpo_jax.training.figures import unseen_tasks

_OURS = 'gssm'
# A planner predicts tens of thousands of steps for each real step.
_PLANNED_EPISODES = 2
_TASKS_SEED = 0x67737367


class Measured:
  """Evaluations of the finished runs of a study, each computed once."""

  def __init__(self, found: study.Study) -> None:
    """Measures the runs.

    Args:
      found: panels whose runs are all of one environment each.
    """
    self._found: dict[tuple[str, str], list[unseen_tasks.Found]] = {}
    for entries in found.panels.values():
      world = methods_lib.world_of(entries[0])
      pools = self._pools(found, world, entries)
      for entry in entries:
        key = entry.group.key
        if (world, key) not in self._found:
          self._found[world, key] = [
            unseen_tasks.kept(
              found.root / run.name,
              pools if key not in methods_lib.MODEL_FREE else None,
              _sizes(world, found.size, key),
            )
            for run in _done(entry)
          ]

  def _pools(
    self, found: study.Study, world: str, entries: list[study.Found]
  ) -> task_pools.Pools | None:
    """Returns transitions of unseen tasks, collected with a finished run.

    It is the first finished run of GSSM, or of another surrogate model if GSSM
    has none. The file is named after the method, because figures that share a
    folder may collect with different ones.
    """
    runs = [
      (entry.group.key, run)
      for entry in entries
      if methods_lib.METHODS.get(
        entry.group.key, methods_lib.METHODS[_OURS]
      ).kind
      for run in _done(entry)
    ]
    if not runs:
      return None
    key, run = runs[0]
    return task_pools.kept_pools(
      found.root / world / f'unseen_tasks_{key}.npz',
      found.root / run.name,
      _sizes(world, found.size, _OURS),
    )

  def of(self, world: str, key: str) -> list[unseen_tasks.Found]:
    """Returns the evaluations of a method in an environment, by seed."""
    return self._found.get((world, key), [])


def per_task(values: list[list[float]]) -> np.ndarray:
  """Returns means over seeds, [M], of values [seeds][M]."""
  return np.mean(np.asarray(values, float), 0)


def returns(
  entry: study.Found, measured: list[unseen_tasks.Found]
) -> list[list[float]]:
  """Returns mean returns by seed and task, in the paper's units."""
  unit = methods_lib.unit(methods_lib.world_of(entry), entry.group.runs[0])
  return [[value / unit for value in x.returns] for x in measured]


def higher(
  measured: Measured, ours: study.Found, other: study.Found
) -> report.Claim:
  """Returns the claim that our returns in unseen tasks are higher.

  Tasks are compared in pairs; each value is a mean over seeds.
  """
  world = methods_lib.world_of(ours)
  text = (
    f'{ours.group.label} returns more than {other.group.label} in unseen tasks'
    f' of {world}'
  )
  each = [
    returns(entry, measured.of(world, entry.group.key))
    for entry in (ours, other)
  ]
  if not all(each):
    return report.undecided(text, 'runs are missing')
  mine, theirs = (per_task(values) for values in each)
  gap = intervals.mean((mine - theirs).tolist())
  reason = (
    f'it returns {np.mean(mine):.3g}, the other {np.mean(theirs):.3g}; task by'
    f' task the difference is {gap.text()} tasks, each the mean of'
    f' {len(each[0])} and {len(each[1])} seeds'
  )
  return report.Claim(
    text,
    report.verdict(gap, 0.0),
    reason,
    {'ours': each[0], 'theirs': each[1]},
  )


def _sizes(world: str, size: str, method: str) -> task_pools.Sizes:
  context = methods_lib.context(world, size)
  per_step = world in methods_lib.PER_STEP
  if size == 'tiny':
    return task_pools.Sizes(context, 6, 1, 2, not per_step)
  return task_pools.Sizes(
    context,
    episodes=_PLANNED_EPISODES if method == 'l2a' else methods_lib.EPISODES,
    standardized=not per_step,
    seed=_TASKS_SEED if per_step else None,
  )


def _done(entry: study.Found) -> list[study.Run]:
  return [
    run
    for run, rows in zip(entry.group.runs, entry.rows, strict=True)
    if study.is_done(run, rows)
  ]
