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

  It is judged by tasks and by seeds, see `more`.
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
  mine, theirs = (np.mean(values) for values in each)
  told = f'it returns {mine:.3g}, the other {theirs:.3g}'
  return more(text, each[0], each[1], told)


def more(
  text: str,
  values: list[list[float]],
  others: list[list[float]],
  told: str,
  *,
  paired: bool = False,
) -> report.Claim:
  """Returns the claim that `values` are higher than `others`, [seeds][M].

  It is judged twice, and is undecided unless both verdicts agree: task by task
  with means over seeds, and by seeds with means over tasks. The first says
  whether these models differ, the second whether other seeds would.

  Args:
    text: the claim.
    values: numbers by seed and task.
    others: the numbers to compare with, of the same tasks.
    told: the beginning of the reason.
    paired: whether both are of the same runs.
  """
  by_task = intervals.mean((per_task(values) - per_task(others)).tolist())
  mine, theirs = (np.mean(x, 1).tolist() for x in (values, others))
  by_seed = (
    intervals.mean(np.subtract(mine, theirs).tolist())
    if paired
    else intervals.difference(mine, theirs)
  )
  verdicts = {report.verdict(x, 0.0) for x in (by_task, by_seed)}
  reason = (
    f'{told}; the difference is {by_task.text()} tasks, and {by_seed.text()}'
    ' seeds'
  )
  return report.Claim(
    text,
    verdicts.pop() if len(verdicts) == 1 else report.UNDECIDED,
    reason,
    {'ours': values, 'theirs': others},
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
