"""Reports unusual columns of a log, one line each, without changing them."""

import numpy as np

_EPS = 4 * float(np.finfo(np.float32).eps)  # As in `models.normalizer`.
# A value is unusual if its distance from the median exceeds the median distance
# by this factor.
_FAR = 1e4
_NAMED = 8


def findings(
  file: str, obs: np.ndarray, labels: tuple[str, ...], numbers: np.ndarray
) -> list[str]:
  """Reports constant and duplicated observation columns, and outliers.

  Args:
    file: the file's name.
    obs: valid rows, `[B, O]`.
    labels: names of the columns.
    numbers: numbers of these rows in the file, `[B]`.
  """
  said = []
  steady = constant(obs)
  if steady.any():
    said.append(
      f'{file}: {_listed(labels, steady)} never varies: scaled by 1, and'
      ' predicted not to change'
    )
  for same in _copies(obs, ~steady):
    names = [labels[i] for i in same]
    said.append(
      f'{file}: {", ".join(names[1:])} is a copy of {names[0]}: kept; each copy'
      ' counts in the loss of the models'
    )
  for column in np.flatnonzero(~steady):
    middle = np.median(obs[:, column])
    away = np.abs(obs[:, column] - middle)
    usual = np.median(away)
    if usual > 0 and away.max() > _FAR * usual:
      row = int(np.argmax(away))
      said.append(
        f'{file}: {labels[column]} is {obs[row, column]:.4g} in row'
        f' {numbers[row]}, while half of the values are within {usual:.2g} of'
        f' {middle:.4g}: kept; remove the row if it is an error'
      )
  return said


def of_actions(
  file: str, action: np.ndarray, labels: tuple[str, ...], *, choices: bool
) -> list[str]:
  """Reports actions [B, A] that were never tried."""
  steady = constant(action)
  if choices:
    never = steady & (action[0] == 0)
    if not never.any():
      return []
    return [
      f'{file}: choices {", ".join(map(str, np.flatnonzero(never)))} were never'
      ' taken: models cannot learn their effects'
    ]
  if not steady.any():
    return []
  return [
    f'{file}: {_listed(labels, steady)} never varies: models cannot learn the'
    ' effects of other actions'
  ]


def constant(values: np.ndarray) -> np.ndarray:
  """Returns whether columns of `values` [B, D] are constant up to rounding."""
  return np.std(values, 0) <= _EPS * np.max(np.abs(values), 0)


def _copies(obs: np.ndarray, varying: np.ndarray) -> list[list[int]]:
  """Returns groups of columns that are equal in every row."""
  groups: dict[bytes, list[int]] = {}
  for column in np.flatnonzero(varying):
    key = np.ascontiguousarray(obs[:, column]).tobytes()
    groups.setdefault(key, []).append(int(column))
  return [same for same in groups.values() if len(same) > 1]


def _listed(labels: tuple[str, ...], chosen: np.ndarray) -> str:
  names = [labels[i] for i in np.flatnonzero(chosen)]
  more = f' and {len(names) - _NAMED} more' if len(names) > _NAMED else ''
  return ', '.join(names[:_NAMED]) + more
