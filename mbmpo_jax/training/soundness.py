"""Stopping a run in which nothing is learned any more, for want of numbers.

What is not finite never reaches a parameter. It is left out where it arises,
and counted, per iteration:

  nonfinite/transitions  real transitions; they are not stored
  nonfinite/stored       transitions that came into the buffer by another way;
                         no fit uses them
  nonfinite/members      models; they start anew, and are fitted at once
  model/rejected         models with a loss that is not finite; the epoch is
                         dropped, and the member stops
  nonfinite/rollouts     rollouts of a task, before or after adaptation; with
                         any of these three the meta-step does without the task
  nonfinite/advantages   its advantages
  nonfinite/adaptations  its adapted policy
  nonfinite/gradients    gradients or directions; the meta-step is not taken
  nonfinite/kl           surrogates or KLs of a step length; a shorter is tried
  nonfinite/steps        meta-steps not taken for any of these reasons

A real transition or a weight beyond +-1e10 counts as not finite.

An iteration is *rejected* if no meta-step of it was taken, and at least one of
them not for such numbers. A run stops after `run.max_rejected_iterations` of
them on end: the state that they led to is as it was, but for the buffer and the
models, and waiting will rarely help. The last of them is not saved, so that the
same command tries it once more.
"""

import warnings
from collections.abc import Mapping, Sequence

from mbmpo_jax import errors
from mbmpo_jax.training import run as run_lib

# What is counted, in the order in which one thing leads to another.
_KINDS = {
  'nonfinite/transitions': 'real transitions',
  'nonfinite/stored': 'transitions in the buffer',
  'nonfinite/members': 'models before their fit',
  'model/rejected': 'losses of models',
  'nonfinite/rollouts': 'imagined rollouts of tasks',
  'nonfinite/advantages': 'advantages of tasks',
  'nonfinite/adaptations': 'policies adapted to tasks',
  'nonfinite/gradients': 'directions of meta-steps',
  'nonfinite/kl': 'surrogates or KLs of the lengths tried',
}


class Watch:
  """Counts the iterations on end that were rejected, of one run or several.

  All that it knows is in the metrics, so that a resumed run counts as if it had
  never stopped.
  """

  def __init__(self, runs: Sequence[run_lib.Run], first: int) -> None:
    """Reads the metrics of the iterations before `first`.

    Args:
      runs: in the order in which they are stacked.
      first: iterations that are done.
    """
    self._limit = runs[0].config.run.max_rejected_iterations
    self._names = [run.folder.root.name for run in runs]
    self._rejected: list[list[Mapping[str, float]]] = [[] for _ in runs]
    if self._limit and first:
      for run, rejected in zip(runs, self._rejected, strict=True):
        for row in run.rows():
          if row['iteration'] < first:
            _count(rejected, row)

  def check(self, index: int, rows: Sequence[Mapping[str, float]]) -> None:
    """Takes note of iteration `index`, whose metrics are `rows`, one per run.

    A run of several that is stuck is named, once, and the others go on.

    Raises:
      errors.NonFiniteError: if all runs are stuck.
    """
    if not self._limit:
      return
    for rejected, row in zip(self._rejected, rows, strict=True):
      _count(rejected, {'iteration': index, **row})
    stuck = [len(rejected) >= self._limit for rejected in self._rejected]
    if all(stuck):
      error = errors.NonFiniteError(
        f'{", ".join(self._names)}: stopped after {self._limit} iterations on'
        ' end in which numbers that are not finite left no step to take'
        ' (run.max_rejected_iterations); checkpoints are of iterations before'
      )
      for name, rejected in zip(self._names, self._rejected, strict=True):
        for line in report(rejected):
          error.add_note(f'{name}: {line}' if len(stuck) > 1 else line)
      raise error
    for name, rejected in zip(self._names, self._rejected, strict=True):
      if len(rejected) == self._limit:
        warnings.warn(
          f'{name}: nothing is learned any more; not finite were'
          f' {"; ".join(report(rejected))}',
          stacklevel=2,
        )


def report(rows: Sequence[Mapping[str, float]]) -> list[str]:
  """One line per kind of number that was not finite: how many, and when.

  Args:
    rows: metrics, each with its `iteration`.
  """
  lines = []
  for metric, words in _KINDS.items():
    found = [row for row in rows if row.get(metric, 0) > 0]
    if found:
      count = sum(row[metric] for row in found)
      first, last = (int(found[i]['iteration']) for i in (0, -1))
      when = f'iteration {first}'
      if last > first:
        when = f'iterations {first} to {last}'
      lines.append(f'{metric}: {count:.0f} {words}, {when}')
  return lines


def _count(
  rejected: list[Mapping[str, float]], row: Mapping[str, float]
) -> None:
  """Appends a row that was rejected; starts anew at one that was not."""
  steps = row.get('nonfinite/steps', 0)
  if steps > 0 and row.get('meta/accept_rate') == 0:
    rejected.append(row)
  else:
    rejected.clear()
