"""The ring: what it keeps, gives in minibatches, and cuts into windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import types
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import windows


def transitions(values: range) -> types.Transition:
  """NumPy transitions told apart by their reward."""
  count = len(values)
  reward = np.asarray(values, np.float32)
  return types.Transition(
    obs=np.stack([reward, reward], -1),
    action=reward[:, None] / 1000,
    reward=reward,
    next_obs=np.stack([reward, reward], -1) + 1,
    terminated=np.zeros(count, np.float32),
    truncated=np.zeros(count, np.float32),
    episode=np.zeros(count, np.int32),
    time=np.asarray(values, np.int32),
  )


def test_it_keeps_the_newest_in_order():
  buffer = buffer_lib.init_transitions(5, 2, 1)
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
def test_it_leaves_out_what_is_not_finite(field, value):
  """The others move up, around the ring's end too."""
  add = jax.jit(buffer_lib.add)
  buffer = add(buffer_lib.init_transitions(5, 2, 1), transitions(range(3)))
  batch = transitions(range(3, 8))
  getattr(batch, field)[1] = getattr(batch, field)[4] = value
  buffer = add(buffer, batch)
  assert (int(buffer.size), int(buffer.position)) == (5, 1)
  np.testing.assert_array_equal(buffer.data.reward, [6, 1, 2, 3, 5])
  np.testing.assert_array_equal(buffer.data.time, [6, 1, 2, 3, 5])


def test_it_samples_only_what_it_holds():
  buffer = buffer_lib.init_transitions(50, 2, 1)
  buffer = buffer_lib.add(buffer, transitions(range(1, 4)))
  drawn = buffer_lib.sample(buffer, jax.random.PRNGKey(0), count=300)
  values, counts = np.unique(drawn.reward, return_counts=True)
  np.testing.assert_array_equal(values, [1, 2, 3])
  assert counts.min() > 60
  np.testing.assert_array_equal(drawn.obs[:, 1], drawn.reward)


@pytest.mark.parametrize(
  ('batch', 'message'),
  [
    (transitions(range(6)), 'rows: there are 6: must be <= 5'),
    (
      transitions(range(2))._replace(action=np.zeros((2, 3))),
      r'rows.action has shape \[2, 3\]: must be \[2, 1\]',
    ),
    (
      transitions(range(2))._replace(extras=np.zeros(2)),
      'as in the buffer',
    ),
  ],
)
def test_it_refuses_what_does_not_fit(batch, message):
  with pytest.raises(ValueError, match=message):
    buffer_lib.add(buffer_lib.init_transitions(5, 2, 1), batch)


def test_a_row_may_be_any_tree():
  buffer = buffer_lib.init(4, {'x': jnp.zeros((2, 3)), 'n': jnp.int32(0)})
  rows = {'x': np.arange(18.0).reshape(3, 2, 3), 'n': np.arange(3)}
  rows['x'][1, 0, 0] = np.nan
  buffer = buffer_lib.add(buffer, rows)
  assert int(buffer.size) == 2
  np.testing.assert_array_equal(buffer.data['n'], [0, 2, 0, 0])
  np.testing.assert_array_equal(buffer.data['x'][1], rows['x'][2])


def test_minibatches_by_task_are_of_the_task():
  buffer = buffer_lib.init(20, jnp.zeros(()))
  buffer = buffer_lib.add(buffer, np.arange(15.0))
  task = jnp.arange(20) % 3  # rows 15 to 19 hold nothing
  task = task.at[7].set(4)
  rows, mask = buffer_lib.sample_by_task(
    buffer, jax.random.PRNGKey(0), task, num_tasks=6, count=400
  )
  assert rows.shape == mask.shape == (6, 400)
  np.testing.assert_array_equal(mask[:, 0], [1, 1, 1, 0, 1, 0])
  for index, expected in (
    (0, [0, 3, 6, 9, 12]),
    (1, [1, 4, 10, 13]),
    (2, [2, 5, 8, 11, 14]),
    (4, [7]),
  ):
    values, counts = np.unique(rows[index], return_counts=True)
    np.testing.assert_array_equal(values, expected)
    assert counts.min() > 200 / len(expected)


def history(rng: np.random.Generator, capacity: int):
  """A ring filled by several calls, some rows of which are not finite."""
  buffer = buffer_lib.init_transitions(capacity, 1, 1)
  kept = []  # (episode, time, number), in the order of the ring
  episode = time = number = 0
  for count in rng.integers(1, capacity + 1, 6):
    rows = []
    for _ in range(count):
      sound = rng.random() > 0.15
      rows.append((episode, time, number, sound))
      if sound:
        kept.append((episode, time, number))
      number += 1
      time += 1
      if rng.random() < 0.25:
        episode, time = episode + 1, 0
    episodes, times, numbers, sound = map(np.asarray, zip(*rows, strict=True))
    reward = np.where(sound, numbers, np.nan).astype(np.float32)
    zeros = np.zeros(count, np.float32)
    buffer = jax.jit(buffer_lib.add)(
      buffer,
      types.Transition(
        obs=zeros[:, None],
        action=zeros[:, None],
        reward=reward,
        next_obs=zeros[:, None],
        terminated=zeros,
        truncated=zeros,
        episode=episodes.astype(np.int32),
        time=times.astype(np.int32),
      ),
    )
  return buffer, kept[-capacity:]


@pytest.mark.parametrize('seed', range(6))
@pytest.mark.parametrize('length', [1, 3, 7])
def test_windows_cross_nothing(seed, length):
  """Against a search through all that is stored, at every row of it."""
  capacity = 12
  buffer, kept = history(np.random.default_rng(seed), capacity)
  slots = np.arange(int(buffer.size))
  stored = {(e, t): n for e, t, n in kept}
  assert len(stored) == len(slots)
  episodes, times = map(np.asarray, (buffer.data.episode, buffer.data.time))
  for cut, shift in ((windows.before, 0), (windows.ending, 1)):
    rows, mask = jax.tree.map(
      np.asarray,
      jax.jit(cut, static_argnames='length')(
        buffer, jnp.asarray(slots), length=length
      ),
    )
    for index, slot in enumerate(slots):
      episode, time = int(episodes[slot]), int(times[slot])
      expected, broken = [], False
      for back in range(1 - shift, length + 1 - shift):
        number = stored.get((episode, time - back))
        broken = broken or number is None
        expected.insert(0, None if broken else number)
      found = [
        float(value) if flag else None
        for value, flag in zip(rows.reward[index], mask[index], strict=True)
      ]
      assert found == expected
      assert np.all(np.asarray(rows.reward[index])[mask[index] == 0] == 0)


@pytest.mark.parametrize('left_out', [0.0, 0.1])
@pytest.mark.parametrize('num_envs', [2, 3])
def test_windows_of_environments_that_alternate(left_out, num_envs):
  """Against a search; a row that is left out only ends windows."""
  rng = np.random.default_rng(num_envs)
  capacity, length = 20, 3
  standing, begun = [[env, 0] for env in range(num_envs)], num_envs
  buffer = buffer_lib.init_transitions(capacity, 1, 1)
  add, kept = jax.jit(buffer_lib.add), []
  for step in range(24):
    zeros = np.zeros(num_envs, np.float32)
    episode, time = np.array(standing, np.int32).T
    reward = step * num_envs + np.arange(num_envs, dtype=np.float32)
    sound = rng.random(num_envs) >= left_out
    rows = zip(episode, time, reward, sound, strict=True)
    kept += [row[:3] for row in rows if row[3]]
    buffer = add(
      buffer,
      types.Transition(
        obs=zeros[:, None],
        action=zeros[:, None],
        reward=np.where(sound, reward, np.nan),
        next_obs=zeros[:, None],
        terminated=zeros,
        truncated=zeros,
        episode=episode,
        time=time,
      ),
    )
    for env in range(num_envs):
      standing[env][1] += 1
      if rng.random() < 0.15:
        standing[env], begun = [begun, 0], begun + 1
  stored = {(e, t): value for e, t, value in kept[-capacity:]}
  rows, mask = jax.tree.map(
    np.asarray,
    windows.before(
      buffer, jnp.arange(capacity), length=length, num_envs=num_envs
    ),
  )
  episodes, times = map(np.asarray, (buffer.data.episode, buffer.data.time))
  missed = total = 0
  for slot in range(capacity):
    broken = False
    for back in range(1, length + 1):
      value = stored.get((episodes[slot], times[slot] - back))
      broken = broken or value is None
      if mask[slot, -back]:
        assert not broken and rows.reward[slot, -back] == value
      total += not broken
      missed += not broken and not mask[slot, -back]
  assert total > capacity
  assert missed == 0 if not left_out else missed < total / 2


def test_a_window_takes_no_empty_slot_for_a_first_step():
  """An empty slot says episode 0, time 0; the ring's seam is before slot 0."""
  rows = transitions(range(3))
  rows.reward[0] = np.nan
  buffer = buffer_lib.add(buffer_lib.init_transitions(5, 2, 1), rows)
  np.testing.assert_array_equal(buffer.data.time, [1, 2, 0, 0, 0])
  _, mask = windows.before(buffer, jnp.asarray([0, 1]), length=2)
  np.testing.assert_array_equal(mask, [[0, 0], [0, 1]])
