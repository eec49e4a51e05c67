"""The largest possible return, against enumeration and against rollouts."""

import functools
import itertools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.figures import benchmark_optimum
from mbmpo_jax import envs
from mbmpo_jax.theory import optimum


def _pendulum(theta, speed, action):
  """The next state and the reward, written again in float64."""
  reward = -(
    math.cos(theta)
    + 0.1 * abs(math.sin(theta))
    + 0.1 * speed**2
    + 0.001 * (2 * action) ** 2
  )
  speed += 0.05 * (15 * math.sin(theta) + 6 * action)
  theta += 0.05 * speed
  return theta, min(8.0, max(-8.0, speed)), reward


def test_values_between_points():
  """Exact where a function is linear in both; periodic in an angle."""
  axes = (optimum.Axis(-2.0, 1.0, 7), optimum.Axis(0.0, 4.0, 5))
  i, j = np.meshgrid(axes[0].values, axes[1].values, indexing='ij')
  states = jnp.array([[-1.9, 0.1], [1.0, 4.0], [0.3, 3.9], [-2.0, 0.0]])
  x, y = np.asarray(states, np.float64).T
  np.testing.assert_allclose(
    optimum.interpolate(jnp.asarray(3 + i * j - i), axes, states),
    3 + x * y - x,
    rtol=1e-6,
  )
  around = (optimum.Axis(-np.pi, np.pi, 8, is_angle=True), axes[1])
  table = jnp.tile(jnp.arange(8.0)[:, None], (1, 5))
  places = -np.pi + np.pi / 4 * np.array([0.0, 7.5, 8.0, 17.25, -0.75])
  states = jnp.stack([jnp.asarray(places), jnp.ones(5)], -1)
  np.testing.assert_allclose(
    optimum.interpolate(table, around, states),
    [0.0, 3.5, 0.0, 1.25, 5.25],
    atol=1e-5,
  )


def test_the_best_of_all_sequences_of_actions():
  """Four steps of the pendulum, each with one of three actions."""
  axes = optimum.LATTICES['pendulum']
  for _ in range(2):
    axes = optimum.finer(axes)
  assert axes[0].size == 4 * 361 and axes[1].size == 4 * 200 + 1
  found = jax.jit(
    lambda: optimum.optimal_values(
      envs.make('pendulum', 'benchmark'), axes, horizon=4, num_actions=3
    )
  )()
  states = np.array([[0.5, 1.0], [3.0, -2.0], [-1.5, 7.9], [-3.1, 0.0]])
  expected = []
  for start in states:
    totals = []
    for actions in itertools.product((-1.0, 0.0, 1.0), repeat=4):
      (theta, speed), total = start, 0.0
      for action in actions:
        theta, speed, reward = _pendulum(theta, speed, action)
        total += reward
      totals.append(total)
    expected.append(max(totals))
  np.testing.assert_allclose(
    optimum.interpolate(found, axes, jnp.asarray(states)), expected, atol=2e-3
  )


def test_a_policy_earns_the_optimum():
  """Greedy in the values, in the environment: as much as they promise."""
  env = envs.make('pendulum', 'benchmark')
  axes = optimum.LATTICES['pendulum']
  horizon, actions = 60, jnp.linspace(-1.0, 1.0, 11)[:, None]

  def outcome(state, action):
    following = env.advance(state, action)
    return following, env.reward(env.observe(state), action, None)

  @jax.jit
  def promised_and_earned(keys):
    values = optimum.optimal_values(
      env, axes, horizon=horizon, num_actions=len(actions)
    )

    def step(state, _):
      following, rewards = jax.vmap(outcome, (None, 0))(state, actions)
      best = jnp.argmax(rewards + optimum.interpolate(values, axes, following))
      return following[best], rewards[best]

    def earned(state):
      return jnp.sum(jax.lax.scan(step, state, None, length=horizon)[1])

    starts = jax.vmap(env.initial_state)(keys)
    return optimum.interpolate(values, axes, starts), jax.vmap(earned)(starts)

  keys = jax.random.split(jax.random.PRNGKey(1), 64)
  promised, earned = promised_and_earned(keys)
  assert np.std(promised) > 10
  np.testing.assert_allclose(earned, promised, atol=1.0)
  np.testing.assert_allclose(np.mean(earned), np.mean(promised), atol=0.2)


def test_the_figure_writes_what_it_finds(tmp_path, monkeypatch):
  """Two lattices of each environment, the second one finer."""
  monkeypatch.setattr(
    benchmark_optimum,
    'found',
    functools.partial(benchmark_optimum.found, horizon=3),
  )
  benchmark_optimum.main(tmp_path)
  rows = json.loads((tmp_path / 'optimum.json').read_text())['found']
  assert [row['environment'] for row in rows] == [
    'pendulum',
    'pendulum',
    'mountain_car',
    'mountain_car',
  ]
  assert [row['actions'] for row in rows] == [11, 21, 11, 21]
  for coarse, fine in (rows[:2], rows[2:]):
    assert fine['return_mean'] == pytest.approx(coarse['return_mean'], abs=0.02)
  # Three steps near the bottom of the valley, at x = -0.5.
  assert rows[2]['return_mean'] == pytest.approx(-1.5, abs=0.02)
