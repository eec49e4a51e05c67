"""The zoo: trained policies stored with the code, `zoo/<algorithm>/<env>/`.

An entry is a folder of a few files, with checksums in `SHA256SUMS`:

  config.json     of the run
  policy.npz      the arrays of its best policy, by their path in the pytree
  entry.json      its evaluation and how it was made (`Entry`)
  metrics.jsonl   of the run
  policy.html     a page that plays the policy, if the run has one

`load_policy` reads an entry like a run's folder.
"""

import io
import json
import pathlib
import shutil
import zipfile
from typing import Any, NamedTuple

import jax
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.training.reporting import metrics
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import manifest

_POLICY, _ENTRY = 'policy.npz', 'entry.json'
# A folder with any of these is an entry.
_MARKS = (manifest.NAME, _POLICY, _ENTRY)
_COPIED = (
  *('config.json', 'metrics.jsonl', 'policy.html'),
  *('world.json', 'environment.json'),
)
_FILES = frozenset((*_COPIED, _POLICY, _ENTRY, manifest.NAME))


class ZooError(errors.UserError, ValueError):
  """An entry of the zoo is missing, altered or does not fit."""


class Entry(NamedTuple):
  """The recorded evaluation of a policy.

  Attributes:
    iteration: number of iterations of the run; the best policy may be from an
      earlier one.
    env_steps: real transitions that the run had collected by then.
    episodes: number of evaluation episodes, with sampled actions.
    seed: seed of these episodes.
    return_mean: mean undiscounted return.
    return_std: standard deviation over episodes.
    length_mean: mean length in steps.
    made_with: versions and hardware, in words.
    first_steps: number of first steps of the episodes that were evaluated
      separately; 0 if none were.
    first_return: mean return of these steps. In so few steps, rounding errors
      hardly grow.
  """

  iteration: int
  env_steps: int
  episodes: int
  seed: int
  return_mean: float
  return_std: float
  length_mean: float
  made_with: str
  first_steps: int = 0
  first_return: float = 0.0


def is_entry(root: pathlib.Path) -> bool:
  """Whether a folder is an entry, even a damaged one."""
  return any((root / mark).exists() for mark in _MARKS)


def entries(root: pathlib.Path) -> list[pathlib.Path]:
  """Returns the folders of all entries below `root`, sorted.

  Damaged entries are included.

  Raises:
    ZooError: if there are none.
  """
  found = {
    path.parent
    for mark in _MARKS
    for path in root.rglob(mark)
    if not path.parent.name.startswith('.')  # left by an interrupted `write`
  }
  if not found:
    raise ZooError(f'{root}: contains no entry: must contain <folder>/{_ENTRY}')
  return sorted(found)


def check_page(path: pathlib.Path, root: pathlib.Path) -> None:
  """Checks that an output is not inside an entry, whose files have checksums.

  Raises:
    ZooError: if `root` is an entry and contains `path`.
  """
  if is_entry(root) and root.resolve() in path.resolve().parents:
    raise ZooError(
      f'{path}: must not be in {root}, an entry of the zoo, which must not'
      ' change; use another --out'
    )


def check_place(root: pathlib.Path, run: pathlib.Path) -> None:
  """Checks that a new entry would not overwrite other files.

  Args:
    root: the entry's folder: an existing entry, empty, or missing.
    run: the folder of the run.

  Raises:
    ZooError: if it contains other files, or is inside the run's folder.
  """
  place, own = root.resolve(), run.resolve()
  if place == own or own in place.parents or place in own.parents:
    raise ZooError(f'{root}: must not contain, or be in, the run {run}')
  if root.exists() and not root.is_dir():
    raise ZooError(f'{root}: is a file: must be a folder, or not exist')
  names = sorted(x.name for x in root.iterdir()) if root.is_dir() else []
  others = [name for name in names if name not in _FILES]
  if others:
    raise ZooError(
      f'{root}: contains {others[0]!r}, which is not part of an entry: must be'
      ' an entry, which is replaced, an empty folder, or not exist'
    )


def write(
  root: pathlib.Path, run: pathlib.Path, params: Any, entry: Entry
) -> None:
  """Writes an entry; an existing one is replaced once the new one is complete.

  Args:
    root: the entry's folder.
    run: the folder of the run.
    params: the policy's parameters.
    entry: its evaluation.

  Raises:
    ZooError: as `check_place` does.
    WriteError: if the file system does not allow it.
  """
  check_place(root, run)
  arrays: dict[str, Any] = {
    _name(path): np.asarray(x) for path, x in _leaves(params)
  }
  buffer = io.BytesIO()
  np.savez_compressed(buffer, **arrays)
  made = root.resolve().with_name(f'.{root.resolve().name}.tmp')
  with atomic.writing(root):
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    for name in _COPIED:
      if (run / name).is_file():
        shutil.copyfile(run / name, made / name)
    (made / _POLICY).write_bytes(buffer.getvalue())
    text = json.dumps(entry._asdict(), indent=2, allow_nan=False)
    (made / _ENTRY).write_text(text + '\n', encoding='utf-8')
    manifest.write(made)
    if root.exists():
      shutil.rmtree(root)
    made.rename(root)


def read(root: pathlib.Path) -> Entry:
  """Verifies the files of an entry and returns its recorded evaluation.

  Raises:
    ZooError: if a file is missing or altered, or the entry is not valid.
  """
  try:
    manifest.verify(root, new_allowed=True)
  except (manifest.ManifestError, OSError) as error:
    raise ZooError(f'{root}: must be unaltered: {error}') from None
  _check_no_addition(root)
  path = root / _ENTRY
  try:
    fields = folder_lib.read_fields(path)
    entry = Entry(**fields)
  except (OSError, ValueError, TypeError) as error:
    raise ZooError(f'{path}: {error}') from None
  for name, kind in Entry.__annotations__.items():
    value = getattr(entry, name)
    if type(value) is not kind or (kind is int and value < 0):
      known = 'an int >= 0' if kind is int else f'a {kind.__name__}'
      raise ZooError(f'{path}: {name}={value!r}: must be {known}')
  if not entry.episodes:
    raise ZooError(f'{path}: episodes=0: must be >= 1')
  return entry


def read_policy(root: pathlib.Path) -> tuple[int, Any]:
  """Returns the iteration and the arrays of a policy, nested by name.

  Raises:
    ZooError: as `read` does.
  """
  entry, path = read(root), root / _POLICY
  tree: dict[Any, Any] = {}
  try:
    with np.load(path, allow_pickle=False) as arrays:
      for name in arrays.files:
        *places, last = (int(x) if x.isdigit() else x for x in name.split('/'))
        inner = tree
        for place in places:
          inner = inner.setdefault(place, {})
        inner[last] = arrays[name]
  except (OSError, ValueError, TypeError, zipfile.BadZipFile) as error:
    raise ZooError(f'{path}: must be an npz file of arrays: {error}') from None
  return entry.iteration, tree


def _check_no_addition(root: pathlib.Path) -> None:
  """Refuses a file that has a meaning in an entry, but no checksum."""
  listed = manifest.names(root)
  for name in sorted(_FILES - listed - {manifest.NAME}):
    if (root / name).exists():
      raise ZooError(
        f'{root}: must be unaltered: its file {name} is not in {manifest.NAME}'
      )


def env_steps(run: pathlib.Path, iteration: int) -> int:
  """Returns the real transitions after `iteration`, from the run's metrics."""
  rows = metrics.read_jsonl(run / 'metrics.jsonl')
  for row in rows:
    if row['iteration'] == iteration - 1:
      return int(row['env_steps'])
  raise config_lib.ConfigError(
    f'--workdir={run}: its metrics.jsonl has {len(rows)} rows, none of'
    f' iteration {iteration - 1}, after which the policy was saved'
  )


def _leaves(params: Any) -> Any:
  return jax.tree_util.tree_flatten_with_path(params)[0]


def _name(path: tuple[Any, ...]) -> str:
  return jax.tree_util.keystr(path, simple=True, separator='/')
