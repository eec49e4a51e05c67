"""Configurations at random, good and bad, made from the fields' own metadata.

A field that is added to `config.py` is in here without another line.
"""

import contextlib
import math
import pathlib
import types
import typing

import hypothesis
import jax
import numpy as np
import pytest
from absl import flags
from hypothesis import strategies as st

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.training.launch import flags as training_flags
from tests import tiny

_PRESETS = pathlib.Path(__file__).parents[1] / 'experiments' / 'configs'
_FIELDS = {
  name: (hint, bounds)
  for name, hint, bounds in config_lib.leaves(config_lib.Config)
}
# NaN by design: the return and length of imagined episodes where every task is
# rejected in every meta-step, and the loss where no epoch's was finite.
_MAY_BE_NAN = {
  'imagined/return_pre',
  'imagined/return_post',
  'imagined/length',
  'model/val_loss',
}


def _settings(max_examples: int):
  return hypothesis.settings(
    max_examples=max_examples,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(hypothesis.HealthCheck),
  )


def _kinds(hint) -> tuple:
  """The types that a field allows."""
  return typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)


def _good(hint, bounds, current=None) -> st.SearchStrategy:
  """Values in a field's range; small ones, if near a `current` value."""
  if isinstance(hint, types.UnionType):
    return st.one_of([_good(kind, bounds, current) for kind in _kinds(hint)])
  if hint is types.NoneType:
    return st.none()
  if hint is bool:
    return st.booleans()
  if 'choices' in bounds:
    return st.sampled_from(bounds['choices'])
  if hint is str:
    return st.text(max_size=8) if current is None else st.just(current)
  if typing.get_origin(hint) is tuple:
    item = max(current) if current else None
    (kind, _) = typing.get_args(hint)
    return st.lists(_good(kind, bounds, item), max_size=3).map(tuple)
  low = bounds.get('low', bounds.get('above'))
  high = bounds.get('high', bounds.get('below'))
  if hint is int:
    if current is not None:
      high = min(high, max(low + 8, 2 * current))
    return st.integers(low, high)
  return st.floats(low, high).filter(
    # An open bound must not be reached by rounding to single precision either.
    lambda x: all(
      np.float32(x) != np.float32(bounds[key])
      for key in ('above', 'below')
      if key in bounds
    )
  )


def _bad(hint, bounds) -> st.SearchStrategy:
  """Pairs of a value that a field does not allow and its text in a flag."""
  kinds = _kinds(hint)
  values: list = [object, [1, 2], {'a': 1}]  # only from a file
  texts: list[str] = []
  if str not in kinds:
    texts += ['abc', '1;2', '--']
    values.append('abc')
  if 'choices' in bounds:
    texts += ['', 'x', bounds['choices'][0] + 'x']
  if types.NoneType not in kinds:
    values.append(None)
  if bool not in kinds:
    values.append(True)
  numbers = []
  if int in kinds or float in kinds:
    texts += ['nan', 'inf', '-inf', '1e400', '(1, 2)']
    numbers += [math.nan, math.inf, -math.inf, 10**400]
    if 'low' in bounds or 'above' in bounds:
      numbers.append(bounds.get('low', bounds.get('above')) - 1)
    if 'high' in bounds or 'below' in bounds:
      numbers += [bounds.get('high', bounds.get('below')) + 1, 1e300, 10**12]
    numbers += [bounds[key] for key in ('above', 'below') if key in bounds]
  if int in kinds:
    numbers.append(1.5)
  if typing.get_origin(hint) is tuple:
    texts += ['(1.5,)', '(0,)', '(8, -1)', '(1000000000,)', '(']
    values += [8, (8, 'a'), (0,), (10**12, 8)]
  texts += [str(number) for number in numbers]
  values += [*numbers, *texts] if str not in kinds else numbers
  pairs = st.tuples(st.sampled_from(values), st.sampled_from(texts or [None]))
  return pairs


@st.composite
def _changes(draw) -> dict[str, tuple[bool, object, str | None]]:
  """By field: whether it is good, a value, and its text on a command line."""
  names = draw(
    st.lists(
      st.sampled_from(list(_FIELDS)), min_size=1, max_size=3, unique=True
    )
  )
  changes = {}
  for name in names:
    hint, bounds = _FIELDS[name]
    if draw(st.integers(0, 2)):
      value = draw(_good(hint, bounds))
      changes[name] = (True, value, str(value))
    else:
      changes[name] = (False, *draw(_bad(hint, bounds)))
  return changes


def _check_refusal(message: str, bad: list[str]) -> None:
  """One line, which names a bad field, or else one in a bad relation."""
  assert '\n' not in message
  assert len(message) < 1000
  assert any(name in message for name in bad or _FIELDS)


@_settings(500)
@hypothesis.given(_changes(), st.sampled_from(['point', 'half_cheetah_quick']))
def test_every_configuration_is_accepted_or_refused_in_one_line(
  changes, preset
):
  """By assignment, as in a file, and on the command line."""
  bad = [name for name, (good, *_) in changes.items() if not good]
  arguments = ['train.py', f'--config={_PRESETS}/{preset}.py']
  plain = training_flags.parse(
    arguments,
    default_config=_PRESETS / 'point.py',
    flag_values=flags.FlagValues(),
  ).config
  config = config_lib.replaced(
    plain, {name: value for name, (_, value, _) in changes.items()}
  )
  accepted = True
  try:
    validation.validate(config)
  except config_lib.ConfigError as error:
    accepted = False
    _check_refusal(str(error), bad)
  hypothesis.event('accepted' if accepted else 'refused')
  assert not (accepted and bad)

  arguments += [
    f'--config.{name}={text}'
    for name, (_, _, text) in changes.items()
    if text is not None
  ]
  bad = [name for name in bad if changes[name][2] is not None]
  try:
    parsed = training_flags.parse(
      arguments,
      default_config=_PRESETS / 'point.py',
      flag_values=flags.FlagValues(),
    ).config
  except config_lib.ConfigError as error:
    _check_refusal(str(error), bad)
    assert not accepted
  else:
    assert not bad
    if accepted:
      assert parsed == config


@_settings(100)
@hypothesis.given(
  st.sampled_from(list(_FIELDS)), st.data(), st.sampled_from(['drop', 'swap'])
)
def test_a_misspelt_field_is_refused_with_the_nearest(name, data, mistake):
  """By assignment and on the command line."""
  section, _, field = name.rpartition('.')
  at = data.draw(st.integers(1, len(field) - 2))
  if mistake == 'drop':
    wrong = field[:at] + field[at + 1 :]
  else:
    wrong = field[:at] + field[at + 1] + field[at] + field[at + 2 :]
  dotted = f'{section}.{wrong}' if section else wrong
  hypothesis.assume(dotted not in _FIELDS)
  config = config_lib.replaced(config_lib.Config(), {dotted: 1})
  with pytest.raises(config_lib.ConfigError) as assigned:
    validation.validate(config)
  with pytest.raises(config_lib.ConfigError) as parsed:
    training_flags.parse(
      ['train.py', f'--config.{dotted}=1'],
      default_config=_PRESETS / 'point.py',
      flag_values=flags.FlagValues(),
    )
  for error in (assigned, parsed):
    message = str(error.value)
    assert '\n' not in message
    assert dotted in message
    assert 'did you mean' in message


@st.composite
def _tiny_configs(draw) -> config_lib.Config:
  """`tiny.point_config` with some fields anywhere in their range but small."""
  config = tiny.point_config()
  now = config_lib.flatten(config)
  names = draw(
    st.lists(
      st.sampled_from(list(_FIELDS)), min_size=2, max_size=8, unique=True
    )
  )
  return config_lib.replaced(
    config, {name: draw(_good(*_FIELDS[name], now[name])) for name in names}
  )


def _make(config: config_lib.Config):
  """The algorithm, where the configuration is allowed."""
  try:
    with contextlib.suppress(envs.UnknownEnvironmentError):
      env = envs.make(config.env.name, config.env.variant)
      return mbmpo.make(env, config, check=False)
  except config_lib.ConfigError:
    pass
  return None


_TRACED: list[config_lib.Config] = []


@pytest.mark.slow
@_settings(300)
@hypothesis.given(_tiny_configs())
def test_what_is_accepted_can_be_traced(config):
  """50 of them; a state comes out as it went in."""
  algorithm = _make(config) if len(_TRACED) < 50 else None
  if algorithm is None:
    return
  _TRACED.append(config)
  state = jax.eval_shape(algorithm.init, jax.random.PRNGKey(0))
  after, metrics = jax.eval_shape(algorithm.update, state)
  assert after == state
  assert all(value.shape == () for value in metrics.values())


@pytest.mark.slow
def test_so_many_were_traced():
  assert len(_TRACED) == 50


_RUN: list[config_lib.Config] = []


@pytest.mark.slow
@_settings(100)
@hypothesis.given(_tiny_configs())
def test_what_is_accepted_runs(config):
  """12 of them for an iteration: metrics and parameters are finite."""
  algorithm = _make(config) if len(_RUN) < 12 else None
  if algorithm is None:
    return
  _RUN.append(config)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0))
  state, metrics = jax.jit(algorithm.update)(state)
  for name, value in metrics.items():
    assert np.isfinite(value) or name in _MAY_BE_NAN, name
  for leaf in jax.tree.leaves((state.policy, state.ensemble, state.buffer)):
    assert np.all(np.isfinite(leaf))


@pytest.mark.slow
def test_so_many_ran():
  assert len(_RUN) == 12
