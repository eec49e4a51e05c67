"""Configurations at random, good and bad, made from the fields' own metadata.

A field that is added to a configuration is in here without another line, and so
is an algorithm that is registered.
"""

import contextlib
import math
import pathlib
import types
import typing
from collections.abc import Iterable

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl import flags
from hypothesis import strategies as st

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.training import iteration
from mbmpo_jax.training import memory
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import tiny as tiny_lib
from mbmpo_jax.training.reporting import progress
from tests import tiny

_PRESETS = pathlib.Path(__file__).parents[1] / 'experiments' / 'configs'
_FIELDS = {
  algorithm: {
    name: (hint, bounds)
    for name, hint, bounds in config_lib.leaves(algorithms.config(algorithm))
  }
  for algorithm in algorithms.names()
}
_algorithms = st.sampled_from(algorithms.names())
# NaN by design: the return and length of imagined episodes where every task is
# rejected in every meta-step, the loss where no epoch's was finite, and the
# deviation of a policy that chooses.
_MAY_BE_NAN = {
  'imagined/return_pre',
  'imagined/return_post',
  'imagined/length',
  'model/val_loss',
  'policy/std',
}
_OF_UPDATES = ('batches/', 'critic/', 'imagined/', 'policy/')


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
      high = bounds.get('high', bounds.get('below'))
      numbers += [high + 1, 1e300, *([10**12] if high < 10**12 else [])]
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
def _changes(draw) -> tuple[str, dict[str, tuple[bool, object, str | None]]]:
  """An algorithm; by field whether it is good, a value, its text in a flag."""
  algorithm = draw(_algorithms)
  fields = _FIELDS[algorithm]
  names = draw(
    st.lists(st.sampled_from(list(fields)), min_size=1, max_size=3, unique=True)
  )
  changes = {}
  for name in names:
    hint, bounds = fields[name]
    if draw(st.integers(0, 2)):
      value = draw(_good(hint, bounds))
      changes[name] = (True, value, str(value))
    else:
      changes[name] = (False, *draw(_bad(hint, bounds)))
  return algorithm, changes


def _parse(*arguments: str) -> config_lib.Experiment:
  return training_flags.parse(
    ['train.py', *arguments],
    default_config=_PRESETS / 'mbmpo' / 'point.py',
    flag_values=flags.FlagValues(),
  ).config


def _a_preset(algorithm: str) -> str:
  """The flag; of `point` where there is such a one."""
  names = sorted(path.stem for path in (_PRESETS / algorithm).glob('*.py'))
  names.sort(key=lambda name: not name.startswith('point'))
  return f'--config={algorithm}/{names[0]}'


def _check_refusal(message: str, names: Iterable[str]) -> None:
  """One line, which names one of the fields."""
  assert '\n' not in message
  assert len(message) < 1000
  assert any(name in message for name in names)


@_settings(300)
@hypothesis.given(_changes(), st.booleans())
def test_every_configuration_is_accepted_or_refused_in_one_line(
  change, is_last_preset
):
  """By assignment, as in a file, and on the command line."""
  algorithm, changes = change
  fields = _FIELDS[algorithm]  # One in a bad relation may be another one.
  bad = [name for name, (good, *_) in changes.items() if not good]
  presets = sorted((_PRESETS / algorithm).glob('*.py'))
  arguments = [f'--config={presets[-is_last_preset]}']
  plain = _parse(*arguments)
  config = config_lib.replaced(
    plain, {name: value for name, (_, value, _) in changes.items()}
  )
  accepted = True
  try:
    validation.validate(config)
  except config_lib.ConfigError as error:
    accepted = False
    _check_refusal(str(error), bad or fields)
  hypothesis.event('accepted' if accepted else 'refused')
  assert not (accepted and bad)

  arguments += [
    f'--config.{name}={text}'
    for name, (_, _, text) in changes.items()
    if text is not None
  ]
  bad = [name for name in bad if changes[name][2] is not None]
  try:
    parsed = _parse(*arguments)
  except config_lib.ConfigError as error:
    _check_refusal(str(error), bad or fields)
    assert not accepted
  else:
    assert not bad
    if accepted:
      assert parsed == config


@_settings(100)
@hypothesis.given(_algorithms, st.data(), st.sampled_from(['drop', 'swap']))
def test_a_misspelt_field_is_refused_with_the_nearest(algorithm, data, mistake):
  """By assignment and on the command line."""
  fields = _FIELDS[algorithm]
  name = data.draw(st.sampled_from(list(fields)))
  section, _, field = name.rpartition('.')
  at = data.draw(st.integers(1, len(field) - 2))
  if mistake == 'drop':
    wrong = field[:at] + field[at + 1 :]
  else:
    wrong = field[:at] + field[at + 1] + field[at] + field[at + 2 :]
  dotted = f'{section}.{wrong}' if section else wrong
  hypothesis.assume(dotted not in fields)
  config = config_lib.replaced(algorithms.config(algorithm)(), {dotted: 1})
  with pytest.raises(config_lib.ConfigError) as assigned:
    validation.validate(config)
  with pytest.raises(config_lib.ConfigError) as parsed:
    _parse(_a_preset(algorithm), f'--config.{dotted}=1')
  for error in (assigned, parsed):
    message = str(error.value)
    assert '\n' not in message
    assert dotted in message
    assert 'did you mean' in message


@st.composite
def _tiny_configs(draw, algorithm: str) -> config_lib.Experiment:
  """A tiny one with some fields anywhere in their range, but small."""
  fields = _FIELDS[algorithm]
  if algorithm == 'mbmpo':
    config: config_lib.Experiment = tiny.point_config()
  else:
    config = tiny_lib.shrink(_parse(_a_preset(algorithm)))
  now = config_lib.flatten(config)
  names = draw(
    st.lists(st.sampled_from(list(fields)), min_size=2, max_size=8, unique=True)
  )
  return config_lib.replaced(
    config, {name: draw(_good(*fields[name], now[name])) for name in names}
  )


def _make(config: config_lib.Experiment) -> base.Algorithm | None:
  """The algorithm, where the configuration is allowed."""
  try:
    with contextlib.suppress(envs.UnknownEnvironmentError):
      env = envs.make(config.env.name, config.env.variant)
      return algorithms.make(config.algorithm, env, config, check=False)
  except config_lib.ConfigError:
    pass
  return None


def _up_to(count: int, algorithm: str, check) -> None:
  """Calls `check` with so many algorithms, of configurations at random."""
  checked = 0

  @_settings(6 * count)
  @hypothesis.given(_tiny_configs(algorithm))
  def run(config):
    nonlocal checked
    made = _make(config) if checked < count else None
    if made is not None:
      check(made, config)
      checked += 1

  run()
  assert checked == count


@pytest.mark.parametrize(
  ('name', 'field'),
  [('pe_ppo', 'context.encoder_sizes'), ('gssm', 'model.encoder_sizes')],
)
def test_an_encoder_has_layers(name, field):
  """Found by the test below."""
  config = config_lib.replaced(algorithms.config(name)(), {field: ()})
  with pytest.raises(config_lib.ConfigError, match='at least one layer'):
    validation.validate(config)


@pytest.mark.slow
@pytest.mark.parametrize('name', algorithms.names())
def test_what_is_accepted_can_be_traced(name):
  """15 of them; a state comes out as it went in."""

  def trace(algorithm, config):
    state = jax.eval_shape(
      algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
    )
    after, metrics = jax.eval_shape(algorithm.update, state)
    assert after == state
    assert all(value.shape == () for value in metrics.values())

  _up_to(15, name, trace)


@pytest.mark.slow
@pytest.mark.parametrize('name', algorithms.names())
def test_what_is_accepted_runs(name):
  """6 of them for some iterations: metrics and parameters are finite."""

  def run(algorithm, config):
    state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
    update = jax.jit(algorithm.update)
    for _ in range(3):  # the first may only explore
      state, metrics = update(state)
    # A mean over updates is NaN where there was none.
    idle = _OF_UPDATES if metrics.get('updates') == 0 else ()
    for metric, value in metrics.items():
      may_be_nan = metric in _MAY_BE_NAN or metric.startswith(idle)
      assert np.isfinite(value) or may_be_nan, metric
    for leaf in jax.tree.leaves(state):
      if jnp.issubdtype(leaf.dtype, jnp.floating):
        assert np.all(np.isfinite(leaf))

  _up_to(6, name, run)


@st.composite
def _large_configs(draw, algorithm: str) -> config_lib.Experiment:
  """A tiny one with some sizes anywhere in their range, up to its bounds."""
  if algorithm == 'mbmpo':
    config: config_lib.Experiment = tiny.point_config()
  else:
    config = tiny_lib.shrink(_parse(_a_preset(algorithm)))
  sizes = {
    name: known
    for name, known in _FIELDS[algorithm].items()
    if int in (*_kinds(known[0]), *typing.get_args(known[0]))
    and not name.startswith(('seed', 'env.'))
  }
  names = draw(
    st.lists(st.sampled_from(list(sizes)), min_size=1, max_size=3, unique=True)
  )
  values = {}
  for name in names:
    hint, bounds = sizes[name]
    least, most = (
      (st.just(bounds[k]) for k in ('low', 'high'))
      if int in _kinds(hint) and {'low', 'high'} <= set(bounds)
      else (st.nothing(), st.nothing())
    )
    values[name] = draw(st.one_of(_good(hint, bounds), least, most))
  return config_lib.replaced(config, values)


def _fits_or_is_refused(name: str, count: int, monkeypatch) -> None:
  """So many configurations; nothing is compiled, and nothing large made."""
  there = memory.Room(2 * 10**9, 'the test')
  monkeypatch.setattr(memory, 'room', lambda: there)
  outcomes = {'fits': 0, 'too large': 0}

  def build(config: config_lib.Experiment) -> iteration.Iteration:
    env = envs.from_config(
      config.env, episode_length=config.collect.episode_length
    )
    algorithm = algorithms.make(config.algorithm, env, config, check=False)
    return iteration.Iteration(env, config, algorithm, progress.Silent())

  @_settings(8 * count)
  @hypothesis.given(_large_configs(name))
  def run(config):
    if sum(outcomes.values()) >= count or _make(config) is None:
      return
    try:
      made = memory.check(config, build)
    except memory.OutOfMemoryError as error:
      outcomes['too large'] += 1
      _check_refusal(str(error), _FIELDS[name])
      return
    outcomes['fits'] += 1
    state = sum(
      math.prod(x.shape) * x.dtype.itemsize
      for x in jax.tree.leaves(made._abstract)
    )
    assert state < there.size / 2

  run()
  assert sum(outcomes.values()) > 0


@pytest.mark.slow
def test_sizes_up_to_their_bounds_fit_or_are_refused(monkeypatch):
  """Two of MB-MPO's; none hangs, none is killed for its memory."""
  _fits_or_is_refused('mbmpo', 2, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize('name', algorithms.names())
def test_more_sizes_up_to_their_bounds_fit_or_are_refused(name, monkeypatch):
  """Ten of each algorithm's."""
  _fits_or_is_refused(name, 10, monkeypatch)
