"""The table in docs/environments.md: sizes, times, resets, terminations.

What it says of rewards is tested in `test_mjx_fidelity.py`.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.envs import quaternions

_DOCS = pathlib.Path(__file__).parents[1] / 'docs' / 'environments.md'


def _rows() -> list[tuple[str, str | None, list[str]]]:
  """Name, variant and the other cells of every row of the table."""
  rows, name = [], ''
  for line in _DOCS.read_text().splitlines():
    cells = [cell.strip() for cell in re.split(r'(?<!\\)\|', line)[1:-1]]
    if len(cells) != 8 or cells[0] in ('environment', '---'):
      continue
    name = cells[0].strip('`') or name
    rows.append((name, cells[1].strip('`') or None, cells[2:]))
  return rows


def test_table_lists_every_environment_and_variant_in_order():
  ours = envs.names()
  listed = {name: [] for name, _, _ in _rows()}
  for name, variant, _ in _rows():
    listed[name] += [variant] if variant else []
  assert listed == {name: list(envs.variants(name)) for name in ours}


@pytest.mark.parametrize(('name', 'variant', 'cells'), _rows())
def test_sizes_times_and_resets(name, variant, cells):
  observation, action, dt, _, done, reset = cells
  env = envs.make(name, variant)
  assert env.observation_size == int(observation.split(':')[0])
  assert env.action_size == int(action)
  assert env.dt == pytest.approx(float(dt))
  assert env.can_terminate == (done != 'never')
  noise = re.fullmatch(r'qpos ([UN])\((.*?)\).*, qvel ([UN])\((.*?)\).*', reset)
  if noise is None:
    return
  keys = jax.random.split(jax.random.PRNGKey(0), 500)
  body = env.family.nominal if isinstance(env, envs.Tasked) else env
  states = jax.jit(jax.vmap(body.initial_state))(keys)
  positions = np.asarray(states.qpos)
  # A quaternion is brought to length 1 after the noise.
  for place in quaternions.addresses(body.mj_model)[::-1]:
    four = slice(place, place + 4)
    lengths = np.linalg.norm(positions[:, four], axis=1)
    np.testing.assert_allclose(lengths, 1, rtol=1e-5)
    positions = np.delete(positions, four, axis=1)
  for kind, scale, drawn in (
    (*noise.groups()[:2], positions),
    (*noise.groups()[2:], states.qvel),
  ):
    deviation = np.asarray(drawn) - np.median(drawn, axis=0)[None]
    width = float(scale)
    std = width if kind == 'N' else width / np.sqrt(3)
    np.testing.assert_allclose(np.std(deviation, axis=0), std, rtol=0.15)
    if kind == 'U':
      assert np.max(np.ptp(deviation, axis=0)) < 2.001 * width
    else:
      assert np.max(np.abs(deviation)) > 2.5 * width


def _angle(obs: np.ndarray, cosine: int, sine: int) -> np.ndarray:
  return np.arctan2(obs[:, sine], obs[:, cosine])


@pytest.mark.parametrize(
  ('name', 'variant', 'numbers', 'ranges'),
  [
    (
      'pendulum',
      'benchmark',
      lambda o: (_angle(o, 0, 1), o[:, 2]),
      [(-np.pi, np.pi), (-1, 1)],
    ),
    ('cartpole', 'benchmark', lambda o: o.T, [(-0.05, 0.05)] * 4),
    ('mountain_car', 'benchmark', lambda o: o.T, [(-0.6, -0.4), (0, 0)]),
    (
      'acrobot',
      'benchmark',
      lambda o: (_angle(o, 0, 1), _angle(o, 2, 3), *o[:, 4:].T),
      [(-0.1, 0.1)] * 4,
    ),
    ('acrobot', 'absorbing', lambda o: o.T, [(-0.1, 0.1)] * 4),
    (
      'reacher',
      'benchmark',
      lambda o: (_angle(o, 0, 2), _angle(o, 1, 3), *o[:, 4:6].T),
      [(-0.1, 0.1), (-0.1, 0.1), (-0.2, 0.2), (-0.2, 0.2)],
    ),
  ],
)
def test_worlds_without_a_body_start_uniformly(name, variant, numbers, ranges):
  """Within the ranges of Gym's environments of these names."""
  env = envs.make(name, variant)
  body = env.family.nominal if isinstance(env, envs.Tasked) else env
  keys = jax.random.split(jax.random.PRNGKey(0), 1000)
  obs = np.asarray(jax.jit(jax.vmap(lambda key: body.reset(key).obs))(keys))
  drawn = numbers(obs)
  assert len(drawn) == len(ranges)
  for values, (low, high) in zip(drawn, ranges, strict=True):
    if low == high:
      np.testing.assert_allclose(values, low, atol=1e-6)
    else:
      # Uniform: all deciles are where they belong.
      found = (np.quantile(values, np.arange(0, 1.01, 0.1)) - low) / (
        high - low
      )
      np.testing.assert_allclose(found, np.arange(0, 1.01, 0.1), atol=0.06)
      assert np.all((values >= low - 1e-5) & (values <= high + 1e-5))


@pytest.mark.parametrize(
  ('name', 'index', 'value', 'done'),
  [
    ('hopper', 0, 0.71, 0),
    ('hopper', 0, 0.69, 1),
    ('hopper', 1, -0.19, 0),
    ('hopper', 1, -0.21, 1),
    ('hopper', 4, 99.0, 0),
    ('hopper', 4, -101.0, 1),
    ('walker2d', 0, 0.81, 0),
    ('walker2d', 0, 0.79, 1),
    ('walker2d', 0, 1.99, 0),
    ('walker2d', 0, 2.01, 1),
    ('walker2d', 1, 0.99, 0),
    ('walker2d', 1, 1.01, 1),
    ('ant', 0, 0.21, 0),
    ('ant', 0, 0.19, 1),
    ('ant', 0, 0.99, 0),
    ('ant', 0, 1.01, 1),
    ('ant', 9, np.inf, 1),
  ],
)
@pytest.mark.parametrize('variant', ['paper', 'gymnasium'])
def test_episodes_end_beyond_their_limits(name, variant, index, value, done):
  env = envs.make(name, variant)
  healthy = {'hopper': 1.25, 'walker2d': 1.25, 'ant': 0.75}[name]
  obs = jnp.zeros(env.observation_size).at[0].set(healthy)
  assert env.done(obs) == 0
  assert env.done(obs.at[index].set(value)) == done


@pytest.mark.parametrize(
  ('name', 'variant', 'message'),
  [
    (
      'hoper',
      None,
      r"env.name='hoper': must be one of .*did you mean 'hopper'",
    ),
    (
      'hopper',
      'gymnasum',
      r"env.variant='gymnasum': must be one of paper, gymnasium,"
      r" benchmark \(did you mean 'gymnasium'\?\)",
    ),
    ('point', 'paper', "env.variant='paper': must be None: 'point' has no"),
  ],
)
def test_what_is_unknown_is_refused_with_the_nearest_name(
  name, variant, message
):
  with pytest.raises(envs.UnknownEnvironmentError, match=message):
    envs.make(name, variant)
