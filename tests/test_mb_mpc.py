"""MB-MPC: its phases, its configuration, and that it learns to plan."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.mb_mpc import algorithm as mb_mpc
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc_config
from mbmpo_jax.envs import point
from mbmpo_jax.models import ensemble
from mbmpo_jax.rollouts import real

_KEY = jax.random.PRNGKey(0)


def small_config(**planner) -> mb_mpc_config.Config:
  """Two members; an iteration takes milliseconds."""
  return mb_mpc_config.Config(
    env=config_lib.Env(name='point'),
    model=config_lib.Ensemble(
      num_models=2, hidden_sizes=(32,), batch_size=50, max_epochs=30
    ),
    collect=config_lib.Collect(
      num_trajectories=6, episode_length=20, buffer_capacity=1_000
    ),
    planner=mb_mpc_config.Planner(
      **{'num_candidates': 80, 'horizon': 4, **planner}
    ),
  )


CEM = {'kind': 'cem', 'num_candidates': 40, 'num_elites': 6,
       'num_iterations': 3}  # fmt: skip
MPPI = {'kind': 'mppi', 'num_candidates': 40, 'num_iterations': 3,
        'temperature': 0.1}  # fmt: skip


class Flipped(point.Point):
  """It pays to walk away."""

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    return -super().reward(obs, action, next_obs)


@pytest.fixture(
  scope='module',
  params=[
    pytest.param({}, id='shooting'),
    pytest.param(CEM, id='cem', marks=pytest.mark.slow),
    pytest.param(MPPI, id='mppi', marks=pytest.mark.slow),
  ],
)
def trained(request):
  """Three iterations, what they report, and the states on the way."""
  config = small_config(**request.param)
  algorithm = mb_mpc.make(point.Point(), config)
  chex.clear_trace_counter()
  update = jax.jit(chex.assert_max_traces(algorithm.update, n=1))
  states = [jax.jit(algorithm.init)(_KEY, base.hyper(config))]
  reports = []
  for _ in range(3):
    state, metrics = update(states[-1])
    states.append(state)
    reports.append(metrics)
  return algorithm, states, reports


def greedy_returns(policy, *params) -> list[float]:
  """Undiscounted, of each of `params`, mean over 30 episodes of `point`."""
  rollout = jax.jit(
    functools.partial(
      real.rollout,
      point.Point(),
      policy,
      key=jax.random.PRNGKey(7),
      num_envs=30,
      horizon=20,
      greedy=True,
    )
  )
  return [float(np.mean(np.sum(rollout(each)[0].reward, 0))) for each in params]


def test_iterations_are_counted_and_reported(trained):
  algorithm, states, reports = trained
  assert [int(s.counters.iteration) for s in states] == [0, 1, 2, 3]
  assert [int(s.counters.env_steps) for s in states] == [0, 120, 240, 360]
  assert [int(s.counters.episodes) for s in states] == [0, 6, 12, 18]
  assert [int(s.buffer.size) for s in states] == [0, 120, 240, 360]
  for report in reports:
    assert report.keys() == algorithm.metrics.keys()
    chex.assert_tree_all_finite(report)
    assert report[base.STUCK] == 0
  chex.assert_tree_all_finite(states)


def test_first_episodes_are_random_later_ones_planned(trained):
  _, states, reports = trained
  actions = np.asarray(states[-1].buffer.data.action)
  towards = -np.sign(states[-1].buffer.data.obs) * actions
  assert abs(np.mean(towards[:120])) < 0.1 < np.mean(towards[120:360])
  np.testing.assert_allclose(np.var(actions[:120]), 1 / 3, rtol=0.15)
  assert reports[0]['imagined_steps'] == 0
  assert reports[1]['imagined_steps'] > 120 * 100
  assert float(reports[2]['real/return']) > float(reports[0]['real/return'])


def test_it_learns_to_walk_to_the_origin(trained):
  """In closed loop, by its model; the optimum is -14.7."""
  algorithm, states, _ = trained
  before, achieved = greedy_returns(
    algorithm.policy, *map(algorithm.policy_params, (states[0], states[-1]))
  )
  print(f'return {achieved:.2f}, before learning {before:.2f}')
  assert achieved > -20
  assert before < -30


def test_with_the_reward_turned_round_it_walks_away(trained):
  """The same model, planned in for the opposite: what counts is the reward."""
  algorithm, states, _ = trained
  env, config = Flipped(), small_config()
  policy = mb_mpc.make_planner(env, ensemble.make(env, config.model), config)
  (achieved,) = greedy_returns(policy, algorithm.policy_params(states[-1]))
  assert achieved < -60


def test_plans_before_any_data_are_finite():
  config = small_config(**CEM)
  env = point.Point()
  policy = mb_mpc.make_planner(env, ensemble.make(env, config.model), config)
  params = policy.init(_KEY)
  carry, action = jax.jit(policy.act)(
    params, policy.start(params, _KEY, (), 3), jnp.ones((3, 2)),
    policy.noise(_KEY, (3,)),
  )  # fmt: skip
  chex.assert_tree_all_finite((params, carry, action.env))
  algorithm = mb_mpc.make(env, config)
  state = jax.eval_shape(algorithm.init, _KEY, base.hyper(config))
  chex.assert_trees_all_equal_shapes_and_dtypes(
    params, algorithm.policy_params(state)
  )


def test_numbers_of_the_planner_come_from_the_state():
  """So that the runs of a sweep may differ in them."""
  config = small_config(**CEM)
  hyper = base.hyper(config)
  assert {name for name in hyper if name.startswith('planner.')} == {
    'planner.discount', 'planner.disagreement_coef', 'planner.init_std',
    'planner.min_std', 'planner.smoothing', 'planner.temperature',
  }  # fmt: skip
  algorithm = mb_mpc.make(point.Point(), config)
  still = hyper | {'planner.init_std': jnp.asarray(1e-6),
                   'planner.min_std': jnp.asarray(0.0)}  # fmt: skip
  init = jax.jit(algorithm.init)
  moving, stuck = (
    algorithm.policy_params(init(_KEY, h)) for h in (hyper, still)
  )
  act = jax.jit(algorithm.policy.act)
  carry = algorithm.policy.start(moving, _KEY, (), 1)
  obs = jnp.ones((1, 2))
  assert np.all(abs(act(stuck, carry, obs, None)[1].env) < 1e-4)
  assert np.any(abs(act(moving, carry, obs, None)[1].env) > 1e-2)


def test_data_that_is_not_finite_leaves_it_stuck(trained):
  algorithm, states, _ = trained
  buffer = states[1].buffer
  data = buffer.data._replace(next_obs=jnp.full((1_000, 2), jnp.nan))
  _, metrics = jax.jit(algorithm.phases['fit'].function)(
    states[1]._replace(buffer=buffer._replace(data=data))
  )
  assert metrics[base.STUCK] == 1
  assert metrics['nonfinite/stored'] == 120


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (
      {'num_candidates': 81},
      r'planner.num_candidates=81: must be a multiple of 2',
    ),
    (
      {'disagreement_coef': 0.5},
      r"planner.disagreement_coef=0.5: must be 0 with planner.members='one'",
    ),
    (
      {**CEM, 'num_elites': 41},
      r'planner.num_elites=41: must be <= 40, planner.num_candidates',
    ),
    (
      {**CEM, 'min_std': 0.6},
      r'planner.min_std=0.6: must be <= 0.5, planner.init_std',
    ),
    (
      {'init_std': 0.3},
      r"planner.init_std=0.3: must be 0.5, as planner.kind='random_shooting'",
    ),
    (
      {**MPPI, 'smoothing': 0.3},
      r"planner.smoothing=0.3: must be 0.1, as planner.kind='mppi' does",
    ),
    (
      {**CEM, 'temperature': 0.3},
      r"planner.temperature=0.3: must be 1.0, as planner.kind='cem' does",
    ),
    ({'kind': 'shooting'}, r"planner.kind='shooting': must be one of"),
    ({'horizon': 0}, r'planner.horizon=0: must be an int >= 1'),
  ],
)
def test_settings_that_do_not_fit_are_refused(values, message):
  with pytest.raises(config_lib.ConfigError, match=message):
    validation.validate(small_config(**values))


def test_all_members_need_no_equal_shares():
  config = small_config(num_candidates=81, members='all', disagreement_coef=0.5)
  validation.validate(config)
  assert config.planner.steps(config.model.num_models) == 2 * 81 * 4
