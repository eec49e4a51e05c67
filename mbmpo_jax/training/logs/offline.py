"""Learns from a log: models of it, and a policy in these; no world is moved."""

import contextlib
import copy
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import contract
from mbmpo_jax.envs import elsewhere
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training import loop
from mbmpo_jax.training import memory
from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training import signals
from mbmpo_jax.training import timing
from mbmpo_jax.training.external import actions as actions_lib
from mbmpo_jax.training.external import run as external_run
from mbmpo_jax.training.external import task as task_lib
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.launch import waits
from mbmpo_jax.training.logs import checks as check_lib
from mbmpo_jax.training.logs import diagnosis
from mbmpo_jax.training.logs import files as files_lib
from mbmpo_jax.training.logs import imagined
from mbmpo_jax.training.logs import log as log_lib
from mbmpo_jax.training.logs import picture
from mbmpo_jax.training.logs import remembered
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import saved_world

_PHASES = (base.COLLECT, base.FIT, base.IMPROVE)


def train(
  data: str | pathlib.Path,
  task: task_lib.Task,
  config: config_lib.Experiment,
  workdir: str | pathlib.Path,
  *,
  actions: actions_lib.Actions | None = None,
  max_episode_steps: int | None = None,
  held_out: float = 0.1,
  progress: progress_lib.Progress | None = None,
  stop: signals.StopRequest | None = None,
) -> dict[str, float]:
  """Learns a policy from a log alone, or goes on learning.

  The log becomes the buffer, but for episodes that are held out; models are
  fitted once, their open-loop error on these is reported; then the policy is
  improved in the models, iteration by iteration, as `loop.train` does: the
  same folder, checkpoints, and the same call again continues. There is no world
  to evaluate in: returns of evaluations, which choose the best policy, are
  imagined, on episodes that start as the log's do.

  Args:
    data: a file that `logs.read` takes.
    task: what is known of reward and termination. What is `PREDICTED` the
      models learn; where no episode of the log terminates, nothing does.
    config: the experiment, of `mbmpo` or `me_trpo`; copied. `config.env` is not
      read, the buffer is as large as the log, at least.
    workdir: the run's folder, created where missing.
    actions: bounds of the actions in the file, from `external.actions`; by
      default as `check` has it.
    max_episode_steps: the time limit of what moved; by default the longest
      episode, or `config.collect.episode_length` if that is more.
    held_out: the share of the rows, at least, that nothing is learned from.
    progress: as of `loop.train`.
    stop: as of `loop.train`.

  Returns:
    The metrics of the last iteration, as `loop.train`.

  Raises:
    LogError: if the log cannot be used; nothing has been written then.
    ConfigError: if the configuration is not allowed, its algorithm does not
      improve a policy in fitted models, or the folder's run was started with
      another log; and as `loop.train`, whose other errors are raised, too.
  """
  cache.enable()
  config = copy.deepcopy(config)
  progress = progress or progress_lib.make()
  with waits.announced(f'reading {data}'):
    checked = check_lib.check(files_lib.read(data), actions)
  task = _known(checked, task, progress)
  for line in checked.findings:
    progress.message(line)
  sizes = _sizes(checked.log, config, max_episode_steps)
  env = task_lib.environment(sizes, task)
  log = _rewarded(checked, env)
  log, apart = log_lib.hold_out(log, fraction=held_out, seed=config.seed)
  progress.message(
    f'{log.size:,} rows of {log.num_episodes} episodes to learn from, and'
    f' {apart.size:,} of {apart.num_episodes} held out'
  )
  external_run.fill_in(config, sizes, task)
  _fit_in(config, log)
  validation.validate(config, env_max_episode_steps=sizes.max_episode_steps)
  _compare(env, log, progress)

  run = run_lib.Run(
    config, pathlib.Path(workdir), keep=config.run.keep_checkpoints
  )
  root = run.folder.root
  if run.folder.has_checkpoints():
    remembered.check(root, log)
  with memory.explained(), waits.announced('tracing the programs'):
    programs = memory.check(
      config,
      functools.partial(_Programs, env, progress=progress),
      copies=devices.copies(None),
    )
  algorithm = programs.algorithm
  sharding = devices.replicated(None)
  start = functools.partial(external_run.begin, algorithm, sharding)
  with contextlib.closing(run), memory.explained():
    run.create()
    saved_world.write(root, sizes._asdict())
    remembered.write(root, log, apart, checked.findings)
    with waits.announced('preparing the state'):
      (saved,) = run_lib.restore([run], start, sharding)
    if not int(saved.state.counters.env_steps):
      state = jax.device_put(programs.fitted(saved.state, log), sharding)
      saved = saved._replace(state=state)
      found = diagnosis.of_state(
        env, algorithm, config, state, apart, source='held-out rows of the log'
      )
      diagnosis.report(found, root, progress.message)
    # A copy: the state is given away.
    programs.imagined.model = jax.tree.map(jnp.copy, saved.state.model)
    progress.message('returns of evaluations are imagined: no world is stepped')
    done = loop.iterate(
      programs.iteration,
      saved,
      [run],
      first=int(saved.state.counters.iteration),
      draw=functools.partial(picture.learning_curve, run, log.name),
      progress=progress,
      stop=stop,
    )
  rows = run.rows()
  loop.report(rows, run.folder, config.run.num_iterations, progress, done=done)
  return rows[-1] if rows else {}


class _Programs:
  """What runs, compiled once each; knows the memory that it takes.

  Attributes:
    algorithm: of the whole configuration.
    iteration: that of its phase `improve` alone.
    imagined: the evaluation, in the models that it is given.
  """

  def __init__(
    self,
    env: elsewhere.Elsewhere,
    config: config_lib.Experiment,
    *,
    progress: progress_lib.Progress,
  ) -> None:
    # It cannot be stepped for a proof; the log's rows are compared.
    algorithm = algorithms.make(config.algorithm, env, config, check=False)
    if tuple(algorithm.phases) != _PHASES or not isinstance(
      getattr(config, 'model', None), config_lib.Ensemble
    ):
      raise config_lib.ConfigError(
        f'algorithm {config.algorithm!r}: must be one that improves a policy in'
        ' models once these are fitted, mbmpo or me_trpo, for a log'
      )
    self._progress = progress
    self.algorithm = algorithm
    self._fit = timing.Timed(
      algorithm.phases[base.FIT].function, name=base.FIT, donate_argnums=(0,)
    )
    self._abstract = jax.eval_shape(
      algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
    )
    self.imagined = imagined.Evaluation(env, algorithm, config)
    self.iteration = iteration_lib.Iteration(
      env,
      config,
      _improving(algorithm, self._abstract),
      progress,
      host=iteration_lib.Host({}, self.imagined),
    )

  def footprints(self, only: str | None = None) -> dict[str, int]:
    """As `Iteration.footprints`, and the fit's."""
    found = self.iteration.footprints(only)
    if only in (None, self._fit.name):
      found[self._fit.name] = self._fit.footprint(self._abstract)
    return found

  def fitted(self, state: Any, log: log_lib.Log) -> Any:
    """The state with the log in its buffer, and models of it."""
    ring = log_lib.fill(state.buffer, log)
    counters = state.counters._replace(
      env_steps=np.int32(log.size), episodes=np.int32(log.num_episodes)
    )
    state = jax.device_put(state._replace(buffer=ring, counters=counters))
    self._progress.message('compiling fit')
    self._fit.compile(state)
    self._progress.message('fitting the models')
    state, metrics = self._fit(state)
    loss, epochs = (
      float(metrics[f'model/{x}']) for x in ('val_loss', 'epochs')
    )
    self._progress.message(
      f'fitted in {self._fit.seconds:.3g} s: {epochs:.3g} epochs, validation'
      f' loss {loss:.3g}'
    )
    return state


def _improving(algorithm: base.Algorithm, state: Any) -> base.Algorithm:
  """Its phase `improve` alone, and what that reports."""
  phase = algorithm.phases[base.IMPROVE]
  reported = jax.eval_shape(phase.function, state)[1]
  kept = {'env_steps', *reported}
  return algorithm._replace(
    phases={base.IMPROVE: phase},
    metrics={n: m for n, m in algorithm.metrics.items() if n in kept},
    notes=None,
  )


def _known(
  checked: check_lib.Checked,
  task: task_lib.Task,
  progress: progress_lib.Progress,
) -> task_lib.Task:
  """The task, with what can be learned from this log alone."""
  log = checked.log
  if task.reward == elsewhere.PREDICTED and not checked.has_reward:
    raise log_lib.LogError(
      f'{log.name}: has no rewards: task.reward must be a function'
    )
  if task.done != elsewhere.PREDICTED or np.any(log.rows.terminated):
    return task
  if not checked.ends_known:
    progress.message(
      f'{log.name}: no termination is among the rows that are left: nothing is'
      ' taken to end an episode; task.done can say what does'
    )
  return task._replace(done=None)


def _sizes(
  log: log_lib.Log, config: config_lib.Experiment, limit: int | None
) -> task_lib.Sizes:
  longest = int(log.rows.time.max()) + 1
  return task_lib.Sizes(
    name=pathlib.Path(log.name).stem,
    observation_size=log.rows.obs.shape[1],
    action_size=log.rows.action.shape[1],
    discrete=log.discrete,
    max_episode_steps=limit or max(longest, config.collect.episode_length),
  )


def _fit_in(config: Any, log: log_lib.Log) -> None:
  """A buffer for all of the log."""
  least = getattr(config.collect, 'steps', 1)
  config.collect.buffer_capacity = max(log.size, least)


def _rewarded(
  checked: check_lib.Checked, env: elsewhere.Elsewhere
) -> log_lib.Log:
  """Rewards as the task has them, where the file has none."""
  log = checked.log
  if checked.has_reward:
    return log
  rows: Any = log.rows
  paid: Callable[..., jax.Array] = jax.jit(env.reward)
  reward = np.asarray(paid(rows.obs, rows.action, rows.next_obs))
  return log._replace(rows=rows._replace(reward=reward))


def _compare(
  env: elsewhere.Elsewhere, log: log_lib.Log, progress: progress_lib.Progress
) -> None:
  """Says where the task pays or ends what the log does not."""
  differing = jax.jit(functools.partial(contract.differing, env))
  found = differing(log.rows, np.ones_like(log.rows.reward))
  for name, what in ((contract.REWARD, 'reward'), (contract.DONE, 'done')):
    count = int(found.get(name, 0))
    if count:
      progress.message(
        f'{log.name}: task.{what} says otherwise than the log in'
        f' {count:,} of {log.size:,} rows; imagination goes by the task'
      )
