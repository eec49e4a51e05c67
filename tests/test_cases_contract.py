"""Real steps are compared with `reward` and `done` as long as a run goes on.

`check_environment` tries 30: a last step that pays otherwise, or an end that
was forgotten, may come later.
"""

import functools
import types as python_types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax import envs as brax_envs

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import contract
from mbmpo_jax.algorithms import notes
from mbmpo_jax.algorithms.m3po import algorithm as m3po
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import soundness
from mbmpo_jax.training.launch import tiny

_STEPS, _ENVS, _END = 60, 3, 52


class Walk(brax_envs.Env):
  """1 cm a step; ends beyond 0.5 m, and the last step pays 0."""

  observation_size = 1
  action_size = 1
  backend = 'x'
  dt = 0.1

  def reset(self, rng):
    x = 0.001 * jax.random.uniform(rng, (1,))
    return brax_envs.State(x, x, jnp.zeros(()), jnp.zeros(()))

  def step(self, state, action):
    x = state.pipeline_state + 0.01
    done = (x[0] > 0.515).astype(float)
    return state.replace(pipeline_state=x, obs=x, reward=1 - done, done=done)


def _ends(next_obs):
  return (next_obs[..., 0] > 0.515).astype(float)


def _adapted(**changes):
  told = {
    'reward': lambda obs, action, next_obs: 1 - _ends(next_obs),
    'done': _ends,
    'max_episode_steps': 200,
  }
  return envs.Adapted(Walk(), **{**told, **changes})


def _ones(obs, action, next_obs):
  return jnp.ones(next_obs.shape[:-1])


class State(NamedTuple):
  counters: base.Counters
  buffer: buffer_lib.Buffer


_WALK = policies.memoryless(
  lambda key: (),
  lambda params, obs: distributions.Gaussian(0 * obs, 0 * obs),
  noise=functools.partial(distributions.normal_noise, action_size=1),
)


def _algorithm(env: Any, phases=('collect', 'fit')) -> base.Algorithm:
  def collect(state: State):
    key, rollout_key = jax.random.split(state.counters.key)
    trajectory, _ = real.rollout(
      env, _WALK, (), rollout_key, num_envs=_ENVS, horizon=_STEPS
    )
    rows, _, _ = real.to_transitions(trajectory, state.counters.episodes)
    counters = state.counters._replace(
      key=key, env_steps=state.counters.env_steps + _STEPS * _ENVS
    )
    return State(counters, buffer_lib.add(state.buffer, rows)), {
      'real_steps': jnp.asarray(float(_STEPS * _ENVS))
    }

  def fit(state: State):
    return state, {}

  functions = {'collect': collect, 'fit': fit, 'other': fit}
  return base.Algorithm(
    init=lambda key, hyper: State(
      base.start_counters(key),
      buffer_lib.init_transitions(2 * _STEPS * _ENVS, 1, 1),
    ),
    phases={name: base.Phase(functions[name]) for name in phases},
    policy=_WALK,
    policy_params=lambda state: (),
    behaviour=None,
    add=lambda state, trajectory: state,
    adapt=None,
    metrics={'real_steps': base.Metric('steps')},
  )


def _made(env, monkeypatch, **options):
  """As the registry makes any algorithm."""
  module = python_types.SimpleNamespace(
    make=lambda env, config: _algorithm(env, **options)
  )
  monkeypatch.setattr(algorithms, '_module', lambda name, part: module)
  return algorithms.make('any', env, None)


@pytest.mark.parametrize(
  ('changes', 'reward', 'done'),
  [
    ({}, 0, 0),
    pytest.param({'done': None}, 0, _ENVS, marks=pytest.mark.slow),
    pytest.param({'reward': _ones}, _ENVS, 0, marks=pytest.mark.slow),
    ({'reward': _ones, 'done': None}, _ENVS, _ENVS),
  ],
)
def test_late_differences_are_counted(changes, reward, done, monkeypatch):
  env = _adapted(**changes)
  algorithm = _made(env, monkeypatch)
  assert {contract.REWARD, contract.DONE} < set(algorithm.metrics)
  state = algorithm.init(jax.random.PRNGKey(0), {})
  collect = jax.jit(algorithm.phases['collect'])
  for _ in range(3):  # The third goes over the first: only new rows count.
    state, metrics = collect(state)
    assert metrics[contract.REWARD] == reward
    assert metrics[contract.DONE] == done


def _in_turns(env: Any) -> base.Algorithm:
  """Explores, then steps and learns in turns: thrice as many as `collect`."""
  algorithm = _algorithm(env)
  collect = algorithm.phases['collect']

  def learn(state: State):
    state, metrics = collect.function(state)
    every = 3 * _STEPS * _ENVS
    return state, {
      'real_steps': jnp.asarray(float(every)),
      'nonfinite/transitions': jnp.zeros(()),
      **{name: x for name, x in metrics.items() if name != 'real_steps'},
    }

  def init(key, hyper):
    return algorithm.init(key, hyper)._replace(
      buffer=buffer_lib.init_transitions(4 * _STEPS * _ENVS, 1, 1)
    )

  return algorithm._replace(
    init=init,
    phases={
      'explore': base.Phase(lambda state: (collect.function(state)[0], {})),
      'fit': algorithm.phases['fit'],
      'learn': base.Phase(learn, repeats=2),
    },
  )


def test_late_differences_are_counted_where_phases_are_repeated():
  """Of all steps of the iteration: explored, and of every call."""
  algorithm = contract.counting(
    _in_turns(env := _adapted(reward=_ones, done=None)), env
  )
  state = algorithm.init(jax.random.PRNGKey(0), {})
  explore, learn = (jax.jit(algorithm.phases[n]) for n in ('explore', 'learn'))
  for _ in range(2):  # The second goes over the first: only new rows count.
    state, _ = explore(state)
    state, metrics = learn(state)
    assert metrics[contract.REWARD] == metrics[contract.DONE] == 3 * _ENVS


def test_steps_of_rounds_are_counted():
  """MBPO's, as declared; traced only."""
  env = _adapted()
  settings = config_lib.replaced(
    tiny.shrink(algorithms.config('m3po')()),
    {'history.length': 0, 'model.num_models': 2},
  )
  algorithm = contract.counting(m3po.make(env, settings, check=False), env)
  assert contract.METRICS.keys() < algorithm.metrics.keys()
  state = jax.eval_shape(
    algorithm.init, jax.random.PRNGKey(0), base.hyper(settings)
  )
  _, metrics = jax.eval_shape(algorithm.phases['learn'], state)
  assert contract.METRICS.keys() < metrics.keys()


def test_they_come_after_what_is_tried_before_a_run():
  envs.check_environment(_adapted(reward=_ones, done=None))


def test_nothing_is_compared_where_nothing_can_differ(monkeypatch):
  for env, options in (
    (envs.make('point'), {}),
    (envs.make('point_direc'), {}),
    (_adapted(), {'phases': ('collect', 'other')}),
  ):
    algorithm = _made(env, monkeypatch, **options)
    assert algorithm.metrics.keys() == {'real_steps'}


@pytest.mark.parametrize('unit', [1.0, 1e-8, 1e6])
def test_rewards_are_compared_in_their_own_unit(unit):
  env = _adapted(reward=lambda obs, action, next_obs: unit * next_obs[..., 0])
  rng = np.random.default_rng(0)
  next_obs = jnp.asarray(rng.uniform(0.1, 1, (50, 1)), float)
  rows = buffer_lib.init_transitions(50, 1, 1).data._replace(
    next_obs=next_obs,
    reward=unit * next_obs[:, 0] * (1 + 1e-6 * rng.normal(size=50)),
  )
  counted = jnp.ones(50).at[10].set(0)
  assert contract.differing(env, rows, counted)[contract.REWARD] == 0
  wrong = rows._replace(reward=rows.reward.at[:20].multiply(1.1))
  assert contract.differing(env, wrong, counted)[contract.REWARD] == 19
  wrong = rows._replace(reward=rows.reward.at[3].set(jnp.nan))
  assert contract.differing(env, wrong, counted)[contract.REWARD] == 1


def test_a_run_is_told_once():
  config = python_types.SimpleNamespace(
    run=python_types.SimpleNamespace(max_rejected_iterations=0)
  )
  folder = python_types.SimpleNamespace(
    root=python_types.SimpleNamespace(name='here')
  )
  run = python_types.SimpleNamespace(config=config, folder=folder)
  watch = soundness.Watch([run], contract.METRICS, 0)
  sound = {contract.REWARD: 0.0, contract.DONE: 0.0, 'real_steps': 180.0}
  watch.check(0, [sound])
  with pytest.warns(UserWarning, match='here: iteration 4: 3 of 180') as told:
    watch.check(4, [{**sound, contract.DONE: 3.0}])
  (line,) = told
  assert "environment's `done`" in str(line.message)
  watch.check(5, [{**sound, contract.DONE: 30.0}])


class Lab(envs.Environment):
  """A drifting clock, a goal that stays and an angle in tiny units."""

  observation_size = 3
  action_size = 2
  max_episode_steps = 9
  dt = 0.1
  initial_state = advance = observe = reward = None

  def model_input(self, obs):
    return obs[..., 1:]


def test_what_is_taken_as_constant_is_named():
  rng = np.random.default_rng(0)
  angle = 1e-9 * rng.normal(size=40)
  clock, goal = 1000 + 0.5 * np.arange(40), np.full(40, 0.3)
  obs = np.stack([clock, goal, angle], -1)
  rows = buffer_lib.init_transitions(40, 3, 2).data._replace(
    obs=obs,
    next_obs=obs + np.stack([0.5 + 0 * clock, 0 * goal, angle], -1),
    action=np.stack([rng.uniform(-1, 1, 40), np.ones(40)], -1),
  )
  ring = buffer_lib.init_transitions(50, 3, 2)
  counters = base.start_counters(jax.random.PRNGKey(0))
  assert notes.constants(Lab(), State(counters, ring)) == []
  (line,) = notes.constants(Lab(), State(counters, buffer_lib.add(ring, rows)))
  assert line == (
    'up to rounding, observation dimensions [0, 1] change equally in every'
    ' step, and are predicted to do so; dimensions [0] of model_input are'
    ' constant;'
    ' action dimensions [1] never change'
  )


def test_notes_are_of_worlds_that_people_bring(monkeypatch):
  assert _made(_adapted(), monkeypatch).notes is not None
  assert _made(envs.make('point'), monkeypatch).notes is None
