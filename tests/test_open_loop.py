"""Predictions fed back, against loops of NumPy in double precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import types
from mbmpo_jax.models import base
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import open_loop
from mbmpo_jax.rollouts import buffer as buffer_lib

_OBS, _ACTION, _MEMBERS = 3, 2, 2


def _dynamics(*, reward: bool) -> base.Dynamics:
  """s' = tanh(W [s, a]) + 0.1 c, with c the steps that were taken; r = s'_0."""

  def predict(model, carry, obs, action, key):
    del key
    inputs = jnp.concatenate([obs, action], -1)
    next_obs = jnp.tanh(inputs @ model.T) + 0.1 * carry[:, None]
    paid = next_obs[:, 0] if reward else None
    return carry + 1, base.Prediction(next_obs, paid)

  return base.Dynamics(
    init=lambda key: (),
    ready=lambda params, statistics: (),
    start=lambda model, key, context, num: jnp.zeros(num),
    predict=predict,
    loss=lambda *args: jnp.zeros(()),
  )


def _steps(windows: int, length: int) -> types.Transition:
  random = np.random.default_rng(0)
  obs = random.normal(size=(windows, length + 1, _OBS))
  shape = (windows, length)
  return types.Transition(
    obs=obs[:, :-1],
    action=random.uniform(-1, 1, (*shape, _ACTION)),
    reward=random.normal(size=shape),
    next_obs=obs[:, 1:],
    terminated=np.zeros(shape),
    truncated=np.zeros(shape),
    episode=np.zeros(shape, np.int32),
    time=np.zeros(shape, np.int32),
  )


@pytest.mark.parametrize('reward', [False, True])
def test_errors_are_those_of_a_loop(reward, x64):
  steps, length = _steps(4, 5), 5
  random = np.random.default_rng(1)
  model = random.normal(size=(_MEMBERS, _OBS, _OBS + _ACTION))
  mean, std = random.normal(size=_OBS), np.array([2.0, 0.5, 0.0])
  paid_mean, paid_std = np.array([0.3]), np.array([3.0])
  mask = np.array([1.0, 0.0, 1.0, 1.0])

  found = jax.jit(
    functools.partial(open_loop.errors, _dynamics(reward=reward))
  )(
    jnp.asarray(model),
    jax.tree.map(jnp.asarray, steps),
    jnp.asarray(mask),
    normalizer.Moments(jnp.asarray(mean), jnp.asarray(std)),
    normalizer.Moments(jnp.asarray(paid_mean), jnp.asarray(paid_std)),
    jax.random.PRNGKey(0),
  )

  scale = np.array([2.0, 0.5, 1.0, 3.0])[: _OBS + reward]
  chosen = np.flatnonzero(mask)
  expected = np.zeros((_MEMBERS, length, _OBS + reward))
  stays, means = np.zeros((2, length, _OBS + reward))
  for step in range(length):
    for index in chosen:
      truth = np.append(steps.next_obs[index, step], steps.reward[index, step])
      truth = truth[: _OBS + reward]
      for member in range(_MEMBERS):
        state = steps.obs[index, 0]
        for before in range(step + 1):
          inputs = np.append(state, steps.action[index, before])
          state = np.tanh(model[member] @ inputs) + 0.1 * before
        guess = np.append(state, state[0])[: _OBS + reward]
        expected[member, step] += ((guess - truth) / scale) ** 2
      first = np.append(steps.obs[index, 0], np.nan)[: _OBS + reward]
      middle = np.append(mean, paid_mean)[: _OBS + reward]
      stays[step] += ((first - truth) / scale) ** 2
      means[step] += ((middle - truth) / scale) ** 2
  for name, sums in (('model', expected), ('stays', stays), ('mean', means)):
    np.testing.assert_allclose(
      getattr(found, name), np.sqrt(sums / len(chosen)), rtol=1e-12
    )


def _ring(lengths: list[int], missing: int) -> buffer_lib.Buffer:
  """Episodes whose observation is episode * 100 + time; a row is left out."""
  episode = np.repeat(np.arange(len(lengths)), lengths)
  time = np.concatenate([np.arange(n) for n in lengths])
  kept = np.arange(len(time)) != missing
  episode, time = episode[kept], time[kept]
  obs = (100.0 * episode + time)[:, None]
  zero = np.zeros(len(time))
  rows = types.Transition(
    obs=obs,
    action=zero[:, None],
    reward=zero,
    next_obs=obs + 1,
    terminated=zero,
    truncated=zero,
    episode=episode.astype(np.int32),
    time=time.astype(np.int32),
  )
  return buffer_lib.add(buffer_lib.init_transitions(20, 1, 1), rows)


def test_windows_are_whole_and_drawn_without_repeat():
  ring = _ring([5, 2, 6], missing=9)  # The third step of the last episode.
  choose = jax.jit(open_loop.choose, static_argnames=('length', 'count'))
  steps, mask = choose(ring, jax.random.PRNGKey(0), length=3, count=10)
  assert steps.obs.shape == (10, 3, 1)
  found = {tuple(x) for x in np.asarray(steps.obs[mask > 0, :, 0]).tolist()}
  assert found == {(0, 1, 2), (1, 2, 3), (2, 3, 4), (203, 204, 205)}
  assert int(mask.sum()) == 4
  _, mask = choose(ring, jax.random.PRNGKey(0), length=9, count=10)
  assert int(mask.sum()) == 0
