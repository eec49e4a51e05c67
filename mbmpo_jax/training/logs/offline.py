"""Learns from a log: fits models to it, and improves a policy in the models."""

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
from mbmpo_jax.training.logs import diagnosis_report
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
  """Learns a policy from a log only, or resumes learning.

  The log becomes the buffer, except for held-out episodes. The models are
  fitted once, and their open-loop error on the held-out episodes is reported.
  Then the policy is improved in the models, iteration by iteration, with the
  same folder, checkpoints and resumption as `loop.train`. There is no
  environment for evaluations, so evaluation returns, which determine the best
  policy, are imagined; their episodes start like those of the log.

  Args:
    data: a file that `logs.read` can read.
    task: reward and termination, as far as they are known. The models learn
      what is `PREDICTED`; if no episode of the log terminates, imagined
      episodes do not terminate.
    config: the experiment, of `mbmpo` or `me_trpo`; it is copied. `config.env`
      is ignored. The buffer is at least as large as the log.
    workdir: the run's folder; created if it does not exist.
    actions: bounds of the actions in the file, from `external.actions`; by
      default as in `check`.
    max_episode_steps: the environment's time limit; by default the longer of
      the longest episode and `config.collect.episode_length`.
    held_out: the smallest fraction of rows to hold out.
    progress: as for `loop.train`.
    stop: as for `loop.train`.

  Returns:
    The metrics of the last iteration, as for `loop.train`.

  Raises:
    LogError: if the log cannot be used; nothing has been written then.
    ConfigError: if the configuration is not allowed, if its algorithm does not
      improve a policy in fitted models, or if the folder's run was started with
      another log; and as for `loop.train`, whose other errors are raised too.
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
      diagnosis_report.report(found, root, progress.message)
    # A copy, because the state is donated.
    programs.imagined.model = jax.tree.map(jnp.copy, saved.state.model)
    progress.message(
      'returns of evaluations are imagined, as there is no environment'
    )
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
  loop.report(rows, run.folder, config.run, progress, done=done)
  return rows[-1] if rows else {}


class _Programs:
  """The programs of a run, each compiled once, and their memory.

  Attributes:
    algorithm: the complete algorithm.
    iteration: the iteration of its phase `improve` only.
    imagined: the evaluation in the current models.
  """

  def __init__(
    self,
    env: elsewhere.Elsewhere,
    config: config_lib.Experiment,
    *,
    progress: progress_lib.Progress,
  ) -> None:
    # It cannot be stepped for a check; the log's rows are compared instead.
    algorithm = algorithms.make(config.algorithm, env, config, check=False)
    if tuple(algorithm.phases) != _PHASES or not isinstance(
      getattr(config, 'model', None), config_lib.Ensemble
    ):
      raise config_lib.ConfigError(
        f'algorithm {config.algorithm!r}: must be one that improves a policy in'
        ' fitted models, such as mbmpo or me_trpo, to learn from a log'
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
    """As `Iteration.footprints`, plus the fit."""
    found = self.iteration.footprints(only)
    if only in (None, self._fit.name):
      found[self._fit.name] = self._fit.footprint(self._abstract)
    return found

  def fitted(self, state: Any, log: log_lib.Log) -> Any:
    """Returns the state with the log in its buffer and models fitted to it."""
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
  """Returns the algorithm with only its phase `improve` and its metrics."""
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
  """Returns the task, adjusted to what can be learned from this log."""
  log = checked.log
  if task.reward == elsewhere.PREDICTED and not checked.has_reward:
    raise log_lib.LogError(
      f'{log.name}: has no rewards: task.reward must be a function'
    )
  if task.done != elsewhere.PREDICTED or np.any(log.rows.terminated):
    return task
  if not checked.ends_known:
    progress.message(
      f'{log.name}: the rows that are kept contain no termination: imagined'
      ' episodes do not terminate; task.done can define terminations'
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
  """Makes the buffer at least as large as the log."""
  least = getattr(config.collect, 'steps', 1)
  config.collect.buffer_capacity = max(log.size, least)


def _rewarded(
  checked: check_lib.Checked, env: elsewhere.Elsewhere
) -> log_lib.Log:
  """Fills in the task's rewards if the file has none."""
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
  """Reports where the task's reward or termination differs from the log."""
  differing = jax.jit(functools.partial(contract.differing, env))
  found = differing(log.rows, np.ones_like(log.rows.reward))
  for name, what in ((contract.REWARD, 'reward'), (contract.DONE, 'done')):
    count = int(found.get(name, 0))
    if count:
      progress.message(
        f'{log.name}: task.{what} differs from the log in {count:,} of'
        f' {log.size:,} rows; imagination uses task.{what}'
      )
