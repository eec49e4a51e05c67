"""Numbers gone bad, wherever they are put: left out, counted, never learned.

One set of programs serves all: what is injected is in the state. What a fit
does with them by itself is in `test_fit.py`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.envs import point
from tests import tiny

_MEMBERS, _STEPS = 2, 2
_PHASES = ('collect', 'fit', 'improve')
_COUNTS = [
  'transitions', 'stored', 'members', 'rollouts', 'advantages', 'adaptations',
  'gradients', 'kl', 'steps', 'stuck',
]  # fmt: skip


class Programs:
  """The phases of an algorithm, each compiled once."""

  def __init__(self, env):
    config = tiny.point_config()
    self.algorithm = mbmpo.make(env, config, check=False)
    for name, phase in self.algorithm.phases.items():
      setattr(self, name, jax.jit(phase.function))
    init = jax.jit(self.algorithm.init)
    self.start, _ = self.collect(
      init(jax.random.PRNGKey(0), base.hyper(config))
    )

  def iterate(self, state):
    """One iteration; the metrics of all phases."""
    metrics = {}
    for name in _PHASES:
      state, values = getattr(self, name)(state)
      metrics |= values
    return state, metrics


@pytest.fixture(scope='module')
def programs() -> Programs:
  return Programs(envs.make('point'))


@pytest.fixture(scope='module')
def fitted(programs) -> state_lib.State:
  return programs.fit(programs.start)[0]


def counts(metrics) -> dict[str, float]:
  """The counts above zero."""
  values = {n: float(metrics.get(f'nonfinite/{n}', 0)) for n in _COUNTS}
  return {name: value for name, value in values.items() if value}


def assert_finite(tree) -> None:
  for path, leaf in jax.tree.leaves_with_path(tree):
    assert np.all(np.isfinite(leaf)), jax.tree_util.keystr(path)


def assert_same(tree, expected) -> None:
  jax.tree.map(np.testing.assert_array_equal, tree, expected)


def with_buffer(state, **changes) -> state_lib.State:
  data = state.buffer.data._replace(**changes)
  return state._replace(buffer=state.buffer._replace(data=data))


# --- a model's weights


def test_new_members_differ_from_each_other_and_from_the_last(programs):
  state = programs.start._replace(
    ensemble=jax.tree.map(
      lambda x: x if x.dtype == jnp.int32 else jnp.full_like(x, jnp.nan),
      programs.start.ensemble,
    )
  )
  state, metrics = programs.fit(state)
  assert counts(metrics) == {'members': _MEMBERS}
  new = state.ensemble.params[0]['v']
  assert not np.any(new[0] == new[1])
  assert not np.any(np.isclose(new, programs.start.ensemble.params[0]['v']))
  state, metrics = programs.improve(state)
  assert metrics['meta/accept_rate'] == 1
  assert_finite(state.policy)


# --- the buffer


@pytest.mark.parametrize('left', [0, 1])
def test_without_data_nothing_is_learned_until_there_is(programs, left):
  """No member moves, no task is imagined, theta stays; then all goes on."""
  data = programs.start.buffer.data
  spoilt = with_buffer(programs.start, obs=data.obs.at[left:].set(jnp.nan))
  state, metrics = programs.fit(spoilt)
  assert metrics['nonfinite/stored'] == 40 - left
  assert metrics['model/epochs'] == 0
  assert np.isnan(metrics['model/val_loss'])
  assert_same(state.ensemble, programs.start.ensemble)
  state, metrics = programs.improve(state)
  assert counts(metrics)['steps'] == _STEPS
  assert metrics['meta/accept_rate'] == 0
  assert_same(state.policy, programs.start.policy)

  state, metrics = programs.iterate(state)
  assert counts(metrics) == {'stored': 40 - left}
  assert metrics['meta/accept_rate'] == 1
  assert_finite((state.policy, state.ensemble, state.model))


# --- the reward


class Pit(point.Point):
  """The point's reward is no number where the first coordinate is large."""

  def reward(self, obs, action, next_obs):
    return super().reward(obs, action, next_obs) + 0 * jnp.sqrt(
      1.8 - obs[..., 0]
    )


@pytest.mark.slow
def test_a_reward_that_is_no_number_in_places_is_left_out():
  """Real and imagined: training goes on with what is left."""
  programs = Programs(Pit())
  state, seen, accepted = programs.start, [], []
  before = state.policy
  for _ in range(4):
    state, metrics = programs.iterate(state)
    seen.append(counts(metrics))
    accepted.append(float(metrics['meta/accept_rate']))
    assert_finite((state.policy, state.ensemble, state.model, state.buffer))
    assert np.isnan(metrics['real/return']) == ('transitions' in seen[-1])
  assert any('transitions' in found for found in seen)
  assert any('rollouts' in found for found in seen)
  assert sum(rate > 0 for rate in accepted) >= 3
  assert int(state.counters.env_steps) == 200  # those left out were steps too
  moved = jax.tree.map(lambda a, b: np.any(a != b), state.policy, before)
  assert all(jax.tree.leaves(moved))


# --- the policy gradient, and what it is made of


@pytest.mark.parametrize(
  ('field', 'value', 'expected'),
  [
    # T_i' is imagined by theta where adaptation failed.
    ('advantage.discount', np.nan, {'advantages': 2 * 4}),
    ('meta.inner_lr', np.nan, {'adaptations': 4}),
    ('meta.entropy_coef', np.nan, {'gradients': 1}),
    ('trust_region.damping', np.inf, {'gradients': 1}),
  ],
)
def test_a_step_that_is_not_finite_is_not_taken(
  programs, fitted, field, value, expected
):
  hyper = fitted.hyper | {field: jnp.float32(value)}
  state, metrics = programs.improve(fitted._replace(hyper=hyper))
  per_step = {name: count * _STEPS for name, count in expected.items()}
  assert counts(metrics) == {**per_step, 'steps': _STEPS, 'stuck': 1}
  assert metrics['meta/accept_rate'] == 0
  assert_same(state.policy, fitted.policy)
  state, metrics = programs.improve(state._replace(hyper=fitted.hyper))
  assert counts(metrics) == {}
  assert metrics['meta/accept_rate'] == 1


def test_a_policy_that_is_not_finite_spoils_nothing_else(programs, fitted):
  """It cannot be put right; the run stops with a sound checkpoint before."""
  policy = jax.tree.map(lambda x: x * jnp.nan, fitted.policy)
  state, metrics = programs.iterate(
    fitted._replace(
      policy=policy,
      counters=fitted.counters._replace(iteration=jnp.int32(1)),
    )
  )
  assert counts(metrics) == {
    'transitions': 40, 'rollouts': 2 * 4 * _STEPS, 'kl': 15 * _STEPS,
    'steps': _STEPS, 'stuck': 1,
  }  # fmt: skip
  assert_same(state.buffer, fitted.buffer)
  assert_finite((state.ensemble, state.model))
