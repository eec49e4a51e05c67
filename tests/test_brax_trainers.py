"""brax's own trainers run on our environments as they are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.ppo import train as ppo
from brax.training.agents.sac import networks as sac_networks
from brax.training.agents.sac import train as sac

from mbmpo_jax import compat
from mbmpo_jax import envs
from mbmpo_jax.envs import base
from tests import tiny

_PPO = functools.partial(
  ppo.train,
  num_envs=4,
  batch_size=4,
  num_minibatches=2,
  network_factory=functools.partial(
    ppo_networks.make_ppo_networks,
    policy_hidden_layer_sizes=(32, 32),
    value_hidden_layer_sizes=(32, 32),
  ),
)
_SAC = functools.partial(
  sac.train,
  num_envs=4,
  batch_size=16,
  min_replay_size=20,
  network_factory=functools.partial(
    sac_networks.make_sac_networks, hidden_layer_sizes=(32, 32)
  ),
)


@pytest.fixture(autouse=True)
def brax_on_this_jax():
  with compat.brax_trainers():
    yield


def run(train, name: str, **overrides) -> dict[str, np.ndarray]:
  """The last metrics of a run, all of them finite."""
  options = dict(num_timesteps=120, episode_length=30, num_eval_envs=4)
  *_, metrics = train(
    envs.make(name), max_devices_per_host=1, **(options | overrides)
  )
  for key, value in metrics.items():
    assert np.isfinite(value), key
  return metrics


@pytest.mark.parametrize(
  'train',
  [
    pytest.param(_PPO, id='ppo'),
    pytest.param(_SAC, id='sac', marks=pytest.mark.slow),
  ],
)
def test_a_tiny_run_on_point(train):
  metrics = run(train, 'point')
  assert metrics['eval/avg_episode_length'] == 30
  assert -30 * (2 * 5**2) < metrics['eval/episode_reward'] < 0


@pytest.mark.slow
def test_a_tiny_ppo_run_on_half_cheetah():
  metrics = run(_PPO, 'half_cheetah', episode_length=20)
  assert metrics['eval/avg_episode_length'] == 20


@pytest.mark.slow
def test_ppo_learns_point():
  """Uniform actions return -83, the best ones -14.7; PPO gets -16 to -18."""
  metrics = run(
    _PPO,
    'point',
    num_timesteps=60_000,
    num_envs=32,
    batch_size=32,
    num_minibatches=4,
    num_updates_per_batch=4,
    num_eval_envs=256,
    learning_rate=3e-3,
    discounting=0.95,
    reward_scaling=0.1,
    entropy_cost=1e-3,
    deterministic_eval=True,
  )
  print(f'return {metrics["eval/episode_reward"]:.2f}')
  assert metrics['eval/episode_reward'] > -30


def test_brax_s_wrappers_tell_ends_from_time_limits():
  """Countdown starts at 0 or 1 and ends at 4: 3 or 4 steps; the limit is 2."""

  def ends(limit):
    env = base.brax_envs.training.wrap(tiny.Countdown(), episode_length=limit)
    state = jax.jit(env.reset)(jax.random.split(jax.random.PRNGKey(0), 8))
    step = jax.jit(env.step)
    first = state.obs[:, 0]
    done, truncated = [], []
    for _ in range(4):
      state = step(state, jnp.zeros((8, 1)))
      done.append(state.done)
      truncated.append(state.info['truncation'])
    return first, np.stack(done), np.stack(truncated)

  first, done, truncated = ends(limit=100)
  assert {*first.tolist()} == {0, 1}
  np.testing.assert_array_equal(done[2], first == 1)
  np.testing.assert_array_equal(done[3], first == 0)
  assert not np.any(done[:2]) and not np.any(truncated)
  _, done, truncated = ends(limit=2)
  np.testing.assert_array_equal(done[:, 0], [0, 1, 0, 1])
  np.testing.assert_array_equal(truncated, done)
