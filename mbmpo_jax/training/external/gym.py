"""Real steps in Gymnasium environments."""

import importlib
import warnings
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from mbmpo_jax import types
from mbmpo_jax.training.external import acting
from mbmpo_jax.training.external import actions
from mbmpo_jax.training.external import task


class Gym:
  """Several `gymnasium.Env`s, stepped in parallel as a vector environment.

  Every call resets them with its seeds, so that the results depend only on the
  seed and the actions, as far as the environment is deterministic.

  Attributes:
    sizes: sizes of the environment.
    actions: the mapping from the policy's actions.
  """

  def __init__(
    self, make_env: Callable[[], Any], *, max_episode_steps: int | None = None
  ) -> None:
    """Makes one environment to read its spaces.

    Args:
      make_env: returns a new `gymnasium.Env` in each call.
      max_episode_steps: the time limit, if the environment has none.

    Raises:
      task.WorldError: if Gymnasium is not installed, `make_env` does not return
        one of its environments, or the spaces are not supported.
    """
    self._gymnasium = _gymnasium()
    self._make_env = make_env
    self._vectors: dict[int, Any] = {}
    env = make_env()
    if not isinstance(env, self._gymnasium.Env):
      raise task.WorldError(
        f'make_env() is {type(env).__name__}: must be a gymnasium.Env'
      )
    spec = env.spec
    name = type(env.unwrapped).__name__ if spec is None else spec.id
    limit = max_episode_steps or (spec and spec.max_episode_steps)
    if limit is None:
      raise task.WorldError(
        f'{name}: has no time limit: must have one; pass'
        ' max_episode_steps to external.train'
      )
    space = env.observation_space
    if not isinstance(space, self._gymnasium.spaces.Box):
      raise task.WorldError(
        f'{name}: its observations are {space}: must be a Box; wrap it in'
        ' gymnasium.wrappers.FlattenObservation'
      )
    self.actions = actions.make(env.action_space, name)
    self.sizes = task.Sizes(
      name=name,
      observation_size=int(np.prod(space.shape)),
      action_size=self.actions.size,
      discrete=self.actions.discrete,
      max_episode_steps=int(limit),
      dt=float(getattr(env.unwrapped, 'dt', 0) or 1.0),
    )
    env.close()

  def collect(
    self,
    behaviour: task.Behaviour,
    *,
    num: int,
    horizon: int,
    seed: list[int],
  ) -> types.Trajectory:
    """Takes `horizon` steps in `num` environments; see `task.World`."""
    rows: list[dict[str, Any]] = []
    self._run(behaviour, num, seed, lambda row: len(rows) == horizon, rows)
    return task.trajectory(rows)

  def play(
    self,
    behaviour: task.Behaviour,
    *,
    num: int,
    horizon: int,
    seed: list[int],
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns the returns and lengths [N] of new episodes; see `task.World`."""
    rows: list[dict[str, Any]] = []
    over = np.zeros(num, bool)

    def finished(row: dict[str, Any]) -> bool:
      over[:] |= (row['terminated'] + row['truncated']) > 0
      return bool(over.all()) or len(rows) == horizon

    self._run(behaviour, num, seed, finished, rows)
    reward = np.stack([row['reward'] for row in rows])
    ended = np.stack([row['terminated'] + row['truncated'] for row in rows])
    live = np.cumsum(ended, 0) - ended == 0
    return np.sum(np.where(live, reward, 0.0), 0), np.sum(live, 0)

  def close(self) -> None:
    """Closes all environments."""
    for vector in self._vectors.values():
      vector.close()
    self._vectors.clear()

  def _run(
    self,
    behaviour: task.Behaviour,
    num: int,
    seed: list[int],
    finished: Callable[[dict[str, Any]], bool],
    rows: list[dict[str, Any]],
  ) -> None:
    """Steps until `finished(row)` is true, and appends each row to `rows`."""
    float_type = jnp.zeros(()).dtype
    vector = self._vector(num)
    seeds = np.random.SeedSequence(seed).generate_state(num)
    obs, _ = vector.reset(seed=[int(x) for x in seeds])
    actor = acting.Acting(behaviour, self.sizes.action_space, num)

    def flat(x: Any) -> np.ndarray:
      return np.asarray(x).reshape(num, -1).astype(float_type)

    obs = flat(obs)
    while True:
      raw, action = actor.act(obs)
      observed, reward, terminated, truncated, _ = vector.step(
        self.actions.to_world(action)
      )
      next_obs = flat(observed)
      reward, terminated, truncated = (
        np.asarray(x).astype(float_type)
        for x in (reward, terminated, truncated & ~terminated)
      )
      ended = terminated + truncated
      row = dict(
        obs=obs,
        action=raw,
        env_action=action,
        reward=reward,
        next_obs=next_obs,
        terminated=terminated,
        truncated=truncated,
      )
      rows.append(row)
      if finished(row):
        return
      actor.tell(obs, action, reward, next_obs, terminated, ended)
      obs = next_obs
      if ended.any():
        observed, _ = vector.reset(options={'reset_mask': ended > 0})
        obs = flat(observed)

  def _vector(self, num: int) -> Any:
    if num not in self._vectors:
      vector = self._gymnasium.vector
      self._vectors[num] = vector.SyncVectorEnv(
        [self._make_env] * num, autoreset_mode=vector.AutoresetMode.DISABLED
      )
    return self._vectors[num]


def _gymnasium() -> Any:
  try:
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      return importlib.import_module('gymnasium')
  except ImportError as error:
    raise task.WorldError(
      "gymnasium: is not installed: pip install 'mbmpo-jax[gymnasium]'"
    ) from error


def by_id(name: str) -> Callable[[], Any]:
  """Returns a function that makes the Gymnasium environment with this id.

  Raises:
    task.WorldError: if there is none.
  """
  gymnasium = _gymnasium()
  try:
    gymnasium.spec(name)
  except gymnasium.error.Error as error:
    raise task.WorldError(f'--gym={name}: {error}') from error
  return lambda: gymnasium.make(name)
