"""MPPI: its weights and means against NumPy, its optima, its memory."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.algorithms import planning
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc
from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import cem
from mbmpo_jax.policies import mppi
from mbmpo_jax.policies import planner

_KEY = jax.random.PRNGKey(0)


def weights_by_hand(returns: np.ndarray, temperature: float) -> np.ndarray:
  """float64; what is not finite counts for nothing."""
  known = np.isfinite(returns)
  shares = np.zeros(len(returns))
  shares[known] = np.exp((returns[known] - returns[known].max()) / temperature)
  return shares / shares.sum()


@pytest.mark.parametrize('temperature', [0.3, 20.0])
def test_weights_are_exponentials_of_returns(temperature, x64):
  returns = np.random.default_rng(0).normal(-1e3, 10, 9)
  returns[[2, 5]] = np.nan, -np.inf
  found = mppi.weights(jnp.asarray(returns), temperature)
  np.testing.assert_allclose(
    found, weights_by_hand(returns, temperature), rtol=1e-12
  )


def test_without_a_finite_return_no_candidate_counts():
  np.testing.assert_array_equal(
    mppi.weights(jnp.array([jnp.nan, -jnp.inf]), 1.0), np.zeros(2)
  )
  mean = jnp.full((3, 1), 0.4)
  after, sequence = mppi.plan(
    lambda sequences, key: jnp.full(20, jnp.nan), _KEY, mean, spaces.Box(1),
    num_candidates=20, num_iterations=2, std=0.5, temperature=1.0,
  )  # fmt: skip
  np.testing.assert_array_equal(after, mean)
  np.testing.assert_array_equal(sequence, mean)


def test_the_mean_is_the_weighted_mean_as_written(x64):
  """Three rounds against NumPy; some actions are clipped."""
  target = np.random.default_rng(1).uniform(-1, 1, (4, 2))
  mean = np.full((4, 2), 0.2)
  for key in jax.random.split(_KEY, 3):
    draw_key, _ = jax.random.split(key)
    noise = np.asarray(jax.random.normal(draw_key, (50, 4, 2)))
    candidates = np.clip(mean + 0.7 * noise, -1, 1)
    returns = -np.square(candidates - target).sum((1, 2))
    shares = weights_by_hand(returns, 0.5)
    mean = np.einsum('c,cha->ha', shares, candidates)
  found, sequence = mppi.plan(
    lambda sequences, key: -jnp.sum(
      jnp.square(sequences - jnp.asarray(target)[None]), (1, 2)
    ),
    _KEY, jnp.full((4, 2), 0.2), spaces.Box(2),
    num_candidates=50, num_iterations=3, std=0.7, temperature=0.5,
  )  # fmt: skip
  np.testing.assert_allclose(found, mean, rtol=1e-10)
  np.testing.assert_array_equal(sequence, found)


def test_choices_are_weighted_the_same_way(x64):
  """The mean stays a distribution; the plan is its likeliest choices."""
  space, mean = spaces.Discrete(3), cem.start(spaces.Discrete(3), 2)
  draw_key, _ = jax.random.split(jax.random.split(_KEY, 1)[0])
  candidates = np.asarray(
    cem.draw(space, mean, jnp.full((2, 3), 0.5), draw_key, count=40)
  )
  wanted = np.array([[0.0, 0, 1], [1, 0, 0]])
  shares = weights_by_hand((candidates * wanted).sum((1, 2)), 0.4)
  found, sequence = mppi.plan(
    lambda sequences, key: jnp.sum(
      sequences * jnp.asarray(wanted)[None], (1, 2)
    ),
    _KEY, mean, space,
    num_candidates=40, num_iterations=1, std=0.5, temperature=0.4,
  )  # fmt: skip
  np.testing.assert_allclose(
    found, np.einsum('c,cha->ha', shares, candidates), rtol=1e-10
  )
  np.testing.assert_allclose(found.sum(-1), np.ones(2))
  np.testing.assert_array_equal(sequence, wanted)


def test_it_starts_from_the_last_plan_one_step_on():
  space = spaces.Box(1)
  search = mppi.make(space, num_candidates=60, horizon=3, num_iterations=1)
  np.testing.assert_array_equal(search.start(), np.zeros((3, 1)))
  last = jnp.array([[0.1], [0.5], [-0.6]])
  memory, sequence = jax.jit(
    lambda memory: search.plan(
      lambda sequences, key: jnp.zeros(60),
      memory,
      _KEY,
      planner.Numbers(init_std=1e-4),
    )
  )(last)
  np.testing.assert_allclose(sequence, last, atol=1e-3)
  np.testing.assert_allclose(memory[:, 0], [0.5, -0.6, 0], atol=1e-3)


@pytest.mark.parametrize('kind', ['random_shooting', 'cem', 'mppi'])
def test_every_search_finds_choices(kind):
  """A lock: each choice pays only after those before it."""
  section = mb_mpc.Planner(
    kind=kind, num_candidates=400, horizon=4, num_elites=40, num_iterations=12
  )
  code = jnp.array([2, 0, 1, 1])

  def score(sequences, key):
    right = jnp.argmax(sequences, -1) == code[None]
    return jnp.sum(jnp.cumprod(right.astype(float), -1), -1)

  search = planning.make_search(spaces.Discrete(3), section)
  plan = functools.partial(search.plan, score)
  numbers = planner.Numbers(temperature=0.2)
  _, found = jax.jit(plan)(search.start(), _KEY, numbers)
  np.testing.assert_array_equal(found, jax.nn.one_hot(code, 3))
