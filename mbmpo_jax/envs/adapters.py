"""Adapts environments of brax and of MuJoCo Playground to `base.Environment`.

  env = adapters.Adapted(
    brax_envs.get_environment('inverted_pendulum'),
    reward=lambda obs, action, next_obs: jnp.ones(next_obs.shape[:-1]),
    done=lambda next_obs: (jnp.abs(next_obs[..., 1]) > 0.2).astype(float),
    max_episode_steps=1000,
  )

These libraries compute reward and termination inside `step`. Imagined rollouts
need them as functions of observations, which the caller provides. By default
only imagined rollouts use the caller's functions; real steps use the reward and
termination of the wrapped environment. `check_environment` compares the two on
a few steps, and data collection compares them on all further steps
(`algorithms/contract.py`).
"""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import mujoco
from brax.envs.wrappers import training

from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.envs import check

# These wrappers batch, or hide why an episode ended.
_TRAINING_WRAPPERS = (
  training.AutoResetWrapper,
  training.EpisodeWrapper,
  training.VmapWrapper,
)


class Adapted(base.Environment):
  """An environment of another library; its whole state is the physics state.

  Actions are clipped to [-1, 1], the range that brax's trainers use.
  `initial_obs` runs the wrapped environment's reset, including its physics if
  the observation needs it. Every imagined rollout then pays that cost, and
  every step of it if `model_rollouts.restart` is set.

  Attributes:
    wrapped: the wrapped environment.
  """

  observation_size = 0  # Set per instance.
  action_size = 0

  def __init__(
    self,
    env: Any,
    *,
    reward: types.RewardFn,
    done: types.DoneFn | None,
    max_episode_steps: int,
    dt: float | None = None,
    obs_key: str | None = None,
    model_input: Callable[[jax.Array], jax.Array] | None = None,
    project: Callable[[jax.Array], jax.Array] | None = None,
    override_task: bool = False,
  ) -> None:
    """Adapts `env`, and traces its reset to find the size of its observation.

    Args:
      env: a `brax.envs.Env` or a `mujoco_playground.MjxEnv` without training
        wrappers. Its reset must depend on the key only.
      reward: `(obs [..., O], action [..., A], next_obs [..., O]) -> [...]`.
      done: `next_obs [..., O] -> [...]`, 1. where the episode ends; `None` if
        only the time limit ends it.
      max_episode_steps: the time limit in steps. In Playground it is the field
        `episode_length` of the environment's configuration.
      dt: seconds per step; `env.dt` by default.
      obs_key: selects one observation if `env` returns a dict of them.
      model_input: maps `obs [..., O]` to the input of a dynamics model.
      project: maps a predicted observation `[..., O]` to the nearest valid one,
        for example with unit quaternions.
      override_task: whether `step` also uses `reward` and `done` in place of
        the wrapped environment's, for a task that the caller defines.

    Raises:
      check.ContractError: if `env` has a training wrapper, if `dt` is neither
        given nor an attribute of `env`, or if `obs_key` does not fit its
        observation.
    """
    _refuse_training_wrappers(env)
    self.wrapped = env
    self.action_size = int(env.action_size)
    self.max_episode_steps = max_episode_steps
    # The wrapped environment may end an episode where `done` is 0.
    self.can_terminate = done is not None or not override_task
    self._reward = reward
    self._done = done or super().done
    self._model_input = model_input or super().model_input
    self._project = project or super().project
    self._override_task = override_task
    self._name = type(env).__name__
    dt = getattr(env, 'dt', None) if dt is None else dt
    if dt is None:
      raise check.ContractError(f'{self._name} has no dt: pass dt, in seconds')
    self.dt = float(dt)
    obs = jax.eval_shape(env.reset, jax.random.PRNGKey(0)).obs
    keys = list(obs) if isinstance(obs, Mapping) else [None]
    if obs_key not in keys:
      raise check.ContractError(
        f'{self._name}: obs_key={obs_key!r}: must be one of {keys}'
      )
    self._obs_key = obs_key
    obs = obs if obs_key is None else obs[obs_key]
    self.observation_size = obs.shape[-1]

  def initial_state(self, rng: jax.Array) -> Any:
    """Resets the wrapped environment; consumes `rng`."""
    return _canonical(self.wrapped.reset(rng))

  def advance(self, pipeline_state: Any, action: jax.Array) -> Any:
    """Steps the wrapped environment.

    Raises:
      check.ContractError: while tracing, if the step changes the structure,
        shapes or types of the state.
    """
    # A copy, because steps write into the dicts of their argument.
    copy = jax.tree.map(lambda leaf: leaf, pipeline_state)
    after = _canonical(self.wrapped.step(copy, action))
    old, new = _layout(pipeline_state), _layout(after)
    for path in old | new:
      if old.get(path) != new.get(path):
        raise check.ContractError(
          f'{self._name}: step changes state{path} from'
          f' {old.get(path, "nothing")} to {new.get(path, "nothing")}:'
          ' must be the same after reset and step'
        )
    return after

  def observe(self, pipeline_state: Any) -> jax.Array:
    """Returns the observation [O], selected by `obs_key` if it is a dict."""
    obs = pipeline_state.obs
    return obs if self._obs_key is None else obs[self._obs_key]

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns the caller's `reward`, [...]."""
    return self._reward(obs, action, next_obs)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns the caller's `done`, [...]."""
    return self._done(next_obs)

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Returns the dynamics model's input for `obs` [..., O]."""
    return self._model_input(obs)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Applies the caller's `project` to a prediction [..., O]."""
    return self._project(next_obs)

  def scene(self) -> mujoco.MjModel | None:
    """Returns the wrapped environment's MuJoCo model, or `None`."""
    system = getattr(self.wrapped, 'sys', self.wrapped)  # brax's, Playground's
    return getattr(system, 'mj_model', None)

  def pose(self, pipeline_state: Any) -> base.Pose:
    """Returns the coordinates of a state of the wrapped environment."""
    state = pipeline_state
    if hasattr(state, 'data'):  # Playground's
      data = state.data
      return base.Pose(data.qpos, data.mocap_pos, data.mocap_quat)
    none = jnp.zeros((0, 3)), jnp.zeros((0, 4))
    return base.Pose(state.pipeline_state.q, *none)

  def step(self, state: base.State, action: jax.Array) -> base.State:
    """Advances one step under `action` [A], clipped to [-1, 1]."""
    after = super().step(state, action)
    if self._override_task:
      return after
    own = after.pipeline_state
    dtype = after.obs.dtype
    return after.replace(
      reward=own.reward.astype(dtype), done=own.done.astype(dtype)
    )


def _refuse_training_wrappers(env: Any) -> None:
  while env is not None:
    if isinstance(env, _TRAINING_WRAPPERS):
      raise check.ContractError(
        f'{type(env).__name__}: must be the environment itself, without the'
        " wrappers that brax's trainers put around it"
      )
    env = getattr(env, 'env', None)


def _canonical(state: Any) -> Any:
  """Makes Python numbers arrays and removes weak types.

  The states of reset and step then have the same types.
  """
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.result_type(x)), state)


def _layout(state: Any) -> dict[str, str]:
  """Returns the type and shape of every leaf by its path."""
  return {
    jax.tree_util.keystr(path): f'{leaf.dtype}{list(leaf.shape)}'
    for path, leaf in jax.tree.leaves_with_path(state)
  }
