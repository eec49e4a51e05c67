"""check_environment accepts what keeps the contract and names what does not."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.envs import against_mujoco
from mbmpo_jax.envs import check as check_lib
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import point
from tests import tiny

_COMPILES_FAST = {
  'acrobot', 'cartpole_swingup', 'cartpole_swingup_masses', 'point',
  'point_direc',
}  # fmt: skip


def _worlds():
  for name in envs.names():
    for variant in envs.variants(name) or (None,):
      fast = name in _COMPILES_FAST and variant in (
        None,
        'absorbing',
        'standard',
      )
      marks = () if fast else (pytest.mark.slow,)
      yield pytest.param(name, variant, marks=marks)


@pytest.mark.parametrize(('name', 'variant'), list(_worlds()))
def test_our_own_environments_pass(name, variant, monkeypatch):
  # `test_mjx_fidelity.py` holds their physics to MuJoCo's.
  monkeypatch.setattr(
    against_mujoco, 'first_difference', lambda env, seed: None
  )
  envs.check_environment(envs.make(name, variant))


def test_make_leaves_to_that_test_what_is_our_own():
  for name in envs.names():
    for variant in (None, *envs.variants(name)):
      assert envs.is_own(envs.make(name, variant))


class OtherReward(point.Point):
  def step(self, state, action):
    after = super().step(state, action)
    return after.replace(reward=after.reward + 1)


class SameStart(point.Point):
  def initial_state(self, rng):
    return jnp.zeros(2)


class BadSize(point.Point):
  observation_size = 3


class Untraceable(point.Point):
  def reward(self, obs, action, next_obs):
    return jnp.asarray(float(obs[..., 0]))


class NotFinite(point.Point):
  def advance(self, pipeline_state, action):
    return pipeline_state * jnp.nan


class Ends(point.Point):
  def done(self, next_obs: jax.Array) -> jax.Array:
    return jnp.ones(next_obs.shape[:-1])


class NoLimit(point.Point):
  max_episode_steps = 0


class NoReset(point.Point):
  initial_obs = None


class Perhaps(point.Point):
  can_terminate = None


class OtherType(point.Point):
  def step(self, state, action):
    after = super().step(state, action)
    return after.replace(pipeline_state=after.pipeline_state[:1])


class LongReward(point.Point):
  def step(self, state, action):
    after = super().step(state, action)
    return after.replace(reward=after.reward[None])

  def reset(self, rng):
    state = super().reset(rng)
    return state.replace(reward=state.reward[None])


class FailingStep(point.Point):
  def step(self, state, action):
    raise KeyError('wheels')


class ScalarInput(point.Point):
  def model_input(self, obs):
    return obs[..., 0]


class NoSpace(point.Point):
  action_space = (-1.0, 1.0)


class SmallSpace(point.Point):
  action_space = envs.Box(3)


class WideBox(envs.Box):
  def sample(self, key, shape):
    return 2.0 * super().sample(key, shape)


class WideSpace(point.Point):
  action_space = WideBox(2)


class SoftChoices(envs.Discrete):
  def project(self, raw):
    return jax.nn.softmax(raw)


class SoftSpace(point.Point):
  action_space = SoftChoices(2)


class ShrinkingBox(envs.Box):
  def project(self, raw):
    return jnp.tanh(raw)


class ShrinkingSpace(point.Point):
  action_space = ShrinkingBox(2)


class RawReward(point.Point):
  """Takes the action before it is put into the action space."""

  action_space = envs.Discrete(2)

  def reward(self, obs, action, next_obs):
    return action[..., 0]

  def step(self, state, action):
    return super().step(state, action).replace(reward=action[0])


class HostRandom(point.Point):
  """Draws a number when it is traced, as NumPy under jit does."""

  def initial_state(self, rng):
    return super().initial_state(rng) + np.random.uniform()  # noqa: NPY002


@pytest.mark.parametrize(
  ('env', 'message'),
  [
    (OtherReward, r"OtherReward: step's reward .* differs from reward\(\)"),
    (SameStart, 'SameStart: obs of a reset is the same for every key'),
    (BadSize, 'BadSize: .*must be float32'),
    (Untraceable, 'Untraceable: reward cannot be traced|step cannot be traced'),
    (OtherType, 'OtherType: step changes the shapes'),
    (
      LongReward,
      r'LongReward: reward of step is float32\[1\]: must be float32',
    ),
    (FailingStep, "FailingStep: step cannot be traced by JAX: 'wheels'"),
    (NotFinite, 'NotFinite: .* is not finite'),
    (Ends, 'Ends: can_terminate is False, but an episode ended'),
    (NoLimit, 'NoLimit: max_episode_steps=0: must be a positive int'),
    (NoReset, 'NoReset: initial_obs=None: must be a method'),
    (Perhaps, 'Perhaps: can_terminate=None: must be True or False'),
    (ScalarInput, r'ScalarInput: model_input\(\) of a batch .*any size'),
    (NoSpace, r'NoSpace: action_space=\(-1.0, 1.0\): must be an ActionSpace'),
    (SmallSpace, 'SmallSpace: action_space.size=3: must be action_size=2'),
    (
      WideSpace,
      r'WideSpace: action_space.sample\(\) is not allowed: action .* within',
    ),
    (SoftSpace, r'SoftSpace: action_space.project\(\) .* one-hot vector of 2'),
    (
      ShrinkingSpace,
      r'ShrinkingSpace: action_space.project\(\) changes what sample\(\)',
    ),
    (RawReward, r"RawReward: step's reward .* differs from reward\(\)"),
    (HostRandom, 'HostRandom: .* differs between two traces'),
  ],
)
def test_make_refuses_what_is_wrong_by_name(env, message):
  with pytest.raises(envs.ContractError, match=message):
    mbmpo.make(env(), tiny.point_config())


class Subclass(point.Point):
  pass


def _with_another_reward():
  env = envs.make('point')
  env.reward = lambda obs, action, next_obs: jnp.zeros(obs.shape[:-1])
  return env


def _with_another_variant():
  env = envs.make('half_cheetah')
  env.variant = env.variant._replace(control_cost=1.0)
  return env


def _with_another_mass():
  env = envs.make('half_cheetah')
  drawn = physics.scaled(env.model, physics.Scales(mass=2.0))
  return physics.with_physics(env, drawn)


@pytest.mark.parametrize(
  'make',
  [
    Subclass,
    point.Point,
    lambda: copy.copy(envs.make('point')),
    _with_another_reward,
    _with_another_variant,
    _with_another_mass,
  ],
)
def test_what_is_not_as_make_built_it_is_not_our_own(make):
  assert not envs.is_own(make())


@pytest.mark.parametrize(
  ('make', 'check', 'checked'),
  [
    (lambda: envs.make('point'), None, False),
    (lambda: envs.make('point'), True, True),
    (Subclass, None, True),
    (Subclass, False, False),
  ],
)
def test_what_is_our_own_is_not_checked_again(
  make, check, checked, monkeypatch
):
  seen = []
  monkeypatch.setattr(check_lib, 'check_environment', seen.append)
  mbmpo.make(make(), tiny.point_config(), check=check)
  assert bool(seen) == checked


def test_attributes_are_checked_even_where_the_rest_is_not():
  with pytest.raises(envs.ContractError, match='max_episode_steps'):
    mbmpo.make(NoLimit(), tiny.point_config(), check=False)


def test_a_wrong_termination_is_found_where_it_comes_late():
  """Countdown ends after 3 or 4 steps; by this `done`, never."""

  class NeverDone(tiny.Countdown):
    def step(self, state, action):
      after = super().step(state, action)
      return after.replace(done=super().done(after.obs))

    def done(self, next_obs):
      return jnp.zeros(next_obs.shape[:-1])

  message = (
    r"NeverDone: step's done 1.0 differs from done\(\) 0.0 .* at step [34]"
  )
  with pytest.raises(envs.ContractError, match=message):
    envs.check_environment(NeverDone())
