"""Reads files of logs: .npz, HDF5 in D4RL's layout, Minari data sets.

This module only reads; `checks.py` checks the content. No code in a file is
run: arrays of Python objects are refused.
"""

import importlib
import json
import pathlib
import re
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mbmpo_jax.training.external import actions as actions_lib
from mbmpo_jax.training.logs import log as log_lib

# Names of arrays; the first one that exists is used.
_NAMES = {
  'obs': ('observations', 'obs', 'observation', 'states'),
  'action': ('actions', 'action', 'acts'),
  'reward': ('rewards', 'reward'),
  'next_obs': ('next_observations', 'next_obs', 'next_observation'),
  'terminated': ('terminals', 'terminated', 'terminations', 'dones'),
  'truncated': ('timeouts', 'truncated', 'truncations'),
  'episode': ('episode', 'episodes', 'episode_ids'),
  'time': ('time', 'times', 'timestamps', 'timesteps'),
}
_MINARI = 'main_data.hdf5'
_HDF5 = ('.hdf5', '.h5', '.hdf')
_EPISODE = re.compile(r'episode_(\d+)')


class Raw(NamedTuple):
  """The content of a file, flat over its B steps.

  Attributes:
    file: its name.
    arrays: the existing arrays by field: obs [B, ...], action [B, ...], reward,
      next_obs [B, ...], terminated, truncated, episode, time.
    names: the arrays' names in the file.
    actions: the bounds of the actions, if the file has them.
    columns: names of the observation's dimensions, if the file has them.
    discrete: whether the file declares one-hot actions.
  """

  file: str
  arrays: dict[str, np.ndarray]
  names: dict[str, str]
  actions: actions_lib.Actions | None = None
  columns: tuple[str, ...] = ()
  discrete: bool = False


def wanted(field: str) -> str:
  """Returns the most common name of a field of `Raw`."""
  return _NAMES[field][0]


def read(path: str | pathlib.Path) -> Raw:
  """Reads a file, or the folder of a Minari data set.

  Raises:
    LogError: if it does not exist, has another format, cannot be read, or lacks
      observations or actions.
  """
  path = _file(pathlib.Path(path))
  try:
    if path.suffix == '.npz':
      return _of_arrays(path, _npz(path))
    if path.suffix in _HDF5:
      return _hdf5(path)
  except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
    if isinstance(error, log_lib.LogError):
      raise
    raise log_lib.LogError(
      f'{path}: cannot be read: {" ".join(str(error).split())[:200]}'
    ) from error
  raise log_lib.LogError(
    f'{path}: must be an .npz, {" or ".join(_HDF5[:2])} file, or the folder of'
    ' a Minari data set'
  )


def label(raw: Raw, field: str, column: int) -> str:
  """Returns the name of a column of an array."""
  if field == 'obs' and column < len(raw.columns):
    return raw.columns[column]
  return f'{raw.names[field]}[:, {column}]'


def _file(path: pathlib.Path) -> pathlib.Path:
  if path.is_dir():
    for inner in (path / _MINARI, path / 'data' / _MINARI):
      if inner.is_file():
        return inner
    raise log_lib.LogError(
      f'{path}: must be a file, or a folder with data/{_MINARI}, as Minari'
      ' makes'
    )
  if not path.is_file():
    raise log_lib.LogError(f'{path}: no such file')
  return path


def _npz(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    with np.load(path, allow_pickle=False) as file:
      return {name: file[name] for name in file.files}
  except Exception as error:  # NumPy raises many types for a damaged file.
    raise ValueError(str(error) or type(error).__name__) from error


def _of_arrays(
  path: pathlib.Path, arrays: Mapping[str, np.ndarray], **known: Any
) -> Raw:
  found, names = {}, {}
  for field, candidates in _NAMES.items():
    for name in candidates:
      if name in arrays and field not in found:
        found[field], names[field] = arrays[name], name
  for field in ('obs', 'action'):
    if field not in found:
      name = wanted(field)
      raise log_lib.LogError(
        f'{path}: has no {name}; its arrays are'
        f' {", ".join(sorted(arrays)) or "none"}'
      )
  if 'columns' in arrays and arrays['columns'].dtype.kind == 'U':
    known['columns'] = tuple(str(x) for x in np.ravel(arrays['columns']))
  if 'discrete' in arrays and arrays['discrete'].dtype.kind == 'b':
    known['discrete'] = bool(np.all(arrays['discrete']))
  return Raw(str(path), found, names, **known)


def _hdf5(path: pathlib.Path) -> Raw:
  try:
    h5py = importlib.import_module('h5py')
  except ImportError as error:
    raise log_lib.LogError(
      f'{path}: needs h5py, which is not installed: pip install'
      " 'mbmpo-jax[logs]'"
    ) from error
  with h5py.File(path, 'r') as file:
    episodes = {
      int(found[1]): file[name]
      for name in file
      if (found := _EPISODE.fullmatch(name))
    }
    if episodes:
      return _minari(path, [episodes[i] for i in sorted(episodes)])
    arrays = {
      name: np.asarray(item)
      for name, item in file.items()
      if hasattr(item, 'shape')
    }
  return _of_arrays(path, arrays)


def _minari(path: pathlib.Path, groups: list[Any]) -> Raw:
  """Reads a Minari data set, with L + 1 observations per episode of L steps."""
  parts: dict[str, list[np.ndarray]] = {}
  for index, group in enumerate(groups):
    where = group.name.lstrip('/')
    for name in ('observations', 'actions'):
      if not hasattr(group.get(name), 'shape'):
        raise log_lib.LogError(
          f'{path}: {where}/{name} is'
          f' {"a group" if name in group else "missing"}: must be one array'
        )
    obs, taken = (np.asarray(group[x]) for x in ('observations', 'actions'))
    steps = len(taken)
    if len(obs) != steps + 1:
      raise log_lib.LogError(
        f'{path}: {where}/observations has {len(obs)} rows: must have'
        f' {steps + 1}, one more than actions'
      )
    rows = dict(
      observations=obs[:-1],
      next_observations=obs[1:],
      actions=taken,
      episode=np.full(steps, index),
    )
    for name in ('rewards', 'terminations', 'truncations'):
      if name in group:
        rows[name] = np.asarray(group[name])
        if len(rows[name]) != steps:
          raise log_lib.LogError(
            f'{path}: {where}/{name} has {len(rows[name])} rows: must have'
            f' {steps}, as many as actions'
          )
    for name, array in rows.items():
      parts.setdefault(name, []).append(array)
  short = [name for name, arrays in parts.items() if len(arrays) < len(groups)]
  if short:
    raise log_lib.LogError(
      f'{path}: {short[0]} is missing in some episodes: must be in all or none'
    )
  arrays = {name: np.concatenate(x) for name, x in parts.items()}
  return _of_arrays(path, arrays, actions=_space(path))


def _space(path: pathlib.Path) -> actions_lib.Actions | None:
  """Returns the action space in Minari's metadata, if it can be read."""
  try:
    metadata = json.loads((path.parent / 'metadata.json').read_text('utf-8'))
    space = json.loads(metadata['action_space'])
    if space['type'] == 'Discrete':
      return actions_lib.discrete(int(space['n']), int(space.get('start', 0)))
    low, high = (np.ravel(np.array(space[x], float)) for x in ('low', 'high'))
    if space['type'] != 'Box' or not np.all(np.isfinite(high - low)):
      return None
    return actions_lib.box(low, high, low.shape, np.float32)
  except (OSError, ValueError, KeyError, TypeError):
    return None
