"""Validation of a configuration: names, types, ranges and relations of fields.

Every error is one line that names the field, its value and what is allowed.
"""

import dataclasses
import difflib
import operator
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from mbmpo_jax import config as config_lib

_LONGEST_VALUE = 200
_LARGEST = float(np.finfo(np.float32).max)


def validate(
  config: config_lib.Experiment, *, env_max_episode_steps: int | None = None
) -> None:
  """Checks names, types, ranges and relations of all fields.

  Args:
    config: the configuration, after all overrides.
    env_max_episode_steps: the environment's time limit in steps, if known.

  Raises:
    config.ConfigError: one line naming the first field at fault, its value and
      what is allowed.

  Example:
    >>> validate(config_lib.Experiment(seed=-1))
    Traceback (most recent call last):
    mbmpo_jax.config.ConfigError: seed=-1: must be an int >= 0 ...
  """
  _check_names(config, type(config))
  for name, hint, bounds in config_lib.leaves(type(config)):
    value = operator.attrgetter(name)(config)
    if not (_has_type(value, hint) and _in_range(value, bounds)):
      hint_at = nearest(str(value), bounds.get('choices', ()))
      raise config_lib.ConfigError(
        f'{name}={_shown(value)}: must be {_allowed(hint, bounds)}{hint_at}'
      )
    if isinstance(value, float) and not _in_range_when_rounded(value, bounds):
      raise config_lib.ConfigError(
        f'{name}={value}: must be {_allowed(hint, bounds)}, but is'
        f' {np.float32(value)} in single precision'
      )
  config.check(env_max_episode_steps=env_max_episode_steps)


def allowed_values(kind: type[config_lib.Experiment]) -> dict[str, str]:
  """Returns a dict from dotted field names to allowed values in words."""
  return {
    name: _allowed(hint, bounds)
    for name, hint, bounds in config_lib.leaves(kind)
  }


def nearest(name: str, known: Iterable[str]) -> str:
  """Returns ` (did you mean 'x'?)` for the closest known name, or `''`.

  Example:
    >>> nearest('inner_rl', ['inner_lr', 'max_kl'])
    " (did you mean 'inner_lr'?)"
  """
  close = difflib.get_close_matches(name, list(known), n=1)
  return f' (did you mean {close[0]!r}?)' if close else ''


# Abbreviations in field names, and what they stand for.
_WORDS = {
  'cg': 'conjugate_gradient',
  'coef': 'coefficient',
  'dt': 'time_step',
  'eval': 'evaluation',
  'init': 'initial',
  'kl': 'kl_divergence',
  'lr': 'learning_rate',
  'max': 'maximum',
  'min': 'minimum',
  'num': 'number_of',
  'obs': 'observation',
  'std': 'standard_deviation',
}


def nearest_field(name: str, known: Iterable[str]) -> str:
  """Like `nearest`, for dotted field names.

  The comparison also ignores the section and expands abbreviations.

  Example:
    >>> nearest_field('inner_learning_rate', ['seed', 'meta.inner_lr'])
    " (did you mean 'meta.inner_lr'?)"
  """
  known = list(known)
  spelt = _spelt_out(name)
  last = spelt.rpartition('.')[2]

  def likeness(field: str) -> float:
    full = _spelt_out(field)
    alike = [
      difflib.SequenceMatcher(None, one, other).ratio()
      for one, other in (
        (name, field),
        (spelt, full),
        # Without the section; weighted by 0.95 below.
        (last, full.rpartition('.')[2]),
      )
    ]
    return max(alike[0], alike[1], 0.95 * alike[2])

  best = max(known, key=likeness, default='')
  close = bool(best) and likeness(best) >= 0.6
  return f' (did you mean {best!r}?)' if close else ''


def _spelt_out(name: str) -> str:
  return '.'.join(
    '_'.join(_WORDS.get(word, word) for word in part.split('_'))
    for part in name.split('.')
  )


def _check_names(section: Any, kind: type, name: str = '') -> None:
  """Checks the type of every section, and that it has no unknown attribute.

  Otherwise a misspelt assignment in a configuration file would go unnoticed.
  """
  if not isinstance(section, kind):
    # Sections of different algorithms may have the same name.
    raise config_lib.ConfigError(
      f'{name or "config"}={section!r}: must be of type'
      f' {kind.__module__}.{kind.__qualname__}'
    )
  prefix = f'{name}.' if name else ''
  hints = typing.get_type_hints(kind)
  for attribute in vars(section):
    if attribute not in hints:
      raise config_lib.ConfigError(
        f'{prefix}{attribute}: unknown field{nearest(attribute, hints)}'
      )
  for child, hint in hints.items():
    if dataclasses.is_dataclass(hint):
      _check_names(
        getattr(section, child), typing.cast(type, hint), prefix + child
      )


def _shown(value: Any) -> str:
  """Returns `repr(value)` in one line, truncated if it is long."""
  text = ' '.join(repr(value).split())
  return text if len(text) <= _LONGEST_VALUE else f'{text[:_LONGEST_VALUE]}...'


def _has_type(value: Any, hint: Any) -> bool:
  if typing.get_origin(hint) is tuple:
    item = typing.get_args(hint)[0]
    return isinstance(value, tuple) and all(_has_type(v, item) for v in value)
  if isinstance(hint, types.UnionType):
    return any(_has_type(value, kind) for kind in typing.get_args(hint))
  if hint is float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and abs(value) <= _LARGEST  # NaN is not
  if hint is int:
    return isinstance(value, int) and not isinstance(value, bool)
  return isinstance(value, hint)


_COMPARISONS = {
  'low': ('>=', operator.ge),
  'above': ('>', operator.gt),
  'high': ('<=', operator.le),
  'below': ('<', operator.lt),
}


def _in_range(value: Any, bounds: Mapping[str, Any]) -> bool:
  """Whether a value of the right type, or each item of a tuple, is allowed."""
  if value is None:
    return True
  if isinstance(value, tuple):
    return all(_in_range(item, bounds) for item in value)
  if 'choices' in bounds:
    return value in bounds['choices']
  return all(
    holds(value, bounds[key])
    for key, (_, holds) in _COMPARISONS.items()
    if key in bounds
  )


def _in_range_when_rounded(value: float, bounds: Mapping[str, Any]) -> bool:
  """Like `_in_range`, for the value rounded to single precision."""
  single = {
    key: np.float32(bound)
    for key, bound in bounds.items()
    if key in _COMPARISONS
  }
  return _in_range(np.float32(value), single)


def _allowed(hint: Any, bounds: Mapping[str, Any]) -> str:
  """Describes a type and its bounds in words, as in `an int >= 1`."""
  if 'choices' in bounds:
    return 'one of ' + ', '.join(repr(choice) for choice in bounds['choices'])
  if isinstance(hint, types.UnionType):
    kinds = [k for k in typing.get_args(hint) if k is not types.NoneType]
    return ' or '.join(['None', *(_allowed(kind, bounds) for kind in kinds)])
  if typing.get_origin(hint) is tuple:
    words = 'a tuple of ' + typing.get_args(hint)[0].__name__
  else:
    words = {
      int: 'an int',
      float: 'a finite float',
      bool: 'True or False',
      str: 'a string',
    }[hint]
  limits = [
    f'{symbol} {bounds[key]}'
    for key, (symbol, _) in _COMPARISONS.items()
    if key in bounds
  ]
  return f'{words} {" and ".join(limits)}'.rstrip()
