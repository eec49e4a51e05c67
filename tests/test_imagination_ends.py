"""M3PO's imagined data in a world whose episodes end, by several members."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.algorithms.m3po import batches
from mbmpo_jax.algorithms.m3po import config as m3po_config
from mbmpo_jax.algorithms.m3po import imagination
from mbmpo_jax.algorithms.m3po import networks as networks_lib
from mbmpo_jax.algorithms.m3po import rows as rows_lib
from mbmpo_jax.models import base as models
from mbmpo_jax.models import mixture
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history
from mbmpo_jax.rollouts import real
from tests import tiny

LENGTH = 3


def _remembering() -> models.Dynamics:
  """Adds one; the reward is what the window saw, and the member's own."""

  def predict(model, carry, obs, env_action, key):
    del key
    reward = model + jnp.sum(carry.obs[..., 0] * carry.mask, -1)
    after = history.push(carry, obs, env_action, reward)
    return after, models.Prediction(obs + 1, reward)

  return models.Dynamics(
    init=lambda key: key,
    ready=lambda *args: args,
    start=lambda model, key, context, num: (
      context or history.empty(num, 1, 1, length=LENGTH)
    ),
    predict=predict,
    loss=lambda *args: jnp.zeros(()),
  )


def _counted(time_limit: int) -> tuple[Any, ...]:
  """A policy of windows, and a ring of what it did in a world that ends."""
  env = tiny.Countdown()
  config = m3po_config.Config(
    history=m3po_config.History(length=LENGTH, units=4),
    policy=m3po_config.Policy(hidden_sizes=(8,)),
  )
  policy = networks_lib.make_policy(env, config)
  params = jax.jit(policy.init)(jax.random.PRNGKey(0))
  trajectory, _ = jax.jit(
    functools.partial(
      real.rollout, env, policy, num_envs=3, horizon=9, time_limit=time_limit
    )
  )(params, jax.random.PRNGKey(1))
  rows, _, _ = real.to_transitions(trajectory, jnp.int32(0))
  buffer = buffer_lib.add(buffer_lib.init_transitions(30, 1, 1), rows)
  return env, policy, params, buffer


def test_real_rows_end_where_the_world_did():
  """Not where time ran out."""
  _, _, _, buffer = _counted(time_limit=3)
  rows = rows_lib.real_rows(buffer, jnp.arange(27), length=LENGTH)
  truncated = np.asarray(buffer.data.truncated[:27])
  assert rows.terminated.sum() > 0 and truncated.sum() > 0
  np.testing.assert_array_equal(rows.terminated, rows.next_obs[:, 0] >= 4)
  assert np.all(np.asarray(rows.terminated)[truncated > 0] == 0)
  # And so do the minibatches for SAC.
  stored = rows_lib.unflatten(tiny.Countdown(), LENGTH, rows_lib.flatten(rows))
  for batch in (batches.to_batch(rows), batches.to_batch(stored)):
    np.testing.assert_array_equal(
      batch.terminated, batch.next_inputs.obs[:, 0] >= 4
    )
    np.testing.assert_array_equal(batch.next_inputs.obs, batch.inputs.obs + 1)


def test_branches_end_and_members_deal_with_windows():
  """Each rollout's own window, whichever member predicts; none goes on."""
  env, policy, params, buffer = _counted(time_limit=9)
  own = jnp.array([100.0, 200.0])
  found = jax.jit(
    functools.partial(
      imagination.branched,
      env,
      policy,
      dynamics=mixture.redrawn(_remembering(), 2),
      num_rollouts=12,
      horizon=6,
      length=LENGTH,
    )
  )(params=params, model=own, buffer=buffer, key=jax.random.PRNGKey(2))
  rows, live = jax.tree.map(
    lambda x: np.asarray(x).reshape(6, 12, *x.shape[1:]), found
  )
  obs = rows.seen.obs[..., 0]
  assert len(set(obs[0])) > 2
  np.testing.assert_array_equal(
    live, obs[:1] + np.arange(6)[:, None] < env.limit
  )
  assert live.any(0).all() and not live.all()
  np.testing.assert_array_equal(
    rows.terminated[live], (obs + 1 >= env.limit)[live]
  )
  window = rows.seen.window
  known = np.sum(window.obs[..., 0] * window.mask, -1)
  member = rows.reward - known
  np.testing.assert_array_equal(np.sort(member[0]), np.repeat(own, 6))
  assert set(member[live]) == {100.0, 200.0}
  both = live[0] & live[1]
  assert np.any((member[0] != member[1])[both])
  # What was counted before the branch, and in it: o - 1, o - 2 and so on.
  for t, n in np.argwhere(live):
    length = int(window.mask[t, n].sum())
    np.testing.assert_array_equal(
      window.obs[t, n, LENGTH - length :, 0],
      obs[t, n] - np.arange(length, 0, -1),
    )
    assert length == min(LENGTH, obs[t, n]) or obs[t, n] - length == 1


@pytest.mark.parametrize(('index', 'horizon'), [(4, 1), (6, 2), (9, 3)])
def test_branches_grow_step_by_step(index, horizon):
  """They go on from what they stored, and none goes on after its end."""
  env, policy, params, buffer = _counted(time_limit=9)
  rollouts = m3po_config.ModelRollouts(
    num_rollouts=12,
    final_horizon=3,
    growth_start=8,
    growth_end=16,
    buffer_capacity=40,
  )
  config = m3po_config.Config(
    collect=m3po_config.Collect(num_envs=2),
    history=m3po_config.History(length=LENGTH, units=4),
    model_rollouts=rollouts,
  )
  imagine = imagination.make(
    env, policy, mixture.redrawn(_remembering(), 2), config
  )
  ring = buffer_lib.init(40, jnp.zeros(rows_lib.row_size(env, LENGTH)))
  ring, (live, broken) = jax.jit(imagine)(
    params,
    jnp.array([100.0, 200.0]),
    buffer,
    ring,
    jnp.int32(index),
    jax.random.PRNGKey(2),
  )
  assert int(ring.size) == int(live) and broken == 0
  rows = rows_lib.unflatten(env, LENGTH, ring.data[: int(ring.size)])
  obs, window = np.asarray(rows.seen.obs[:, 0]), rows.seen.window
  # 12 rows of the first step, then those that have not reached the limit.
  begun, count, first = 0, 12, obs[:12]
  for step in range(horizon):
    np.testing.assert_array_equal(
      obs[begun : begun + count],
      first[first + step < env.limit] + step,
    )
    begun += count
    count = int(np.sum(first + step + 1 < env.limit))
  assert begun == len(obs)
  np.testing.assert_array_equal(rows.terminated, obs + 1 >= env.limit)
  known = np.sum(window.obs[..., 0] * window.mask, -1)
  assert set(np.asarray(rows.reward - known)) == {100.0, 200.0}
  for n, past in enumerate(np.asarray(window.obs[..., 0])):
    length = int(window.mask[n].sum())
    np.testing.assert_array_equal(
      past[LENGTH - length :], obs[n] - np.arange(length, 0, -1)
    )


def test_full_rollouts_that_end_begin_again():
  """With nothing in their windows, and all of them are learned from."""
  env, policy, params, _ = _counted(time_limit=9)
  found = jax.jit(
    functools.partial(
      imagination.full,
      env,
      policy,
      dynamics=mixture.redrawn(_remembering(), 2),
      num_rollouts=4,
      horizon=9,
      length=LENGTH,
    )
  )(params=params, model=jnp.zeros(2), key=jax.random.PRNGKey(3))
  rows, live = jax.tree.map(
    lambda x: np.asarray(x).reshape(9, 4, *x.shape[1:]), found
  )
  assert live.all()
  obs, first = rows.seen.obs[..., 0], rows.seen.obs[0, :, 0]
  assert set(first) == {0.0, 1.0}
  lengths = env.limit - first
  step = np.arange(9)[:, None] % lengths[None]
  np.testing.assert_array_equal(obs, first[None] + step)
  np.testing.assert_array_equal(rows.terminated, step == lengths[None] - 1)
  np.testing.assert_array_equal(
    rows.seen.window.mask.sum(-1), np.minimum(step, LENGTH)
  )
  # The model's window was emptied, too.
  seen = [
    np.where(step >= back, obs - back, 0.0) for back in range(1, LENGTH + 1)
  ]
  np.testing.assert_array_equal(rows.reward, np.sum(seen, 0))
