"""Buffer, real trajectories and imagined ones, in worlds known in advance."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from mbmpo_jax import envs
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.models import ensemble
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real
from mbmpo_jax.rollouts import episodes
from mbmpo_jax.rollouts import imagined
from tests import tiny


def transitions(values: range) -> types.Transition:
  """NumPy transitions told apart by their reward."""
  count = len(values)
  reward = np.asarray(values, np.float32)
  return types.Transition(
    obs=np.stack([reward, reward], -1),
    action=reward[:, None],
    reward=reward,
    next_obs=np.stack([reward, reward], -1) + 1,
    terminated=np.zeros(count, np.float32),
    truncated=np.zeros(count, np.float32),
    episode=np.zeros(count, np.int32),
    time=np.asarray(values, np.int32),
  )


def test_buffer_keeps_the_newest_in_order():
  buffer = buffer_lib.init(5, 2, 1)
  add = jax.jit(buffer_lib.add)
  buffer = add(buffer, transitions(range(3)))
  assert (int(buffer.size), int(buffer.position)) == (3, 3)
  np.testing.assert_array_equal(buffer_lib.mask(buffer), [1, 1, 1, 0, 0])
  buffer = add(buffer, transitions(range(3, 7)))
  assert (int(buffer.size), int(buffer.position)) == (5, 2)
  np.testing.assert_array_equal(buffer.data.reward, [5, 6, 2, 3, 4])
  np.testing.assert_array_equal(buffer.data.obs[:, 0], buffer.data.reward)
  np.testing.assert_array_equal(buffer.data.time, [5, 6, 2, 3, 4])


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf, 1e11])
@pytest.mark.parametrize('field', ['obs', 'action', 'reward', 'next_obs'])
def test_buffer_leaves_out_what_is_not_finite(field, value):
  """The others move up, around the ring's end too."""
  add = jax.jit(buffer_lib.add)
  buffer = add(buffer_lib.init(5, 2, 1), transitions(range(3)))
  batch = transitions(range(3, 8))
  getattr(batch, field)[1] = getattr(batch, field)[4] = value
  buffer = add(buffer, batch)
  assert (int(buffer.size), int(buffer.position)) == (5, 1)
  np.testing.assert_array_equal(buffer.data.reward, [6, 1, 2, 3, 5])
  np.testing.assert_array_equal(buffer.data.time, [6, 1, 2, 3, 5])


def test_buffer_samples_only_what_it_holds():
  buffer = buffer_lib.init(50, 2, 1)
  buffer = buffer_lib.add(buffer, transitions(range(1, 4)))
  drawn = buffer_lib.sample(buffer, jax.random.PRNGKey(0), count=300)
  values, counts = np.unique(drawn.reward, return_counts=True)
  np.testing.assert_array_equal(values, [1, 2, 3])
  assert counts.min() > 60
  np.testing.assert_array_equal(drawn.obs[:, 1], drawn.reward)


@pytest.mark.parametrize(
  ('batch', 'message'),
  [
    (transitions(range(6)), '6 do not fit a buffer of capacity 5'),
    (
      transitions(range(2))._replace(action=np.zeros((2, 3))),
      r'transitions.action has shape \[2, 3\]: must be \[2, 1\]',
    ),
  ],
)
def test_buffer_refuses_what_does_not_fit(batch, message):
  with pytest.raises(ValueError, match=message):
    buffer_lib.add(buffer_lib.init(5, 2, 1), batch)


@pytest.fixture(scope='module')
def countdown_trajectory() -> types.Trajectory:
  rollout = jax.jit(
    functools.partial(
      real.rollout_env,
      tiny.Countdown(),
      None,
      num_envs=6,
      horizon=9,
      policy_apply=tiny.no_op_policy,
    )
  )
  return rollout(jax.random.PRNGKey(1))


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
  flat, episodes = real.to_transitions(countdown_trajectory, jnp.int32(10))
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
  rollout = jax.jit(
    lambda random: real.rollout_env(
      envs.make('point'),
      gaussian.init(jax.random.PRNGKey(0), 2, 2, hidden_sizes=(4,)),
      jax.random.PRNGKey(0),
      num_envs=50,
      horizon=30,
      random_actions=random,
    )
  )
  uniform = rollout(True)
  assert np.all(abs(uniform.action) <= 1)
  np.testing.assert_allclose(np.var(uniform.action), 1 / 3, rtol=0.05)
  assert np.any(abs(rollout(False).action) > 1)
  np.testing.assert_allclose(uniform.log_prob, 2 * np.log(0.5), rtol=1e-6)


def test_each_environment_follows_its_own_policy():
  params = gaussian.init(jax.random.PRNGKey(0), 2, 2, hidden_sizes=(4,))
  per_env = jax.tree.map(lambda leaf: jnp.stack([leaf] * 3), params)
  per_env['layers'][-1]['b'] = jnp.asarray([[-9.0, 0], [0, 0], [9.0, 0]])
  per_env['log_std'] = jnp.log(jnp.asarray([[0.5, 1], [1, 2], [1, 1]]))
  trajectory = real.rollout_env(
    envs.make('point'),
    per_env,
    jax.random.PRNGKey(0),
    num_envs=3,
    horizon=5,
    policy_per_env=True,
  )
  means = np.mean(trajectory.action[..., 0], 0)
  assert means[0] < -6 and abs(means[1]) < 3 and means[2] > 6
  per_step = jax.vmap(jax.vmap(gaussian.apply), (None, 0))
  mean = per_step(per_env, trajectory.obs).mean
  std = np.exp(per_env['log_std'])
  density = scipy.stats.norm(mean, std).logpdf(trajectory.action)
  np.testing.assert_allclose(trajectory.log_prob, density.sum(-1), rtol=1e-4)


def shift_model(model, carry, obs, action, key):
  """A model that adds its parameter, and counts its calls."""
  del action, key
  return carry + 1, obs + model, None


def imagine_countdown(**kwargs) -> types.Trajectory:
  env = tiny.Countdown()
  return imagined.rollout_model(
    None,
    1.0,
    jax.random.PRNGKey(0),
    jnp.asarray([[0.0], [2.0], [-9.0]]),
    env.reward,
    env.done,
    horizon=6,
    policy_apply=tiny.no_op_policy,
    predict=shift_model,
    model_carry=jnp.zeros(3, jnp.int32),
    **kwargs,
  )


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
  trajectory = imagined.rollout_model(
    None,
    None,
    jax.random.PRNGKey(0),
    jnp.asarray([[2.0], [0.0]]),
    tiny.Countdown().reward,
    tiny.Countdown().done,
    horizon=6,
    policy_apply=tiny.no_op_policy,
    predict=lambda model, carry, *rest: (
      carry + 1,
      jnp.where(carry[:, None] >= 3, 4.0, carry[:, None]),
      None,
    ),
    model_carry=jnp.zeros(2),
    restart_obs=jnp.zeros((6, 2, 1)),
  )
  # The prediction is the memory, which counts the steps of the episode.
  np.testing.assert_array_equal(
    trajectory.next_obs[..., 0].T, [[0, 1, 2, 4, 0, 1]] * 2
  )


def test_log_prob_is_of_the_action_taken():
  env = envs.make('point')
  params = gaussian.init(
    jax.random.PRNGKey(1), 2, 2, hidden_sizes=(4,), init_std=0.3
  )
  trajectory = imagined.rollout_model(
    params,
    jnp.ones(2),
    jax.random.PRNGKey(0),
    jnp.ones((5, 2)),
    env.reward,
    env.done,
    horizon=4,
    predict=lambda model, carry, obs, action, key: (carry, obs + action, None),
  )
  dist = gaussian.apply(params, trajectory.obs)
  np.testing.assert_allclose(
    trajectory.log_prob, gaussian.log_prob(dist, trajectory.action), rtol=1e-4
  )
  np.testing.assert_array_equal(
    trajectory.env_action, np.clip(trajectory.action, -1, 1)
  )


def test_noise_is_normal_and_of_each_task_its_own():
  """Actions of a policy that is noise; an odd number of them per task."""
  env = tiny.Countdown()

  def noise(key):
    return imagined.rollout_model(
      None,
      0.0,
      key,
      jnp.zeros((5, 1)),
      env.reward,
      env.done,
      horizon=151,
      policy_apply=lambda params, obs: gaussian.Gaussian(
        jnp.zeros((5, 3)), jnp.zeros((5, 3))
      ),
      predict=shift_model,
      model_carry=jnp.zeros(5, jnp.int32),
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


@pytest.mark.parametrize(
  ('delta', 'expected'),
  [(5.0, [3.0, -1.0, np.nan]), (np.inf, [np.nan] * 3)],
)
def test_predictions_stay_within_the_bounds(delta, expected):
  """What is not finite becomes NaN, for the task to be rejected."""
  model = ensemble.Model(
    layers=((jnp.zeros((2, 1)), jnp.full(1, delta)),),
    input_mean=jnp.zeros(2),
    low=jnp.full(1, -1.0),
    high=jnp.full(1, 3.0),
  )
  obs = jnp.asarray([[0.0], [-50.0], [jnp.nan]])
  _, next_obs, _ = ensemble.predict(model, None, obs, jnp.zeros((3, 1)))
  np.testing.assert_array_equal(next_obs[:, 0], expected)
