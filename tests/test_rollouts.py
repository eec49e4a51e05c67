"""Real trajectories and imagined ones, in worlds known in advance."""

import functools
import operator

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import imagined
from mbmpo_jax.rollouts import real
from tests import tiny


def countdown_policy(action_size: int = 1) -> policies.Policy:
  """Noise, for a world that does not listen."""
  return policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(
      jnp.zeros((*obs.shape[:-1], action_size)),
      jnp.zeros((*obs.shape[:-1], action_size)),
    ),
    noise=functools.partial(
      distributions.normal_noise, action_size=action_size
    ),
  )


def point_policy(**section) -> policies.Policy:
  return gaussian.make(
    2, 2, config_lib.GaussianPolicy(hidden_sizes=(4,), **section)
  )


@pytest.fixture(scope='module')
def countdown_trajectory() -> types.Trajectory:
  rollout = jax.jit(
    functools.partial(
      real.rollout,
      tiny.Countdown(),
      countdown_policy(),
      (),
      num_envs=6,
      horizon=9,
    )
  )
  return rollout(jax.random.PRNGKey(1))[0]


def test_no_transition_crosses_a_reset(countdown_trajectory):
  trajectory = countdown_trajectory
  np.testing.assert_array_equal(trajectory.next_obs, trajectory.obs + 1)
  np.testing.assert_array_equal(
    trajectory.terminated, trajectory.next_obs[..., 0] >= 4
  )
  after = trajectory.obs[1:, :, 0]
  ended = trajectory.terminated[:-1] > 0
  assert set(np.unique(after[ended])) <= {0.0, 1.0}
  np.testing.assert_array_equal(
    after[~ended], trajectory.next_obs[:-1, :, 0][~ended]
  )
  assert ended.sum() >= 6
  # Both starts occur at the very beginning and among the restarts.
  assert set(np.unique(trajectory.obs[0])) == {0.0, 1.0}
  assert set(np.unique(after[ended])) == {0.0, 1.0}


def test_transitions_know_their_episode_and_time(countdown_trajectory):
  flat, episodes, standing = real.to_transitions(
    countdown_trajectory, jnp.int32(10)
  )
  flat = jax.tree.map(np.asarray, flat)
  # By hand: walk through the flat sequence, environment by environment.
  episode, time, seen = 10, 0, []
  for index in range(6 * 9):
    if index and index % 9 == 0:  # the next environment
      if not flat.terminated[index - 1]:
        assert flat.truncated[index - 1] == 1
      episode, time = episode + 1, 0
    elif index and flat.terminated[index - 1]:
      episode, time = episode + 1, 0
    assert (flat.episode[index], flat.time[index]) == (episode, time)
    assert flat.truncated[index] == (
      index % 9 == 8 and not flat.terminated[index]
    )
    seen.append(flat.obs[index, 0])
    time += 1
  assert int(episodes) == episode + 1
  last = np.reshape(flat.terminated, (6, 9))[:, -1]
  numbers = np.reshape(flat.episode, (6, 9))[:, -1]
  np.testing.assert_array_equal(standing, np.where(last, -1, numbers))
  np.testing.assert_array_equal(
    np.reshape(seen, (6, 9)), countdown_trajectory.obs[..., 0].T
  )


def test_return_is_of_complete_episodes(countdown_trajectory):
  # From 0 an episode pays 0+1+2+3, from 1 it pays 1+2+3: both 6. A cut-off
  # last episode would lower the mean.
  trajectory = countdown_trajectory
  assert episodes.mean(trajectory.reward, trajectory.terminated) == 6
  # They take 4 steps from 0 and 3 from 1; those begun at 0 are counted here.
  complete = episodes.complete(trajectory.terminated)
  steps = np.sum(complete)
  count = np.sum(trajectory.terminated)
  from_zero = steps - 3 * count
  assert 0 < from_zero < count
  mean_length = episodes.mean(trajectory.mask, trajectory.terminated)
  np.testing.assert_allclose(mean_length, 3 + from_zero / count, rtol=1e-6)


def test_uniform_actions_where_asked():
  policy = point_policy()
  rollout = jax.jit(
    lambda random: real.rollout(
      envs.make('point'),
      policy,
      policy.init(jax.random.PRNGKey(0)),
      jax.random.PRNGKey(0),
      num_envs=50,
      horizon=30,
      random_actions=random,
    )[0]
  )
  uniform = rollout(True)
  assert np.all(abs(uniform.action) <= 1)
  np.testing.assert_allclose(np.var(uniform.action), 1 / 3, rtol=0.05)
  assert np.any(abs(rollout(False).action) > 1)
  np.testing.assert_allclose(uniform.log_prob, 2 * np.log(0.5), rtol=1e-6)


def test_each_environment_follows_its_own_policy():
  policy = point_policy()
  params = policy.init(jax.random.PRNGKey(0))
  per_env = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), params)
  per_env['layers'][-1]['b'] = jnp.asarray([[-9.0, 0], [0, 0], [9.0, 0]])
  per_env['log_std'] = jnp.log(jnp.asarray([[0.5, 1], [1, 2], [1, 1]]))
  rollout = functools.partial(
    real.rollout,
    envs.make('point'),
    policy,
    num_envs=3,
    horizon=5,
    per_env=True,
  )
  trajectory, _ = jax.jit(rollout)(per_env, jax.random.PRNGKey(0))
  means = np.mean(trajectory.action[..., 0], 0)
  assert means[0] < -6 and abs(means[1]) < 3 and means[2] > 6
  per_step = jax.vmap(jax.vmap(gaussian.apply), (None, 0))
  mean = per_step(per_env, trajectory.obs).mean
  std = np.exp(per_env['log_std'])
  density = scipy.stats.norm(mean, std).logpdf(trajectory.action)
  np.testing.assert_allclose(trajectory.log_prob, density.sum(-1), rtol=1e-4)


def dynamics(predict, start=lambda num: jnp.zeros(num, jnp.int32)):
  """A model of a test's own: `(model, carry, obs) -> (carry, next_obs)`."""

  def adapted(model, carry, obs, action, key):
    del action, key
    carry, next_obs = predict(model, carry, obs)
    return carry, models.Prediction(next_obs)

  return models.Dynamics(
    init=None,
    ready=None,
    start=lambda model, key, context, num: start(num),
    predict=adapted,
    loss=None,
  )


# Adds its parameter, and counts its calls.
SHIFT = dynamics(lambda model, carry, obs: (carry + 1, obs + model))


def imagine_countdown(**kwargs) -> types.Trajectory:
  env = tiny.Countdown()
  rollout = functools.partial(
    imagined.rollout,
    countdown_policy(),
    (),
    SHIFT,
    1.0,
    reward_fn=env.reward,
    done_fn=env.done,
    horizon=6,
    **kwargs,
  )
  starts = jnp.asarray([[0.0], [2.0], [-9.0]])
  return jax.jit(rollout)(jax.random.PRNGKey(0), starts)


def test_imagined_rollouts_stop_where_reality_would():
  trajectory = imagine_countdown()
  # The terminating step is live: its reward counts.
  np.testing.assert_array_equal(trajectory.mask.sum(0), [4, 2, 6])
  np.testing.assert_array_equal(trajectory.terminated.sum(0), [1, 1, 0])
  np.testing.assert_array_equal(
    trajectory.obs[..., 0].T,
    [[0, 1, 2, 3, 4, 4], [2, 3, 4, 4, 4, 4], [-9, -8, -7, -6, -5, -4]],
  )
  live = trajectory.mask > 0
  np.testing.assert_array_equal(
    trajectory.next_obs[live], trajectory.obs[live] + 1
  )
  np.testing.assert_array_equal(trajectory.reward, trajectory.obs[..., 0])


def test_imagined_rollouts_restart_inside_the_scan():
  """What ended goes on from the observation given for its last step."""
  restart_obs = 0.125 * jnp.arange(18.0).reshape(6, 3, 1)
  trajectory = imagine_countdown(restart_obs=restart_obs)
  np.testing.assert_array_equal(
    trajectory.obs[..., 0].T,
    [
      [0, 1, 2, 3, 1.125, 2.125],
      [2, 3, 0.5, 1.5, 2.5, 3.5],
      [-9, -8, -7, -6, -5, -4],
    ],
  )
  np.testing.assert_array_equal(
    trajectory.terminated.T,
    [[0, 0, 0, 1, 0, 0], [0, 1, 0, 0, 0, 1], [0] * 6],
  )
  # An episode that the horizon cuts counts only if it began at the first step.
  np.testing.assert_array_equal(
    trajectory.mask.T, [[1, 1, 1, 1, 0, 0], [1] * 6, [1] * 6]
  )
  np.testing.assert_array_equal(trajectory.next_obs, trajectory.obs + 1)


def test_what_is_not_finite_is_in_sight_after_a_restart_too():
  """In an episode that the horizon cuts, whose end `done` does not see."""
  trajectory = imagine_countdown(
    restart_obs=jnp.full((6, 3, 1), 0.5),
    perturb_fn=lambda obs, key: jnp.where(obs == 2.5, jnp.nan, obs),
  )
  _, finite = masking.reject_non_finite(trajectory)
  assert not finite


@pytest.mark.parametrize('field', ['obs', 'action', 'reward', 'log_prob'])
@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_only_what_is_not_finite_in_a_live_step_rejects(field, value):
  """The second rollout ends after two of its six steps."""
  trajectory = imagine_countdown()
  for step, sound in ((4, True), (1, False)):
    x = getattr(trajectory, field)
    spoilt = trajectory._replace(**{field: x.at[step, 1].set(value)})
    rejected, finite = masking.reject_non_finite(spoilt)
    assert bool(finite) == sound
    kept = trajectory.mask if sound else jnp.zeros_like(trajectory.mask)
    np.testing.assert_array_equal(rejected.mask, kept)


def test_a_restart_clears_the_models_memory():
  env = tiny.Countdown()
  trajectory = imagined.rollout(
    countdown_policy(),
    (),
    dynamics(
      lambda model, carry, obs: (
        carry + 1,
        jnp.where(carry[:, None] >= 3, 4.0, carry[:, None]),
      ),
      jnp.zeros,
    ),
    None,
    jax.random.PRNGKey(0),
    jnp.asarray([[2.0], [0.0]]),
    reward_fn=env.reward,
    done_fn=env.done,
    horizon=6,
    restart_obs=jnp.zeros((6, 2, 1)),
  )
  # The prediction is the memory, which counts the steps of the episode.
  np.testing.assert_array_equal(
    trajectory.next_obs[..., 0].T, [[0, 1, 2, 4, 0, 1]] * 2
  )


def test_log_prob_is_of_the_action_taken():
  env, policy = envs.make('point'), point_policy(init_std=0.3)
  params = policy.init(jax.random.PRNGKey(1))
  trajectory = imagined.rollout(
    policy,
    params,
    SHIFT,
    jnp.ones((1, 1)),
    jax.random.PRNGKey(0),
    jnp.ones((5, 2)),
    reward_fn=env.reward,
    done_fn=env.done,
    horizon=4,
  )
  dist = policy.over(params, trajectory)
  np.testing.assert_allclose(
    trajectory.log_prob, dist.log_prob(trajectory.action), rtol=1e-4
  )
  np.testing.assert_array_equal(
    trajectory.env_action, np.clip(trajectory.action, -1, 1)
  )


@pytest.mark.parametrize('world', ['real', 'imagined'])
def test_a_deviation_that_depends_on_the_state_is_that_of_every_step(world):
  """sigma = exp(position): the first step's would be wrong for the others."""
  env = envs.make('point')
  policy = policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(0.5 * obs, obs),
    noise=functools.partial(distributions.normal_noise, action_size=2),
  )
  key = jax.random.PRNGKey(0)
  if world == 'real':
    trajectory, _ = real.rollout(env, policy, (), key, num_envs=3, horizon=8)
  else:
    trajectory = imagined.rollout(
      policy,
      (),
      SHIFT,
      jnp.full((1, 1), -0.3),
      key,
      jnp.ones((3, 2)),
      reward_fn=env.reward,
      done_fn=env.done,
      horizon=8,
    )
  density = scipy.stats.norm(0.5 * trajectory.obs, np.exp(trajectory.obs))
  np.testing.assert_allclose(
    trajectory.log_prob,
    density.logpdf(trajectory.action).sum(-1),
    rtol=1e-4,
    atol=1e-4,
  )
  assert np.std(trajectory.obs) > 0.1


def counting_policy() -> policies.Policy:
  """Does what it remembers: the steps, and the reward, of its episode."""

  def act(params, carry, obs, noise):
    raw = jnp.stack([carry['steps'], carry['paid']], -1)
    return carry, policies.Action(raw, 0.1 * raw, jnp.zeros(obs.shape[0]))

  return policies.Policy(
    init=lambda key: (),
    start=lambda params, key, context, num: {
      'steps': jnp.zeros(num),
      'paid': jnp.zeros(num),
    },
    act=act,
    noise=lambda key, shape: None,
    observe=lambda params, carry, step: {
      'steps': carry['steps'] + 1,
      'paid': carry['paid'] + step.reward,
    },
  )


@pytest.mark.parametrize('world', ['real', 'imagined'])
def test_a_policy_remembers_its_episode_and_no_other(world):
  env = tiny.Countdown()
  if world == 'real':
    trajectory, _ = real.rollout(
      env,
      counting_policy(),
      (),
      jax.random.PRNGKey(1),
      num_envs=4,
      horizon=9,
    )
  else:
    trajectory = imagined.rollout(
      counting_policy(),
      (),
      SHIFT,
      1.0,
      jax.random.PRNGKey(1),
      jnp.asarray([[0.0], [1.0], [2.0], [3.0]]),
      reward_fn=env.reward,
      done_fn=env.done,
      horizon=9,
      restart_obs=jnp.zeros((9, 4, 1)),
    )
  for rollout in range(4):
    steps = paid = 0
    for t in range(9):
      np.testing.assert_array_equal(
        trajectory.action[t, rollout], [steps, paid]
      )
      steps, paid = steps + 1, paid + trajectory.reward[t, rollout]
      if trajectory.terminated[t, rollout]:
        steps = paid = 0
  assert np.sum(trajectory.terminated) >= 4


def test_a_rollout_goes_on_where_the_last_one_stood():
  """Three calls in a row are one, episodes, times and memory included."""
  env = tiny.Countdown()
  rollout = functools.partial(
    real.rollout, env, counting_policy(), (), num_envs=3, time_limit=3
  )
  rollout = jax.jit(rollout, static_argnames='horizon')
  running, number = None, jnp.int32(5)
  rows = []
  for call, horizon in enumerate((2, 4, 3)):
    start = running
    trajectory, running = rollout(
      jax.random.PRNGKey(call), horizon=horizon, start=start
    )
    flat, number, standing = real.to_transitions(
      trajectory, number, start=start
    )
    running = running._replace(episode=standing)
    rows.append(
      jax.tree.map(lambda x: np.reshape(x, (3, -1, *x.shape[1:])), flat)
    )
  data = jax.tree.map(lambda *x: np.concatenate(x, 1), *rows)
  seen = set()
  for env_index in range(3):
    time, episode = 0, None
    for t in range(9):
      step = jax.tree.map(operator.itemgetter((env_index, t)), data)
      if time == 0:
        assert int(step.episode) not in seen
        seen.add(int(step.episode))
        episode = step.episode
      else:
        np.testing.assert_array_equal(step.obs, data.next_obs[env_index, t - 1])
      assert (step.time, step.episode) == (time, episode)
      np.testing.assert_allclose(step.action[0], 0.1 * time, rtol=1e-6)
      cut = time == 2 and not step.terminated
      assert step.truncated == cut
      time = 0 if step.terminated or cut else time + 1
  assert int(number) == 5 + len(seen)
  assert data.truncated.sum() > 0 and data.terminated.sum() > 0


def test_noise_is_normal_and_of_each_task_its_own():
  """Actions of a policy that is noise; an odd number of them per task."""
  env = tiny.Countdown()

  def noise(key):
    return imagined.rollout(
      countdown_policy(action_size=3),
      (),
      SHIFT,
      0.0,
      key,
      jnp.zeros((5, 1)),
      reward_fn=env.reward,
      done_fn=env.done,
      horizon=151,
    ).action

  keys = jax.random.split(jax.random.PRNGKey(3), 8)
  drawn = jax.vmap(noise)(keys)
  np.testing.assert_array_equal(drawn[5], noise(keys[5]))
  flat = np.reshape(drawn, (8, -1))
  assert scipy.stats.kstest(flat.ravel(), 'norm').pvalue > 0.01
  # Halves of a block, neighbours and tasks know nothing of each other.
  half = flat.shape[1] // 2
  for a, b in (
    (flat[:, :half], flat[:, half : 2 * half]),
    (flat[:, 1:], flat[:, :-1]),
    (flat[1:], flat[:-1]),
  ):
    assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / np.sqrt(a.size)
  assert np.unique(flat).size > 0.99 * flat.size


def test_perturbation_reaches_every_prediction():
  trajectory = imagine_countdown(perturb_fn=lambda obs, key: obs - 0.5)
  np.testing.assert_allclose(
    trajectory.next_obs[..., 0][:, 0], 0.5 * np.arange(1, 7)
  )
