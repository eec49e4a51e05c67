"""Checks whether a log can be used for learning, and removes bad rows.

A row is removed only if one of its numbers is not finite, or if the observation
that followed it is not known. Each finding is reported in one line. A log that
would lead to wrong models is rejected.
"""

from typing import Any, NamedTuple

import numpy as np

from mbmpo_jax import types
from mbmpo_jax.training.external import actions as actions_lib
from mbmpo_jax.training.logs import columns as columns_lib
from mbmpo_jax.training.logs import files as files_lib
from mbmpo_jax.training.logs import log as log_lib
from mbmpo_jax.training.logs import scaling as scaling_lib

# As in `masking.sound_rows`.
_LARGEST = 1e10
# Within an episode, a row's next observation must equal the next row's
# observation, up to these fractions of the column's span and of its size.
_SPAN, _ROUNDING = 1e-4, 1e-6
_LATE = 0.5  # fraction of a clock step
_FEWEST = 10


class Checked(NamedTuple):
  """A log that can be used for learning, and the findings.

  Attributes:
    log: the rows that passed.
    findings: one line each.
    has_reward: whether the file has rewards; otherwise they are 0.
    ends_known: whether the last step of an episode is among the rows.
  """

  log: log_lib.Log
  findings: list[str]
  has_reward: bool
  ends_known: bool


class _Steps(NamedTuple):
  """All rows of the file, leaves [B, ...]."""

  obs: np.ndarray
  action: np.ndarray
  reward: np.ndarray
  next_obs: np.ndarray
  terminated: np.ndarray  # bool
  truncated: np.ndarray  # bool
  last: np.ndarray  # bool, where an episode ends
  gap: np.ndarray  # bool, where the next row does not follow


def check(
  raw: files_lib.Raw, actions: actions_lib.Actions | None = None
) -> Checked:
  """Checks shapes, ranges, episodes and columns.

  Args:
    raw: the content of the file.
    actions: bounds of the actions in the file; by default those in the file, or
      else [-1, 1], or choices from 0 if the actions are integers.

  Raises:
    LogError: naming the file and the array or column.
  """
  findings: list[str] = []
  arrays = _flat(raw)
  count = len(arrays['obs'])
  scaling, action = scaling_lib.scaled(raw, arrays['action'], actions, findings)
  steps = _steps(raw, arrays, action, findings)
  unknown = steps.last & ('next_obs' not in arrays)
  if 'next_obs' not in arrays:
    unknown = unknown | steps.gap
  sound = _sound(raw, steps, unknown, findings)
  if unknown.any():
    ends = int(np.sum(unknown & steps.terminated))
    findings.append(
      f'{raw.file}: has no {files_lib.wanted("next_obs")}: {unknown.sum()} rows'
      f' whose next observation is not known are left out, {ends} terminations'
      ' among them'
    )
  kept = sound & ~unknown
  if kept.sum() < _FEWEST:
    raise log_lib.LogError(
      f'{raw.file}: {kept.sum()} of {count} rows can be used: must be at least'
      f' {_FEWEST}'
    )
  labels = tuple(
    files_lib.label(raw, 'obs', i) for i in range(steps.obs.shape[1])
  )
  findings += columns_lib.findings(
    raw.file, steps.obs[kept], labels, np.flatnonzero(kept)
  )
  findings += columns_lib.of_actions(
    raw.file,
    steps.action[kept],
    tuple(
      files_lib.label(raw, 'action', i) for i in range(steps.action.shape[1])
    ),
    choices=scaling.discrete,
  )
  log = _log(raw, steps, kept, labels, scaling)
  return Checked(log, findings, 'reward' in arrays, not unknown.any())


def _flat(raw: files_lib.Raw) -> dict[str, np.ndarray]:
  """Returns arrays with equally many rows; observations [B, O]."""
  count = len(raw.arrays['obs']) if raw.arrays['obs'].ndim else 0
  if not count:
    raise log_lib.LogError(f'{raw.file}: {raw.names["obs"]} has no rows')
  found: dict[str, np.ndarray] = {}
  for field, array in raw.arrays.items():
    name = raw.names[field]
    if array.dtype.kind not in 'biuf':
      raise log_lib.LogError(
        f'{raw.file}: {name} has type {array.dtype}: must be numbers'
      )
    if not array.ndim or len(array) != count:
      raise log_lib.LogError(
        f'{raw.file}: {name} has {len(array) if array.ndim else "no"} rows:'
        f' must have {count}, as {raw.names["obs"]} has'
      )
    if field in ('obs', 'next_obs', 'action'):
      found[field] = array.reshape(count, -1)
    elif array.size != count:
      raise log_lib.LogError(
        f'{raw.file}: {name} has shape {list(array.shape)}: must be [{count}]'
      )
    else:
      found[field] = array.reshape(count)
    if not found[field].size:
      raise log_lib.LogError(f'{raw.file}: {name} has no columns')
  if 'next_obs' in found and found['next_obs'].shape != found['obs'].shape:
    raise log_lib.LogError(
      f'{raw.file}: {raw.names["next_obs"]} has {found["next_obs"].shape[1]}'
      f' columns: must have {found["obs"].shape[1]}, as {raw.names["obs"]} has'
    )
  return found


def _steps(
  raw: files_lib.Raw,
  arrays: dict[str, np.ndarray],
  action: np.ndarray,
  findings: list[str],
) -> _Steps:
  obs = arrays['obs'].astype(np.float64)
  count = len(obs)
  ends = {}
  for field in ('terminated', 'truncated'):
    flags = arrays.get(field, np.zeros(count))
    if not np.all((flags == 0) | (flags == 1)):
      odd = flags[(flags != 0) & (flags != 1)][0]
      raise log_lib.LogError(
        f'{raw.file}: {raw.names[field]} has {odd}: must be 0 or 1'
      )
    ends[field] = flags > 0
  if raw.names.get('terminated') == 'dones':
    findings.append(
      f'{raw.file}: dones are read as terminations; if some are time limits,'
      ' store those as timeouts'
    )
  last = ends['terminated'] | ends['truncated']
  if 'episode' in arrays:
    last = last | np.append(np.diff(arrays['episode']) != 0, True)
  elif not last.any():
    findings.append(
      f'{raw.file}: no row ends an episode: all rows are read as one episode'
    )
  last[-1] = True
  following = np.append(obs[1:], np.full_like(obs[:1], np.nan), 0)
  next_obs = arrays.get('next_obs')
  gap = _late(raw, arrays, last)
  if next_obs is None:
    next_obs = following
  else:
    next_obs = next_obs.astype(np.float64)
    allowed = _allowed(obs)
    with np.errstate(invalid='ignore'):
      apart = np.abs(next_obs - following)
      # Non-finite rows are removed for another reason.
      far = (apart > allowed[None]) & (apart <= _LARGEST)
    gap |= ~last & np.any(far, 1)
  if gap.any():
    findings.append(
      f'{raw.file}: {gap.sum()} rows are not followed by the next step, the'
      f' first is row {np.argmax(gap)}: episodes are cut there'
    )
  reward = arrays.get('reward', np.zeros(count)).astype(np.float64)
  return _Steps(obs, action, reward, next_obs, **ends, last=last, gap=gap)


def _allowed(obs: np.ndarray) -> np.ndarray:
  """Returns the difference up to which numbers of a column are equal, [O]."""
  sound = np.abs(obs) <= _LARGEST
  count = np.maximum(sound.sum(0), 1)
  mean = np.sum(np.where(sound, obs, 0.0), 0) / count
  centred = np.where(sound, obs - mean[None], 0.0)
  std = np.sqrt(np.sum(centred**2, 0) / count)
  return _SPAN * std + _ROUNDING * (np.abs(mean) + std)


def _late(
  raw: files_lib.Raw, arrays: dict[str, np.ndarray], last: np.ndarray
) -> np.ndarray:
  """Returns where the time column shows that rows are missing after a row."""
  late = np.zeros(len(last), bool)
  if 'time' not in arrays:
    return late
  passed = np.diff(arrays['time'].astype(np.float64))
  within = passed[~last[:-1]]
  if not within.size:
    return late
  usual = np.median(within)
  if not usual > 0:
    raise log_lib.LogError(
      f'{raw.file}: {raw.names["time"]} does not increase within episodes: must'
      ' increase'
    )
  late[:-1] = ~last[:-1] & ~(np.abs(passed - usual) <= _LATE * usual)
  return late


def _sound(
  raw: files_lib.Raw, steps: _Steps, unknown: np.ndarray, findings: list[str]
) -> np.ndarray:
  """Returns whether a row has only finite numbers of moderate size, [B]."""
  sound = np.ones(len(steps.reward), bool)
  first: tuple[int, str] | None = None
  for field in ('obs', 'action', 'reward', 'next_obs'):
    values = getattr(steps, field)
    values = values.reshape(len(values), -1)
    fine = np.abs(values) <= _LARGEST
    if field == 'next_obs':
      fine |= unknown[:, None]
    for column in np.flatnonzero(~fine.any(0)):
      raise log_lib.LogError(
        f'{raw.file}: {_name(raw, field, int(column))} has no finite number up'
        ' to 1e10: must be removed from the file'
      )
    bad = ~fine.all(1)
    if bad.any() and (first is None or np.argmax(bad) < first[0]):
      row = int(np.argmax(bad))
      first = row, _name(raw, field, int(np.argmax(~fine[row])))
    sound &= ~bad
  if first is not None:
    findings.append(
      f'{raw.file}: {np.sum(~sound)} of {len(sound)} rows have numbers that are'
      f' not finite, or beyond 1e10, the first is {first[1]} in row {first[0]}:'
      ' left out, and their episodes cut there'
    )
  return sound


def _name(raw: files_lib.Raw, field: str, column: int) -> str:
  if field == 'next_obs' and field not in raw.names:
    field = 'obs'
  return (
    raw.names[field]
    if field == 'reward'
    else files_lib.label(raw, field, column)
  )


def _log(
  raw: files_lib.Raw,
  steps: _Steps,
  kept: np.ndarray,
  labels: tuple[str, ...],
  scaling: actions_lib.Actions,
) -> log_lib.Log:
  """Returns the rows that are kept, with their time within the episode."""
  row = np.arange(len(kept))
  before = np.append(False, steps.last[:-1])
  episode = np.cumsum(before)
  start = np.maximum.accumulate(np.where(before, row, 0))
  # A gap is treated like a removed row.
  missing = np.cumsum(np.append(False, steps.gap[:-1]))
  time = row - start + missing - missing[start]
  if not np.any(time[kept] == 0):
    # Imagined episodes need starts: the first rows that are kept.
    _, first, index = np.unique(
      episode[kept], return_index=True, return_inverse=True
    )
    time[kept] -= time[kept][first][index]
  dtype = log_lib.float_type()
  numbers: Any = dict(
    obs=steps.obs,
    action=steps.action,
    reward=steps.reward,
    next_obs=steps.next_obs,
    terminated=steps.terminated,
    truncated=steps.truncated & ~steps.terminated,
  )
  places: Any = dict(episode=episode, time=time)
  rows = types.Transition(
    **{name: x[kept].astype(dtype) for name, x in numbers.items()},
    **{name: x[kept].astype(np.int32) for name, x in places.items()},
  )
  return log_lib.Log(
    raw.file, rows, labels, scaling.discrete, *scaling_lib.bounds(scaling)
  )
