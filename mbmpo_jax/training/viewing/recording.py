"""Records episodes of a policy for drawing."""

from typing import Any, NamedTuple, cast

import jax
import mujoco
import numpy as np

from mbmpo_jax import envs
from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import real


class RecordingError(errors.UserError, RuntimeError):
  """An environment has no scene, or a rollout is not finite."""


class Recording(NamedTuple):
  """F frames: the state before every step, and after an episode's last step.

  Attributes:
    model: the MuJoCo model of the bodies.
    dt: seconds between frames of an episode.
    pose: coordinates of the bodies, leaves `[F, ...]`.
    episode: the frame's episode, from 0, int `[F]`.
    time: seconds since the episode started, `[F]`.
    reward_so_far: sum of rewards since the episode started, `[F]`.
    terminated: whether the episode terminates at this frame, other than by a
      time limit, bool `[F]`.
    task: F descriptions of the task from this frame on; empty if the
      environment has no tasks.
  """

  model: mujoco.MjModel
  dt: float
  pose: base.Pose
  episode: np.ndarray
  time: np.ndarray
  reward_so_far: np.ndarray
  terminated: np.ndarray
  task: tuple[str, ...] = ()


def record(
  env: base.Environment,
  policy: policies.Policy,
  params: types.Params,
  key: jax.Array,
  *,
  num_steps: int,
) -> Recording:
  """Runs a policy for some steps, with sampled actions.

  After the end of an episode, the next one starts.

  Args:
    env: an environment with a `scene`.
    policy: the policy.
    params: its parameters.
    key: consumed.
    num_steps: total steps T of all episodes.

  Raises:
    RecordingError: if `env` has no scene, or coordinates become non-finite.
  """
  model = env.scene()
  if model is None:
    raise RecordingError(
      f'{_name(env)} cannot be drawn: its scene() must be a MuJoCo model'
    )

  @jax.jit
  def run(params: types.Params, key: jax.Array) -> Any:
    trajectory, _ = real.rollout(
      cast(base.Environment, _Posed(env)),
      _unposed(policy),
      params,
      key,
      num_envs=1,
      horizon=num_steps,
    )
    steps: Any = (
      trajectory.obs[1:],
      trajectory.next_obs[1:],
      trajectory.reward,
      trajectory.terminated,
    )
    return jax.tree.map(lambda x: x[:, 0], steps)

  start, end, reward, terminated = jax.device_get(run(params, key))
  (before, task), (after, _) = start, end
  coordinates = np.concatenate([after.qpos, reward[:, None]], -1)
  bad = ~np.isfinite(coordinates).all(-1)
  if bad.any():
    raise RecordingError(
      f'{_name(env)} is not drawn: the rollout is not finite after step'
      f' {bad.argmax() + 1}'
    )
  index, episode, time, reward_so_far, ended = _frames(reward, terminated > 0)
  # An episode's last frame, at T or beyond, has the task of its last step.
  words = _words(env, task, index % num_steps)
  return Recording(
    model=model,
    dt=env.dt,
    pose=jax.tree.map(lambda *x: np.concatenate(x)[index], before, after),
    episode=episode,
    time=time * env.dt,
    reward_so_far=reward_so_far,
    terminated=ended,
    task=words,
  )


class _Posed(base.brax_envs.Wrapper):
  """An environment whose observation includes its pose and its task."""

  def reset(self, rng: jax.Array) -> base.State:
    return self._with_pose(self.env.reset(rng))

  def step(self, state: base.State, action: jax.Array) -> base.State:
    state = state.replace(obs=state.obs[0])
    return self._with_pose(self.env.step(state, action))

  def _with_pose(self, state: base.State) -> base.State:
    pose, task = self.env.pose(state.pipeline_state), ()
    if isinstance(self.env, envs.Tasked):
      task = self.env.task(state.pipeline_state)
    return state.replace(obs=(state.obs, pose, task))


def _unposed(policy: policies.Policy) -> policies.Policy:
  """Returns the policy for `_Posed`, which ignores pose and task."""

  def act(params: Any, carry: Any, obs: Any, noise: Any) -> Any:
    return policy.act(params, carry, obs[0], noise)

  def observe(params: Any, carry: Any, step: policies.Experience) -> Any:
    assert policy.observe is not None
    step = step._replace(obs=step.obs[0], next_obs=step.next_obs[0])
    return policy.observe(params, carry, step)

  return policy._replace(
    act=act, observe=None if policy.observe is None else observe
  )


def _frames(reward: np.ndarray, terminated: np.ndarray) -> list[np.ndarray]:
  """Returns columns [F]: index, episode, steps, reward so far, terminated.

  Indices below T are states before steps, the others states after steps.
  """
  frames = []
  episode, steps, total = 0, 0, 0.0
  last = len(reward) - 1
  for step, (paid, ended) in enumerate(zip(reward, terminated, strict=True)):
    frames.append((step, episode, steps, total, False))
    steps, total = steps + 1, total + float(paid)
    if ended or step == last:
      frames.append((last + 1 + step, episode, steps, total, ended))
      episode, steps, total = episode + 1, 0, 0.0
  return [np.asarray(column) for column in zip(*frames, strict=True)]


def _words(
  env: base.Environment, task: Any, steps: np.ndarray
) -> tuple[str, ...]:
  """Describes the tasks of `steps`; `task` has leaves [T, ...]."""
  if not isinstance(env, envs.Tasked):
    return ()
  describe = env.family.describe
  return tuple(
    describe(jax.tree.map(lambda x, step=step: x[step], task)) for step in steps
  )


def _name(env: base.Environment) -> str:
  """Returns the name of the innermost wrapped environment."""
  while hasattr(env, 'wrapped'):
    env = env.wrapped
  return type(env).__name__
