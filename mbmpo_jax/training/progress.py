"""What the person at the terminal sees while a run goes on."""

import math
from collections.abc import Mapping
from typing import Protocol

import rich.console
import rich.progress

# Label and metric of the few numbers shown; all are in metrics.jsonl.
_SHOWN = (
  ('eval', 'eval/return_mean'),
  ('real', 'real/return'),
  ('imagined', 'imagined/return_pre'),
  ('val loss', 'model/val_loss'),
)


class Progress(Protocol):
  """A listener to a run."""

  def start(self, *, total: int, done: int) -> None:
    """The run has `total` iterations, of which `done` are behind it."""
    ...

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """A phase begins; `compiling` where XLA compiles it first."""
    ...

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """Iteration `index`, counted from 0, is done."""
    ...

  def message(self, text: str) -> None:
    """Something worth a line of its own."""
    ...

  def close(self) -> None:
    """The run is over, however it ended."""
    ...


class Silent:
  """Shows nothing."""

  def start(self, *, total: int, done: int) -> None:
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

  def start(self, *, total: int, done: int) -> None:
    """Remembers the total; says where a resumed run goes on."""
    self._total = total
    if done:
      self.message(f'resuming after {done} of {total} iterations')

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """A line only where the compiler makes the user wait."""
    if compiling:
      self.message(f'compiling {name}')

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """The iteration's line."""
    seconds = sum(v for k, v in metrics.items() if k.startswith('time/'))
    self.message(
      f'iteration {index + 1}/{self._total}'
      f'  steps {metrics.get("env_steps", 0):.0f}'
      f'  {summary(metrics)}  {seconds:.1f} s'
    )

  def message(self, text: str) -> None:
    """A line."""
    print(text, flush=True)

  def close(self) -> None:
    """Nothing is open."""


class Live:
  """A bar with the time left, the phase now running and the latest numbers."""

  def __init__(self, console: rich.console.Console) -> None:
    """Draws nothing before `start`."""
    self._numbers: dict[str, float] = {}
    columns = rich.progress
    self._progress = rich.progress.Progress(
      columns.BarColumn(bar_width=24),
      columns.MofNCompleteColumn(),
      columns.TextColumn('left'),
      columns.TimeRemainingColumn(compact=True),
      columns.TextColumn('[bold]{task.fields[phase]}'),
      columns.TextColumn('{task.fields[numbers]}', style='dim'),
      console=console,
      # Iterations may be minutes apart: estimate from all of them.
      speed_estimate_period=math.inf,
    )
    self._task: rich.progress.TaskID | None = None

  def start(self, *, total: int, done: int) -> None:
    """Shows the bar."""
    self._task = self._progress.add_task(
      'train', total=total, completed=done, phase='', numbers=''
    )
    self._progress.start()

  def phase(self, name: str, *, compiling: bool = False) -> None:
    """Shows the phase."""
    self._update(phase=f'compiling {name}' if compiling else name)

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    """Advances the bar; a metric that is NaN keeps its latest value."""
    finite = {k: v for k, v in metrics.items() if math.isfinite(v)}
    self._numbers.update(finite)
    self._update(completed=index + 1, numbers=summary(self._numbers))

  def message(self, text: str) -> None:
    """A line above the bar."""
    self._progress.console.print(text, markup=False, highlight=False)

  def close(self) -> None:
    """Leaves the bar as it stands."""
    if self._task is not None:
      self._update(phase='')
      self._progress.stop()

  def _update(self, **fields: object) -> None:
    if self._task is not None:
      self._progress.update(self._task, **fields)  # type: ignore[arg-type]


def make() -> Progress:
  """A live display on a terminal, plain lines elsewhere."""
  console = rich.console.Console()
  if console.is_terminal and not console.is_dumb_terminal:
    return Live(console)
  return Lines()


def summary(metrics: Mapping[str, float]) -> str:
  """The few numbers that tell how a run does, those that exist."""
  return '  '.join(
    f'{label} {metrics[name]:.4g}'
    for label, name in _SHOWN
    if math.isfinite(metrics.get(name, math.nan))
  )
