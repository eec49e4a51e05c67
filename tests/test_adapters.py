"""Environments of brax and of MuJoCo Playground keep our contract."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.envs import adapters
from mbmpo_jax.envs import base
from tests import tiny


@flax.struct.dataclass
class State:
  """As Playground's, which brax's classes know nothing of."""

  data: jax.Array
  obs: Any
  reward: Any
  done: Any
  metrics: dict[str, Any]
  info: dict[str, Any]


class Walker:
  """Two observations, numbers of Python in its state, written in place."""

  dt = 0.1
  action_size = 1

  def reset(self, rng):
    data = jax.random.uniform(rng, (1,))
    info = {'rng': rng, 'steps': 0}
    return State(data, self.observe(data), 0.0, 0.0, {'speed': 0.0}, info)

  def step(self, state, action):
    data = state.data + 0.1 * action
    state.info['steps'] += 1
    state.metrics['speed'] = jnp.sum(action)
    done = (data[0] > 0.5).astype(float)
    return State(data, self.observe(data), 1.0, done, state.metrics, state.info)

  def observe(self, data):
    return {'state': data, 'privileged_state': jnp.zeros(3)}


def ones(obs, action, next_obs):
  return jnp.ones(next_obs.shape[:-1])


def twos(obs, action, next_obs):
  return 2 * ones(obs, action, next_obs)


def beyond_half(next_obs):
  return (next_obs[..., 0] > 0.5).astype(next_obs.dtype)


def adapt(env=None, **overrides) -> adapters.Adapted:
  options = dict(
    reward=ones, done=beyond_half, max_episode_steps=20, obs_key='state'
  )
  return adapters.Adapted(env or Walker(), **(options | overrides))


def test_an_environment_of_another_library_keeps_the_contract():
  env = adapt(model_input=lambda obs: 2 * obs)
  envs.check_environment(env)
  assert (env.observation_size, env.action_size, env.dt) == (1, 1, 0.1)
  assert env.max_episode_steps == 20
  assert env.can_terminate and adapt(done=None).can_terminate
  assert not adapt(done=None, override_task=True).can_terminate
  assert env.model_input(jnp.ones(1)) == 2


def test_step_is_the_wrapped_one_and_pure():
  env = adapt()
  state = env.reset(jax.random.PRNGKey(0))
  after = env.step(state, jnp.full(1, 3.0))
  np.testing.assert_allclose(after.obs, state.obs + 0.1)  # 3 is clipped to 1
  steps = [int(x.pipeline_state.info['steps']) for x in (state, after)]
  assert steps == [0, 1]
  assert state.pipeline_state.metrics['speed'] == 0


def test_another_reward_than_the_wrapped_one_is_refused_with_both():
  with pytest.raises(
    envs.ContractError,
    match=r"step's reward 1.0 differs from reward\(\) 2.0",
  ):
    envs.check_environment(adapt(reward=twos))


@pytest.mark.parametrize(
  'done', [lambda obs: jnp.zeros(obs.shape[:-1]), None], ids=['zeros', 'none']
)
def test_another_end_than_the_wrapped_one_is_refused_with_both(done):
  with pytest.raises(
    envs.ContractError, match=r"step's done 1.0 differs from done\(\) 0.0"
  ):
    envs.check_environment(adapt(done=done))


def test_a_task_of_ones_own_replaces_the_wrapped_one():
  env = adapt(
    reward=twos,
    done=lambda next_obs: 1 - beyond_half(next_obs),
    override_task=True,
  )
  envs.check_environment(env)
  state = env.reset(jax.random.PRNGKey(0))
  after = env.step(state, jnp.zeros(1))
  assert (after.reward, after.done) == (2, 1 - after.pipeline_state.done)


class Flat(Walker):
  def observe(self, data):
    return data


class Forgets(Walker):
  def step(self, state, action):
    after = super().step(state, action)
    del after.info['steps']
    return after


class Widens(Walker):
  def step(self, state, action):
    after = super().step(state, action)
    return after.replace(info=after.info | {'steps': jnp.zeros(2)})


@pytest.mark.parametrize(
  ('env', 'obs_key', 'message'),
  [
    (Walker, None, r"Walker: obs_key=None: .*\['privileged_state', 'state'\]"),
    (Walker, 'stat', "Walker: obs_key='stat': must be one of"),
    (Flat, 'state', r"Flat: obs_key='state': must be one of \[None\]"),
    (lambda: base.brax_envs.create('fast'), None, 'Wrapper: must be the env'),
    (lambda: base.brax_envs.get_environment('fast'), None, 'Fast has no dt'),
  ],
)
def test_what_cannot_be_adapted_is_refused_in_one_line(env, obs_key, message):
  with pytest.raises(envs.ContractError, match=message) as error:
    adapt(env(), obs_key=obs_key)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  ('env', 'change'),
  [
    (Forgets, r"state.info\['steps'\] from int32\[\] to nothing"),
    (Widens, r"state.info\['steps'\] from int32\[\] to float32\[2\]"),
  ],
)
def test_a_step_that_restructures_the_state_is_refused(env, change):
  with pytest.raises(envs.ContractError, match=f'{env.__name__}.*{change}'):
    envs.check_environment(adapt(env()))


def learn(env: adapters.Adapted) -> types.Transition:
  """The real transitions of an update, whose metrics are all finite."""
  algorithm = mbmpo.make(env, tiny.point_config())
  state, metrics = jax.jit(lambda key: algorithm.update(algorithm.init(key)))(
    jax.random.PRNGKey(0)
  )
  assert all(np.isfinite(value) for value in metrics.values())
  assert int(state.buffer.size) == 40
  return state.buffer.data


@pytest.mark.slow
# brax advertises MuJoCo Playground, and reads what MJX has moved elsewhere.
@pytest.mark.filterwarnings('ignore:Brax System, piplines:UserWarning')
@pytest.mark.filterwarnings('ignore:Accessing `:DeprecationWarning')
def test_brax_inverted_pendulum_is_learnable():
  env = adapters.Adapted(
    base.brax_envs.get_environment('inverted_pendulum'),
    reward=ones,
    done=lambda obs: (jnp.abs(obs[..., 1]) > 0.2).astype(obs.dtype),
    max_episode_steps=1000,
  )
  data = learn(env)
  assert np.any(data.terminated), 'no episode ended early'
  np.testing.assert_array_equal(data.terminated, env.done(data.next_obs))
  assert not np.any(env.done(data.obs)), 'a step began after the end'


@pytest.mark.slow
# As above.
@pytest.mark.filterwarnings('ignore:Brax System, piplines:UserWarning')
@pytest.mark.filterwarnings('ignore:Accessing `:DeprecationWarning')
def test_brax_reacher_keeps_the_contract():
  def reward(obs, action, next_obs):
    distance = jnp.linalg.norm(next_obs[..., -3:], axis=-1)
    return -distance - jnp.sum(jnp.square(action), -1)

  with jax.numpy_rank_promotion('allow'):  # as these physics do on purpose
    env = adapters.Adapted(
      base.brax_envs.get_environment('reacher', backend='spring'),
      reward=reward,
      done=None,
      max_episode_steps=1000,
    )
    envs.check_environment(env)


@pytest.mark.slow
def test_playground_cartpole_is_learnable():
  playground = pytest.importorskip('mujoco_playground')

  def reward(obs, action, next_obs):
    upright = (next_obs[..., 1] + 1) / 2
    centred = (1 + 0.1 ** jnp.square(next_obs[..., 0] / 2)) / 2
    weak = (4 + jnp.maximum(0, 1 - jnp.square(action[..., 0]))) / 5
    slow = (1 + 0.1 ** jnp.square(next_obs[..., 4] / 5)) / 2
    return upright * centred * weak * slow

  wrapped = playground.registry.load(
    'CartpoleBalance', config_overrides={'impl': 'jax'}
  )
  learn(
    adapters.Adapted(wrapped, reward=reward, done=None, max_episode_steps=1000)
  )
