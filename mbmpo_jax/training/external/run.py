"""Trains and evaluates in an environment outside JAX."""

import contextlib
import copy
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training import loop
from mbmpo_jax.training import memory
from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training import signals
from mbmpo_jax.training.external import gym
from mbmpo_jax.training.external import host as host_lib
from mbmpo_jax.training.external import robot as robot_lib
from mbmpo_jax.training.external import task as task_lib
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.launch import waits
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import saved_world

MakeEnv = Callable[[], Any] | robot_lib.Robot


def train(
  make_env: MakeEnv,
  task: task_lib.Task,
  config: config_lib.Experiment,
  workdir: str | pathlib.Path,
  *,
  max_episode_steps: int | None = None,
  progress: progress_lib.Progress | None = None,
  stop: signals.StopRequest | None = None,
) -> dict[str, float]:
  """Runs or resumes an experiment in an environment outside JAX.

  Folder, counters, checkpoints, learning curve and resumption are as for
  `loop.train`. Real steps, including those of evaluations, are taken by the
  environment; every phase but `collect` is the algorithm's. A killed run that
  is resumed is bitwise equal to an uninterrupted one if the environment is a
  deterministic function of seed and actions.

  Args:
    make_env: returns a new `gymnasium.Env` in each call; or a `Robot`.
    task: reward, termination and initial observations, as far as they are
      known. The models learn what is `PREDICTED` (`model.predict_reward`,
      `model.predict_done`).
    config: the experiment; it is copied. `config.env` is ignored.
    workdir: the run's folder; created if it does not exist.
    max_episode_steps: the time limit of a Gymnasium environment without one.
    progress: as for `loop.train`.
    stop: as for `loop.train`.

  Returns:
    The metrics of the last iteration, as for `loop.train`.

  Raises:
    WorldError: if the environment cannot be used; nothing has been written
      then.
    ConfigError: if the configuration is not allowed, or its algorithm cannot
      use data collected outside it; and as for `loop.train`, whose other errors
      are raised too.
  """
  cache.enable()
  config = copy.deepcopy(config)
  world = make_world(make_env, max_episode_steps=max_episode_steps)
  with contextlib.closing(world), memory.explained():
    fill_in(config, world.sizes, task)
    validation.validate(
      config, env_max_episode_steps=world.sizes.max_episode_steps
    )
    env = task_lib.environment(world.sizes, task)
    run = run_lib.Run(
      config, pathlib.Path(workdir), keep=config.run.keep_checkpoints
    )
    progress = progress or progress_lib.make()
    with waits.announced('tracing the programs'):
      iteration, algorithm = _build(world, env, config, progress)
    start = functools.partial(begin, algorithm, devices.replicated(None))
    with contextlib.closing(run):
      run.create()
      saved_world.write(run.folder.root, world.sizes._asdict())
      with waits.announced('preparing the state'):
        (saved,) = run_lib.restore([run], start, devices.replicated(None))
      done = loop.iterate(
        iteration,
        saved,
        [run],
        first=int(saved.state.counters.iteration),
        draw=functools.partial(run.draw, algorithm.metrics),
        progress=progress,
        stop=stop,
      )
  rows = run.rows()
  loop.report(rows, run.folder, config.run, progress, done=done)
  return rows[-1] if rows else {}


def evaluate(
  workdir: str | pathlib.Path,
  make_env: MakeEnv,
  *,
  episodes: int = 20,
  seed: int = 0,
  which: str = 'best',
  sample: bool = False,
  task: task_lib.Task | None = None,
) -> tuple[np.ndarray, np.ndarray]:
  """Runs episodes of a run's policy in the environment, each to its end.

  Args:
    workdir: the run's folder.
    make_env: as for `train`.
    episodes: number of episodes N, run in parallel.
    seed: seed of the initial states and of sampled actions.
    which: `best` or `latest`, as for `load_policy`.
    sample: whether actions are sampled, as in training and its evaluations.
    task: the task of the run, for a policy that plans with it.

  Returns:
    Returns and lengths of the episodes, both [N].
  """
  limit = saved_world.read(pathlib.Path(workdir))['max_episode_steps']
  world = make_world(make_env, max_episode_steps=limit)
  env = None if task is None else task_lib.environment(world.sizes, task)
  saved = saved_policy.load_policy(workdir, which, env)
  key = jax.random.PRNGKey(seed)
  with contextlib.closing(world):
    return world.play(
      task_lib.Behaviour(saved.policy, saved.params, key, greedy=not sample),
      num=episodes,
      horizon=world.sizes.max_episode_steps,
      seed=[seed],
    )


def make_world(
  make_env: MakeEnv, *, max_episode_steps: int | None = None
) -> task_lib.World:
  """Makes the environment's wrapper from the argument of `train`."""
  if isinstance(make_env, robot_lib.Robot):
    return robot_lib.Episodes(make_env)
  return gym.Gym(make_env, max_episode_steps=max_episode_steps)


def fill_in(
  config: config_lib.Experiment, sizes: task_lib.Sizes, task: task_lib.Task
) -> None:
  """Replaces fields of `config` by the environment's sizes, in place.

  Raises:
    ConfigError: if the algorithm's models cannot make the predictions that the
      task needs.
  """
  config.env = config_lib.Env(name=sizes.name)
  for part in ('reward', 'done'):
    if getattr(task, part) != elsewhere.PREDICTED:
      continue
    model = getattr(config, 'model', None)
    if not hasattr(model, f'predict_{part}'):
      raise config_lib.ConfigError(
        f'task.{part}={elsewhere.PREDICTED!r}: must be a function for algorithm'
        f' {config.algorithm!r}, whose models do not predict it'
      )
    setattr(model, f'predict_{part}', True)


def _build(
  world: task_lib.World,
  env: elsewhere.Elsewhere,
  config: config_lib.Experiment,
  progress: progress_lib.Progress,
) -> tuple[iteration_lib.Iteration, base.Algorithm]:
  """Returns an iteration that fits into memory, and its algorithm."""
  made: list[base.Algorithm] = []

  def build(config: config_lib.Experiment) -> iteration_lib.Iteration:
    # It cannot be stepped for a check; all its real steps are compared instead.
    algorithm = algorithms.make(config.algorithm, env, config, check=False)
    host_lib.check(algorithm, config)
    made.append(algorithm)
    host = host_lib.make(world, env, config, algorithm)
    return iteration_lib.Iteration(env, config, algorithm, progress, host=host)

  iteration = memory.check(config, build, copies=devices.copies(None))
  return iteration, made[0]


def begin(
  algorithm: base.Algorithm,
  sharding: jax.sharding.Sharding,
  config: config_lib.Experiment,
) -> iteration_lib.Saved:
  """Returns the initial state of a run, with the given sharding."""
  key = jax.random.PRNGKey(config.seed)
  return iteration_lib.start(algorithm, key, base.hyper(config), sharding)
