"""Displays the progress of a run on the terminal."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import rich.console
import rich.live
import rich.progress
import rich.text

from mbmpo_jax.algorithms import base
from mbmpo_jax.training.reporting import output
from mbmpo_jax.training.reporting import pace

_EVALUATION = ('eval', 'eval/return_mean')
_RATE = re.compile(r'throughput/(.*)_per_s')


class Progress(Protocol):
  """Receives the events of a run."""

  def start(
    self, *, total: int, done: int, metrics: Mapping[str, base.Metric]
  ) -> None:
    """The run has `total` iterations, of which `done` are already done.

    `metrics` are the declared metrics of its algorithm.
    """
    ...

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """A phase begins; `compiling` is whether XLA compiles it first."""
    ...

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """Iteration `index`, counted from 0, has ended."""
    ...

  def message(self, text: str) -> None:
    """A message for a separate line."""
    ...

  def close(self) -> None:
    """The run has ended, successfully or not."""
    ...


class Silent:
  """Shows nothing."""

  def start(
    self, *, total: int, done: int, metrics: Mapping[str, base.Metric]
  ) -> None:
    """Ignored."""

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """Ignored."""

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """Ignored."""

  def message(self, text: str) -> None:
    """Ignored."""

  def close(self) -> None:
    """Ignored."""


class Lines:
  """One plain line per iteration, for files and pipes."""

  def __init__(self) -> None:
    """Prints nothing yet."""
    self._total = 0
    self._pace = pace.Pace()
    self._declared: Mapping[str, base.Metric] = {}

  def start(
    self, *, total: int, done: int, metrics: Mapping[str, base.Metric]
  ) -> None:
    """Stores the total; prints where a resumed run continues."""
    self._total, self._declared = total, metrics
    self._pace.start(total=total, done=done)
    if done:
      self.message(f'resuming after {done} of {total} iterations')

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """Prints a line if the compiler makes the user wait."""
    if compiling:
      self.message(f'compiling {name}')

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """Prints the iteration's line."""
    self._pace.iteration(metrics)
    parts = [
      f'iteration {index + 1}/{self._total}',
      f'steps {metrics.get("env_steps", 0):.0f}',
      summary(metrics, self._declared),
      speed(metrics),
      pace.duration(seconds(metrics)),
    ]
    if index + 1 < self._total:
      parts.append(f'{pace.duration(self._pace.left())} left')
    self.message('  '.join(part for part in parts if part))

  def message(self, text: str) -> None:
    """Prints a line."""
    output.say(text)

  def close(self) -> None:
    """Does nothing."""


class Live:
  """A progress bar with time left, current phase and latest numbers."""

  def __init__(self, console: rich.console.Console) -> None:
    """Draws nothing before `start`."""
    self._numbers: dict[str, float] = {}
    self._declared: Mapping[str, base.Metric] = {}
    self._pace = pace.Pace()
    columns = rich.progress
    self._bar = rich.progress.Progress(
      columns.BarColumn(bar_width=24),
      columns.MofNCompleteColumn(),
      _Left(self._pace),
      columns.TextColumn('[bold]{task.fields[phase]}'),
    )
    self._text = rich.text.Text(style='dim')
    self._live = rich.live.Live(
      rich.console.Group(self._bar, self._text), console=console
    )
    self._task: rich.progress.TaskID | None = None

  def start(
    self, *, total: int, done: int, metrics: Mapping[str, base.Metric]
  ) -> None:
    """Shows the bar."""
    self._declared = metrics
    self._pace.start(total=total, done=done)
    self._task = self._bar.add_task(
      'train', total=total, completed=done, phase=''
    )
    self._live.start()

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """Shows the current phase."""
    self._update(phase=f'compiling {name}' if compiling else name)

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """Advances the bar; for a NaN metric the latest value remains."""
    self._pace.iteration(metrics)
    finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
    self._numbers.update(finite)
    lines = (summary(self._numbers, self._declared), speed(self._numbers))
    self._text.plain = '\n'.join(line for line in lines if line)
    self._update(completed=index + 1)

  def message(self, text: str) -> None:
    """Prints a line above the bar."""
    self._live.console.print(text, markup=False, highlight=False)

  def close(self) -> None:
    """Stops the bar in its current state."""
    if self._task is not None:
      self._update(phase='')
      self._live.stop()

  def _update(self, **fields: object) -> None:
    if self._task is not None:
      self._bar.update(self._task, **fields)  # type: ignore[arg-type]


class _Left(rich.progress.ProgressColumn):
  """A column with the time left, counting down."""

  def __init__(self, pace: pace.Pace) -> None:
    super().__init__()
    self._pace = pace

  def render(self, task: rich.progress.Task) -> rich.text.Text:
    left = self._pace.left()
    known = math.isfinite(left) and not task.finished
    text = f'{pace.duration(left)} left' if known else ''
    return rich.text.Text(text, style='cyan')


class _Console(rich.console.Console):
  """A console whose closing does not end the run."""

  def on_broken_pipe(self) -> None:
    """Continues without output; rich would end the program."""
    output.give_up()


def make() -> Progress:
  """Returns a live display on a terminal, and plain lines elsewhere."""
  console = _Console()
  if console.is_terminal and not console.is_dumb_terminal:
    return Live(console)
  return Lines()


def summary(
  metrics: Mapping[str, float], declared: Mapping[str, base.Metric]
) -> str:
  """Formats the most important metrics of a run.

  Args:
    metrics: the metrics of an iteration.
    declared: the algorithm's declared metrics; those with a label are shown.
  """
  labels = [(m.label, name) for name, m in declared.items() if m.label]
  return '  '.join(
    f'{label} {metrics[name]:.4g}'
    for label, name in (_EVALUATION, *labels)
    if math.isfinite(metrics.get(name, math.nan))
  )


def speed(metrics: Mapping[str, float]) -> str:
  """Formats the throughput: `1.2k real steps/s, 2M imagined steps/s`."""
  return ', '.join(
    f'{pace.count(value)} {found[1].replace("_", " ")}/s'
    for name, value in metrics.items()
    if (found := _RATE.fullmatch(name)) and math.isfinite(value)
  )


def seconds(metrics: Mapping[str, float]) -> float:
  """Returns the seconds of an iteration, including compilation."""
  return sum(
    v for k, v in metrics.items() if k.startswith('time/') and math.isfinite(v)
  )


def outcome(
  rows: Sequence[Mapping[str, float]], total: int, *, done: int | None = None
) -> str:
  """Describes the progress and result of a run in one line.

  Args:
    rows: the run's metrics, of which some may have been lost.
    total: number of iterations of the run.
    done: iterations done according to the state; by default one per row.
  """
  done = len(rows) if done is None else done
  text = f'{done} of {total} iterations are done'
  if not rows:
    return text
  last = rows[-1]
  text += (
    f': {last.get("env_steps", math.nan):,.0f} real transitions in'
    f' {pace.duration(sum(map(seconds, rows)))}'
  )
  means = [row.get('eval/return_mean', math.nan) for row in rows]
  means = [mean for mean in means if math.isfinite(mean)]
  if means:
    text += f', evaluation return {means[-1]:.4g}, {_best(last)}'
  return text


def _best(row: Mapping[str, float]) -> str:
  """Formats the best policy's return, its standard error and its iteration."""
  text = f'best {row.get("eval/best_return", math.nan):.4g}'
  error = row.get('eval/best_error', math.nan)
  if math.isfinite(error):
    text += f' ± {error:.2g}'
  iteration = row.get('eval/best_iteration', math.nan)
  if iteration >= 0:
    text += f' (iteration {iteration + 1:.0f})'
  return text
