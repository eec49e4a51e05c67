"""Planners in fake models, whose best plans are known."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.envs import base as envs
from mbmpo_jax.envs import spaces
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base
from mbmpo_jax.policies import cem
from mbmpo_jax.policies import mppi
from mbmpo_jax.policies import planner
from mbmpo_jax.policies import random_shooting

_KEY = jax.random.PRNGKey(0)


class Line(envs.Environment):
  """A position in R that actions are added to; being at the goal pays most."""

  max_episode_steps = 100
  dt = 1.0
  observation_size = 1
  action_size = 1
  goal = 2.0
  end = 3.0

  def initial_state(self, rng: jax.Array) -> jax.Array:
    return jnp.zeros(1)

  def advance(self, pipeline_state: jax.Array, action: jax.Array) -> jax.Array:
    return pipeline_state + action

  def observe(self, pipeline_state: jax.Array) -> jax.Array:
    return pipeline_state

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    return -jnp.square(next_obs[..., 0] - self.goal)

  def done(self, next_obs: jax.Array) -> jax.Array:
    return (next_obs[..., 0] >= self.end).astype(next_obs.dtype)


def line_dynamics() -> models.Dynamics:
  """Member k, a number, takes actions to be k times as large."""
  return models.Dynamics(
    init=lambda key: jnp.ones(2),
    ready=lambda params, statistics: params,
    start=lambda model, key, context, num: (),
    predict=lambda model, carry, obs, action, key: (
      carry,
      models.Prediction(obs + model * action),
    ),
    loss=lambda *args: jnp.zeros(()),
  )


def returns_by_hand(
  gain: float, obs: float, sequences: np.ndarray, discount: float = 1.0
) -> np.ndarray:
  """Of `Line`, one candidate and one step after the other."""
  returns = []
  for sequence in sequences:
    state, total = obs, 0.0
    for step, action in enumerate(sequence[:, 0]):
      state = state + gain * action
      total -= discount**step * (state - Line.goal) ** 2
      if state >= Line.end:
        break
    returns.append(total)
  return np.array(returns)


def line_returns(gains, sequences, **options) -> jax.Array:
  return planner.imagined_returns(
    jnp.asarray(gains),
    jnp.ones(1),
    jnp.asarray(sequences),
    _KEY,
    env=Line(),
    dynamics=line_dynamics(),
    **options,
  )


@pytest.fixture
def sequences() -> np.ndarray:
  """Some of them end early."""
  rng = np.random.default_rng(0)
  return rng.uniform(-0.3, 1, (6, 5, 1)).astype(np.float32)


def test_one_member_scores_its_share_of_the_candidates(sequences):
  returns = line_returns([1.0, 0.5, -1.0], sequences, discount=0.9)
  by_hand = [
    returns_by_hand(gain, 1.0, share, 0.9)
    for gain, share in zip(
      [1.0, 0.5, -1.0], np.split(sequences, 3), strict=True
    )
  ]
  np.testing.assert_allclose(returns, np.concatenate(by_hand), rtol=1e-5)


def test_all_members_score_by_mean_less_spread(sequences):
  gains = [1.0, 0.5, -1.0]
  by_hand = np.stack([returns_by_hand(g, 1.0, sequences) for g in gains])
  mean = line_returns(gains, sequences, members='all')
  np.testing.assert_allclose(mean, by_hand.mean(0), rtol=1e-5)
  careful = line_returns(gains, sequences, members='all', disagreement_coef=2.0)
  np.testing.assert_allclose(
    careful, by_hand.mean(0) - 2 * by_hand.std(0), rtol=1e-5
  )


def test_nothing_is_paid_after_a_termination():
  """Both reach the end at the second step; nobody looks at what follows."""
  ends = np.ones((2, 4, 1), np.float32)
  ends[1, 2:] = np.nan
  np.testing.assert_allclose(line_returns([1.0], ends), [-1, -1])
  # The same without an ending: 2, 3, 4, 5 from 1.
  env = Line()
  env.end = np.inf
  returns = planner.imagined_returns(
    jnp.ones(1), jnp.ones(1), jnp.asarray(ends), _KEY,
    env=env, dynamics=line_dynamics(),
  )  # fmt: skip
  np.testing.assert_allclose(returns, [-14, np.nan])


def test_candidates_must_divide_among_members(sequences):
  with pytest.raises(ValueError, match='6 candidates: must be a multiple of 4'):
    line_returns(np.ones(4), sequences)


def test_what_the_model_predicts_itself_counts(sequences):
  """Rewards and terminations of a `Prediction` go before the environment's."""

  def predict(model, carry, obs, action, key):
    carry = carry + 1
    return carry, models.Prediction(
      obs, reward=carry, terminated=(carry == 2).astype(float)
    )

  dynamics = line_dynamics()._replace(
    start=lambda model, key, context, num: jnp.zeros(num), predict=predict
  )
  returns = planner.imagined_returns(
    jnp.ones(2), jnp.ones(1), jnp.asarray(sequences), _KEY,
    env=Line(), dynamics=dynamics,
  )  # fmt: skip
  np.testing.assert_allclose(returns, np.full(6, 1 + 2))


def test_random_shooting_takes_the_best_candidate():
  seen = []

  def score(sequences, key):
    seen.append(sequences)
    returns = -jnp.sum(jnp.square(sequences - 0.5), (1, 2))
    return returns.at[3].set(jnp.nan)

  space = spaces.Box(2)
  best = random_shooting.plan(score, _KEY, space, num_candidates=100, horizon=4)
  (candidates,) = np.asarray(seen)
  assert candidates.shape == (100, 4, 2)
  assert candidates.min() < -0.9 and candidates.max() > 0.9
  returns = -np.square(candidates - 0.5).sum((1, 2))
  returns[3] = -np.inf
  np.testing.assert_array_equal(best, candidates[returns.argmax()])


def test_random_shooting_of_choices():
  wanted = jax.nn.one_hot(jnp.array([2, 0]), 3)
  best = random_shooting.plan(
    lambda sequences, key: jnp.sum(sequences * wanted[None], (1, 2)),
    _KEY,
    spaces.Discrete(3),
    num_candidates=200,
    horizon=2,
  )
  np.testing.assert_array_equal(best, wanted)


def cem_plan(score, mean, space, **options):
  sizes = {
    'num_candidates': 400, 'num_elites': 40, 'num_iterations': 12,
    'init_std': 0.5, 'min_std': 0.0, 'smoothing': 0.1,
  }  # fmt: skip
  plan = functools.partial(cem.plan, score, space=space, **{**sizes, **options})
  return jax.jit(plan)(_KEY, mean)


def test_cem_finds_the_optimum_of_a_box():
  """Where the optimum lies outside, its bound."""
  target = jnp.array([[0.4, -0.7], [-1.5, 0.0], [0.9, 1.5]])

  def score(sequences, key):
    returns = -jnp.sum(jnp.square(sequences - target[None]), (1, 2))
    return jnp.where(sequences[:, 0, 0] > 0.6, jnp.nan, returns)

  mean, plan = cem_plan(score, jnp.zeros((3, 2)), spaces.Box(2))
  np.testing.assert_allclose(plan, np.clip(target, -1, 1), atol=0.02)
  np.testing.assert_array_equal(mean, plan)


def test_cem_finds_the_optimum_of_choices():
  """A lock: each choice pays only after those before it."""
  code = jnp.array([2, 0, 1, 1, 2])

  def score(sequences, key):
    right = jnp.argmax(sequences, -1) == code[None]
    return jnp.sum(jnp.cumprod(right.astype(float), -1), -1)

  space = spaces.Discrete(3)
  mean, plan = cem_plan(
    score, cem.start(space, 5), space, init_std=1.0, min_std=0.05
  )
  np.testing.assert_array_equal(plan, jax.nn.one_hot(code, 3))
  np.testing.assert_allclose(jnp.sum(mean, -1), np.ones(5), rtol=1e-5)


def test_cem_fits_to_its_elites_as_written():
  """Three rounds against NumPy; the floor holds from the second on."""
  mean, std = np.full((2, 1), 0.1), np.full((2, 1), 0.3)
  below = []
  for key in jax.random.split(_KEY, 3):
    draw_key, _ = jax.random.split(key)
    noise = np.asarray(jax.random.normal(draw_key, (50, 2, 1)))
    candidates = np.clip(mean + std * noise, -1, 1)
    elites = candidates[np.argsort(-candidates.sum((1, 2)))[:5]]
    mean = 0.25 * mean + 0.75 * elites.mean(0)
    std = 0.25 * std + 0.75 * elites.std(0)
    below.append(std < 0.2)
    std = np.maximum(std, 0.2)
  assert 0 < np.mean(below) < 1

  _, plan = cem_plan(
    lambda sequences, key: jnp.sum(sequences, (1, 2)),
    jnp.full((2, 1), 0.1), spaces.Box(1), num_candidates=50, num_elites=5,
    num_iterations=3, init_std=0.3, min_std=0.2, smoothing=0.25,
  )  # fmt: skip
  np.testing.assert_allclose(plan, mean, rtol=1e-5)


@pytest.mark.parametrize('space', [spaces.Box(2), spaces.Discrete(3)])
def test_cem_starts_from_the_last_plan_one_step_on(space):
  target = jnp.sin(jnp.arange(4.0 * space.size)).reshape(4, space.size)
  search = cem.make(
    space, num_candidates=200, horizon=4, num_elites=20, num_iterations=5
  )
  start = search.start()
  np.testing.assert_array_equal(start, cem.start(space, 4))

  @jax.jit
  def plan(memory):
    return search.plan(
      lambda sequences, key: jnp.sum(sequences * target[None], (1, 2)),
      memory,
      _KEY,
      planner.Numbers(smoothing=0.99),
    )

  # So reluctant that it stays where it starts.
  memory, _ = plan(jnp.roll(start, 1, axis=0).at[2, 0].set(0.9))
  np.testing.assert_allclose(memory[1, 0], 0.9, atol=0.1)
  memory, sequence = plan(memory)
  assert memory[0, 0] > 0.8 and sequence[1, 0] > 0.8
  np.testing.assert_array_equal(memory[3:], cem.start(space, 1))


def line_policy(search: planner.Search, **options):
  return planner.make(
    Line(),
    line_dynamics(),
    search,
    init=lambda key: planner.Params(
      jnp.ones(2), planner.Numbers(temperature=0.05)
    ),
    **options,
  )


_CEM = cem.make(
  spaces.Box(1), num_candidates=60, horizon=3, num_elites=6, num_iterations=4
)
_SHOOTING = random_shooting.make(spaces.Box(1), num_candidates=400, horizon=2)
_MPPI = mppi.make(spaces.Box(1), num_candidates=60, horizon=3, num_iterations=4)


@pytest.mark.parametrize(
  'search', [_CEM, _SHOOTING, _MPPI], ids=['cem', 'shooting', 'mppi']
)
@pytest.mark.parametrize('members', ['one', 'all'])
def test_policy_walks_to_the_goal(search, members):
  """From both sides, in all worlds, and stays."""
  policy = line_policy(search, members=members)
  params = policy.init(_KEY)
  obs = jnp.array([[0.0], [1.7], [2.6]])
  carry = policy.start(params, _KEY, (), 3)
  act = jax.jit(policy.act)
  for noise in policy.noise(_KEY, (6, 3)):
    carry, action = act(params, carry, obs, noise)
    assert action.env.shape == (3, 1)
    assert np.all(np.isnan(action.log_prob)) and action.log_prob.shape == (3,)
    obs = obs + action.env
  np.testing.assert_allclose(obs, np.full((3, 1), Line.goal), atol=0.1)


def test_policy_follows_its_model():
  """One that takes left for right walks away."""
  policy = line_policy(_CEM)
  params = policy.init(_KEY)._replace(model=-jnp.ones(2))
  carry = policy.start(params, _KEY, (), 1)
  _, action = jax.jit(policy.act)(
    params, carry, jnp.zeros((1, 1)), policy.noise(_KEY, (1,))
  )
  assert action.env < -0.5


def test_worlds_do_not_see_each_other():
  policy = line_policy(_CEM)
  params = policy.init(_KEY)
  obs = jnp.array([[0.0], [1.7], [2.6]])
  noise = policy.noise(_KEY, (3,))
  carry = policy.start(params, _KEY, (), 3)
  act = jax.jit(policy.act)
  _, together = act(params, carry, obs, noise)
  for index in range(3):
    world = slice(index, index + 1)
    _, alone = act(params, carry[world], obs[world], noise[world])
    np.testing.assert_allclose(alone.env, together.env[world], atol=1e-5)


def test_actions_are_a_function_of_the_key():
  """Greedy, of nothing but what is seen and remembered."""
  policy = line_policy(_SHOOTING)
  params = policy.init(_KEY)
  obs = jnp.zeros((2, 1))
  act = jax.jit(policy.act)
  one, other = policy.noise(_KEY, (2, 2))
  first = act(params, (), obs, one)[1].env
  np.testing.assert_array_equal(first, act(params, (), obs, one)[1].env)
  assert np.all(first != act(params, (), obs, other)[1].env)
  assert first[0] != first[1]  # a key for each world
  greedy = act(params, (), obs, None)[1].env
  np.testing.assert_array_equal(greedy[0], greedy[1])
  np.testing.assert_array_equal(greedy, act(params, (), obs, None)[1].env)


def test_a_broken_model_still_gives_an_action():
  for search in (_CEM, _SHOOTING, _MPPI):
    policy = line_policy(search)
    params = policy.init(_KEY)._replace(model=jnp.full(2, jnp.nan))
    carry = policy.start(params, _KEY, (), 2)
    act = jax.jit(policy.act)
    carry, action = act(params, carry, jnp.zeros((2, 1)), None)
    chex.assert_tree_all_finite((carry, action.env))
    assert np.all(abs(action.env) <= 1)


def test_a_step_is_traced_once():
  policy = line_policy(_CEM)
  act = jax.jit(chex.assert_max_traces(policy.act, n=1))
  params = policy.init(_KEY)
  carry, obs = policy.start(params, _KEY, (), 2), jnp.zeros((2, 1))
  for noise in policy.noise(_KEY, (3, 2)):
    carry, action = act(params, carry, obs, noise)
    obs = obs + action.env


def test_a_model_that_adapts_follows_the_world():
  """Which turns round at the fourth step; only the newest step tells."""

  def adapt(model, window, obs):
    gain = (obs - window.obs[-1]) / window.action[-1]
    return jnp.where(window.mask[-1] > 0, gain * jnp.ones(2), model)

  policy = line_policy(_CEM, adaptation=planner.Adaptation(2, adapt))
  params = policy.init(_KEY)
  carry = policy.start(params, _KEY, (), 2)
  np.testing.assert_array_equal(carry.window.mask, np.zeros((2, 2)))
  act = jax.jit(policy.act)
  obs, actions = jnp.array([[0.0], [-3.0]]), []
  for step, noise in enumerate(policy.noise(_KEY, (9, 2))):
    carry, action = act(params, carry, obs, noise)
    after = obs + (action.env if step < 3 else -action.env)
    carry = policy.observe(
      params,
      carry,
      base.Experience(
        obs, action.env, jnp.full(2, float(step)), after, jnp.zeros(2)
      ),
    )
    obs = after
    actions.append(action.env[1, 0])
  assert min(actions[:4]) > 0.5 and max(actions[4:6]) < -0.5
  np.testing.assert_allclose(obs, np.full((2, 1), Line.goal), atol=0.15)
  np.testing.assert_array_equal(carry.window.reward, [[7, 8]] * 2)
  np.testing.assert_array_equal(carry.window.mask, np.ones((2, 2)))
