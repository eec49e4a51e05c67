"""The `gymnasium` variants against Gymnasium's own environments, version 5.

The tables of errors are printed; `pytest -rP` or `-s` shows them.
"""

from typing import NamedTuple

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.envs import locomotion

_STATES, _STEPS = 5, 20
_EPISODES, _LIMIT = 50, 200
_PERTURBATION = 1e-7

_ENVIRONMENTS = (
  pytest.param('swimmer', 'Swimmer-v5', marks=pytest.mark.slow),
  pytest.param('half_cheetah', 'HalfCheetah-v5', marks=pytest.mark.slow),
  pytest.param('hopper', 'Hopper-v5', marks=pytest.mark.slow),
  pytest.param('walker2d', 'Walker2d-v5', marks=pytest.mark.slow),
  pytest.param('ant', 'Ant-v5', marks=pytest.mark.slow),
)


class Run(NamedTuple):
  """Steps from several starts, `[B, T, ...]`."""

  obs: np.ndarray
  reward: np.ndarray
  done: np.ndarray


def _starts(
  name: str, count: int
) -> tuple[gymnasium.Env, np.ndarray, np.ndarray]:
  """Their environment, and states from its resets."""
  env = gymnasium.make(name).unwrapped
  qpos, qvel = [], []
  for seed in range(count):
    env.reset(seed=seed)
    qpos.append(env.data.qpos.copy())
    qvel.append(env.data.qvel.copy())
  return env, np.stack(qpos), np.stack(qvel)


def _theirs(
  env: gymnasium.Env, qpos: np.ndarray, qvel: np.ndarray, actions: np.ndarray
) -> Run:
  runs = []
  for start in range(len(qpos)):
    env.reset(seed=0)
    env.set_state(qpos[start], qvel[start])
    steps = [env.step(action)[:3] for action in actions[start]]
    runs.append([np.stack(x) for x in zip(*steps, strict=True)])
  return Run(*map(np.stack, zip(*runs, strict=True)))


def _ours(
  env: locomotion.Locomotion,
  qpos: np.ndarray,
  qvel: np.ndarray,
  actions: np.ndarray,
) -> Run:
  def run(qpos: jax.Array, qvel: jax.Array, actions: jax.Array) -> Run:
    data = env.data(qpos, qvel)
    state = env.reset(jax.random.PRNGKey(0)).replace(
      pipeline_state=data, obs=env.observe(data)
    )

    def step(state, action):
      state = env.step(state, action)
      return state, Run(state.obs, state.reward, state.done)

    return jax.lax.scan(step, state, actions)[1]

  inputs = map(jnp.asarray, (qpos, qvel, actions))
  return jax.tree.map(np.asarray, jax.jit(jax.vmap(run))(*inputs))


@pytest.mark.parametrize(('name', 'their_name'), _ENVIRONMENTS)
def test_steps_agree(name, their_name, x64):
  """Within what a perturbation of 1e-7 at the start does to theirs.

  In double precision, where what differs is the definition, not the rounding.
  """
  env = envs.make(name, 'gymnasium')
  theirs, qpos, qvel = _starts(their_name, _STATES)
  rng = np.random.default_rng(0)
  actions = rng.uniform(-1, 1, (_STATES, _STEPS, env.action_size))
  expected = _theirs(theirs, qpos, qvel, actions)
  perturbed = _theirs(
    theirs,
    qpos + _PERTURBATION * rng.normal(size=qpos.shape),
    qvel + _PERTURBATION * rng.normal(size=qvel.shape),
    actions,
  )

  actual = _ours(env, qpos, qvel, actions)

  # The last observation is ours alone: the velocity that the reward reads.
  actual = actual._replace(obs=actual.obs[..., :-1])
  assert actual.obs.shape == expected.obs.shape
  assert theirs.dt == pytest.approx(env.dt)
  print(f'{their_name}: largest error, and drift, at steps 1, 5, 10, 20')
  for field in ('obs', 'reward'):
    axes = (0, 2) if field == 'obs' else 0
    reference = getattr(expected, field)
    error = np.max(np.abs(getattr(actual, field) - reference), axes)
    drift = np.max(np.abs(getattr(perturbed, field) - reference), axes)
    for label, values in ((field, error), ('drift', drift)):
      picked = (values[step - 1] for step in (1, 5, 10, 20))
      print(f'{label:6}', *(f'{value:8.1e}' for value in picked), sep='  ')
    assert np.all(error <= drift)
  np.testing.assert_array_equal(actual.done, expected.done)


@pytest.mark.slow
@pytest.mark.parametrize(('name', 'their_name'), _ENVIRONMENTS)
def test_returns_agree(name, their_name):
  """Over paired episodes of random actions, in the precision in use.

  The 95% interval is printed. What is asserted is four standard errors: one
  chaotic rounding more or less must not turn the test red.
  """
  env = envs.make(name, 'gymnasium')
  theirs, qpos, qvel = _starts(their_name, _EPISODES)
  actions = np.random.default_rng(1).uniform(
    -1, 1, (_EPISODES, _LIMIT, env.action_size)
  )

  def returns(run: Run) -> np.ndarray:
    ended_before = np.cumsum(run.done, 1) - run.done > 0
    return np.sum(np.where(ended_before, 0.0, run.reward), 1)

  expected = returns(_theirs(theirs, qpos, qvel, actions))
  difference = returns(_ours(env, qpos, qvel, actions)) - expected
  error = np.std(difference, ddof=1) / np.sqrt(_EPISODES)
  mean = np.mean(difference)
  print(
    f'{their_name}: mean return {np.mean(expected):.3f}, ours differs by'
    f' {mean:.2e} +- {1.96 * error:.1e} (95%)'
  )
  rounding = 1e-5 * (1 + np.mean(np.abs(expected)))
  assert abs(mean) <= 4 * error + rounding
