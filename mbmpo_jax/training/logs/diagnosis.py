"""The open-loop error of a run's models."""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import open_loop
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real
from mbmpo_jax.training.external import actions as actions_lib
from mbmpo_jax.training.logs import checks as check_lib
from mbmpo_jax.training.logs import files as files_lib
from mbmpo_jax.training.logs import log as log_lib
from mbmpo_jax.training.logs import models as models_lib
from mbmpo_jax.training.logs import remembered
from mbmpo_jax.training.storage import saved_state
from mbmpo_jax.training.storage import saved_world

STEPS = 50
_WINDOWS, _FEWEST, _EPISODES = 512, 20, 10


class Diagnosis(NamedTuple):
  """Errors by steps ahead and dimension, in units of each dimension's spread.

  Attributes:
    source: the data that the predictions are compared with.
    columns: names of the D dimensions.
    spread: the units, [D]; 1 for constant dimensions.
    steady: whether a dimension is constant, bool [D].
    windows: number of predicted windows.
    errors: the windows' `open_loop.Errors`, as NumPy arrays.
  """

  source: str
  columns: tuple[str, ...]
  spread: np.ndarray
  steady: np.ndarray
  windows: int
  errors: open_loop.Errors

  @property
  def model(self) -> np.ndarray:
    """The root mean square error over members, [T, D]."""
    return np.sqrt(np.mean(np.square(self.errors.model), 0))

  @property
  def better(self) -> np.ndarray:
    """Number of steps for which models beat both trivial predictors, [D]."""
    trivial = np.fmin(self.errors.stays, self.errors.mean)
    worse = ~(self.model < trivial)
    return np.where(worse.any(0), np.argmax(worse, 0), len(worse))


def of_run(
  workdir: str | pathlib.Path,
  *,
  data: str | pathlib.Path | None = None,
  actions: actions_lib.Actions | None = None,
  steps: int = STEPS,
  seed: int = 0,
) -> Diagnosis:
  """Diagnoses the models in a run's newest checkpoint.

  Args:
    workdir: a folder of `loop.train`, `external.train` or `logs.train`.
    data: a log to compare with. The default is the held-out rows for a run of
      `logs.train`, new episodes of the policy if the environment is JAX, and
      otherwise episodes that the models were fitted to.
    actions: bounds of the actions in `data`; not of the held-out rows.
    steps: steps to predict ahead, T; fewer if the data have too few windows of
      this length.
    seed: of all random choices.

  Raises:
    ConfigError: if there is no such run, or it has no models or no data yet.
    LogError: if the log cannot be used, or is of another environment.
  """
  root = pathlib.Path(workdir)
  saved = saved_state.load_state(root)
  env = saved_world.environment(root, saved.config)
  models_lib.of_run(env, saved.config)  # Raises before anything is computed.
  state: Any = saved.state
  if not int(state.buffer.size):
    raise config_lib.ConfigError(f'--workdir={root}: has no data yet')
  if data is None and (root / remembered.HELD_OUT).is_file():
    data, source = root / remembered.HELD_OUT, 'held-out rows of the log'
    actions = None  # These are already those of the environment.
  else:
    source = str(data)
  if data is not None:
    log = check_lib.check(files_lib.read(data), actions).log
    _check_sizes(log, env)
  elif isinstance(env, elsewhere.Elsewhere):
    log = _of_buffer(state.buffer)
    source = 'episodes that the models were fitted to'
  else:
    log = _played(env, saved.config, saved.algorithm, state, seed)
    source = f'{_EPISODES} new episodes of the policy'
  return of_state(
    env,
    saved.algorithm,
    saved.config,
    state,
    log,
    source=source,
    steps=steps,
    seed=seed,
  )


def of_state(
  env: envs_base.Environment,
  algorithm: base.Algorithm,
  config: Any,
  state: Any,
  log: log_lib.Log,
  *,
  source: str,
  steps: int = STEPS,
  seed: int = 0,
) -> Diagnosis:
  """Diagnoses the models of a state on a log.

  Args:
    env: the run's environment.
    algorithm: the run's algorithm.
    config: the run's configuration.
    state: the algorithm's state, with `model` and `buffer`.
    log: the data to predict.
    source: the data's description.
    steps: as for `of_run`.
    seed: as for `of_run`.
  """
  del algorithm
  dynamics = models_lib.of_run(env, config)
  length = log_lib.most_steps(
    log, steps, windows=min(_FEWEST, 1 + log.size // 4)
  )
  choose_key, key = jax.random.split(jax.random.PRNGKey(seed))
  ring = log_lib.to_buffer(log)
  chosen, mask = jax.jit(
    functools.partial(open_loop.choose, length=length, count=_WINDOWS)
  )(ring, choose_key)

  @jax.jit
  def found(model: Any, own: buffer_lib.Buffer, key: jax.Array) -> Any:
    stored = buffer_lib.mask(own)
    obs = normalizer.fit(own.data.obs, stored)
    reward = normalizer.fit(own.data.reward[:, None], stored)
    errors = open_loop.errors(
      dynamics,
      model,
      chosen,
      mask,
      obs,
      reward,
      key,
      change=env.change,
    )
    return errors, obs, reward

  errors, obs, reward = jax.tree.map(
    np.asarray, found(state.model, state.buffer, key)
  )
  columns, std = log.columns, obs.std
  if errors.stays.shape[-1] > len(columns):
    columns, std = (*columns, 'reward'), np.append(std, reward.std)
  return Diagnosis(
    source=source,
    columns=columns,
    spread=np.where(std > 0, std, 1.0),
    steady=std == 0,
    windows=int(mask.sum()),
    errors=errors,
  )


def _check_sizes(log: log_lib.Log, env: envs_base.Environment) -> None:
  for what, found, wanted in (
    ('observations', log.rows.obs.shape[1], env.observation_size),
    ('actions', log.rows.action.shape[1], env.action_size),
  ):
    if found != wanted:
      raise log_lib.LogError(
        f'{log.name}: {what} have {found} columns: must have {wanted}, as in'
        ' the run'
      )


def _of_buffer(ring: buffer_lib.Buffer) -> log_lib.Log:
  """Returns the data that the models were fitted to, the oldest row first."""
  size, position = int(ring.size), int(ring.position)
  order = (position + np.arange(size)) % size if size else np.arange(0)
  if size < ring.data.reward.shape[0]:
    order = np.arange(size)
  return _log(jax.tree.map(lambda x: np.asarray(x)[order], ring.data))


def _played(
  env: envs_base.Environment,
  config: Any,
  algorithm: base.Algorithm,
  state: Any,
  seed: int,
) -> log_lib.Log:
  """Returns new episodes of the policy."""

  @jax.jit
  def play(params: types.Params, key: jax.Array) -> types.Transition:
    trajectory, _ = real.rollout(
      env,
      algorithm.policy,
      params,
      key,
      num_envs=_EPISODES,
      horizon=config.collect.episode_length,
    )
    return real.to_transitions(trajectory, jnp.int32(0))[0]

  # A key that differs from the one that chooses the windows.
  key = jax.random.fold_in(jax.random.PRNGKey(seed), 0x706C6179)
  rows = play(algorithm.policy_params(state), key)
  return _log(jax.tree.map(np.asarray, rows))


def _log(rows: types.Transition) -> log_lib.Log:
  rows = rows._replace(extras=())
  bound = np.ones(rows.action.shape[1])
  columns = tuple(f'obs[{i}]' for i in range(rows.obs.shape[1]))
  return log_lib.Log('episodes', rows, columns, False, -bound, bound)
