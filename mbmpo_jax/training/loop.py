"""A complete training run: iterations, metrics, checkpoints, resumption."""

import contextlib
import copy
import functools
import pathlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.training import branching
from mbmpo_jax.training import devices
from mbmpo_jax.training import iteration as iteration_lib
from mbmpo_jax.training import memory
from mbmpo_jax.training import promises
from mbmpo_jax.training import run as run_lib
from mbmpo_jax.training import signals
from mbmpo_jax.training import solved
from mbmpo_jax.training import soundness
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.launch import waits
from mbmpo_jax.training.reporting import metrics as metrics_lib
from mbmpo_jax.training.reporting import profiling
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import saved_world

_DRAW_EVERY_S = 30.0

# `(env, config) -> algorithm`, with a mesh `(env, config, mesh=mesh)`.
MakeAlgorithm = Callable[..., base.Algorithm]


def train(
  config: config_lib.Experiment,
  workdir: str | pathlib.Path,
  *,
  make_algorithm: MakeAlgorithm | None = None,
  policy: policies.Policy | None = None,
  mesh: jax.sharding.Mesh | None = None,
  progress: progress_lib.Progress | None = None,
  profile: bool = False,
  stop: signals.StopRequest | None = None,
  debug_nans: bool = False,
  branch: branching.Branch | None = None,
) -> dict[str, float]:
  """Runs an experiment, or resumes one that was interrupted.

  A folder with checkpoints is resumed from the newest one; the results are
  bitwise equal to those of an uninterrupted run. On SIGTERM or Ctrl-C, the
  current iteration is finished and saved, and the function returns. A second
  signal raises KeyboardInterrupt as soon as XLA has finished the current phase.
  This function does not end the process, unless `stop` was made with
  `exit_at_once`.

  Args:
    config: the experiment; it is copied.
    workdir: the run's folder; created if it does not exist.
    make_algorithm: `(env, config) -> algorithm`, also called with `mesh` if one
      is given; by default `algorithms.make` for `config.algorithm`.
    policy: a policy that replaces the configuration's; passed to
      `algorithms.make`, and needed again by `load_policy`.
    mesh: devices over which the work is sharded, from `devices.make_mesh`; by
      default one device. They may belong to several processes, each of which
      calls this function. The first process writes the folder, which all must
      be able to read.
    progress: displays the progress; by default a live display on a terminal and
      plain lines elsewhere, in the first process.
    profile: whether to write a profiler trace of one iteration into the folder.
      It is the first iteration that compiles nothing.
    stop: requests a stop, and records whether the run ended early because of
      it; by default SIGTERM and Ctrl-C request a stop during this call.
    debug_nans: whether a non-finite number raises an error that names its line
      of code, instead of being left out; on one device only.
    branch: the checkpoint of another run from which this one begins, from
      `branching.load`; ignored if the folder has checkpoints.

  Returns:
    The metrics of the last iteration, NaN for missing values; empty if a stop
    was requested before the first iteration ended.

  Raises:
    ConfigError: if the configuration is not allowed, if it differs from that of
      the run in the folder, or if another process is running in the folder.
      Nothing has been written in these cases.
    CheckpointError: if there are checkpoints but none can be read, or if one
      cannot be written.
    WriteError: if another file cannot be written, for example because the disk
      is full.
    NonFiniteError: if all updates were rejected in
      `run.max_rejected_iterations` consecutive iterations, or with
      `debug_nans`.
  """
  cache.enable()
  devices.check_debug_nans(mesh, debug_nans)
  if policy is not None:
    if make_algorithm is not None:
      raise config_lib.ConfigError(
        'policy: must be left out if make_algorithm is given'
      )
    make_algorithm = functools.partial(_with_policy, policy)
  config = copy.deepcopy(config)
  validation.validate(config)
  run = run_lib.Run(
    config, pathlib.Path(workdir), keep=config.run.keep_checkpoints
  )
  if progress is None:
    progress = (
      progress_lib.make()
      if devices.is_first_process()
      else progress_lib.Silent()
    )
  sharding = devices.replicated(mesh)
  made: list[base.Algorithm] = []

  def build(config: config_lib.Experiment) -> iteration_lib.Iteration:
    env = _make_env(config, mesh, run.folder.root)
    made.append(make(make_algorithm, env, config, mesh))
    return iteration_lib.Iteration(
      env, config, made[-1], progress, mesh=mesh, debug_nans=debug_nans
    )

  with waits.announced('tracing the programs'):
    iteration = memory.check(config, build, copies=devices.copies(mesh))
  algorithm = made[0]

  def start(config: config_lib.Experiment) -> iteration_lib.Saved:
    key = jax.random.PRNGKey(config.seed)
    saved = iteration_lib.start(algorithm, key, base.hyper(config), sharding)
    if branch is None:
      return saved
    return branching.begin(branch, saved, config, sharding)

  with contextlib.closing(run), memory.explained():
    if branch is not None:  # Before anything is written.
      jax.eval_shape(lambda: start(config))
    run.create()
    with waits.announced('preparing the state'):
      (saved,) = run_lib.restore([run], start, sharding)
    if branch is not None and not run.folder.has_checkpoints():
      if devices.is_first_process():
        branching.write(branch, run.folder)
      progress.message(
        f'begins after iteration {branch.iteration} of {branch.source}'
      )
    done = iterate(
      iteration,
      saved,
      [run],
      first=int(saved.state.counters.iteration),
      draw=functools.partial(run.draw, algorithm.metrics),
      progress=progress,
      trace=run.folder.profile if profile else None,
      stop=stop,
    )

  rows = run.rows()
  if config.run.render and (
    done == config.run.num_iterations
    or solved.is_solved(rows, config.run.solved_at)
  ):
    progress.message('playing the best policy')
    run.render(policy)
  report(rows, run.folder, config.run, progress, done=done)
  return rows[-1] if rows else {}


def make(
  make_algorithm: MakeAlgorithm | None,
  env: envs.Environment,
  config: config_lib.Experiment,
  mesh: jax.sharding.Mesh | None = None,
) -> base.Algorithm:
  """Makes the algorithm with `make_algorithm`, or by its name in `config`."""
  options = {} if mesh is None else {'mesh': mesh}
  if make_algorithm is None:
    return algorithms.make(config.algorithm, env, config, **options)
  return make_algorithm(env, config, **options)


def _with_policy(
  policy: policies.Policy,
  env: envs.Environment,
  config: config_lib.Experiment,
  **options: Any,
) -> base.Algorithm:
  return algorithms.make(
    config.algorithm, env, config, policy=policy, **options
  )


def _make_env(
  config: config_lib.Experiment,
  mesh: jax.sharding.Mesh | None,
  root: pathlib.Path,
) -> envs.Environment:
  env = saved_world.registered(root, config, config.collect.episode_length)
  if config.env.physics == 'mjx':
    return env
  if mesh is not None:
    raise config_lib.ConfigError(
      f"env.physics={config.env.physics!r}: must be 'mjx' on more than one"
      ' device'
    )
  most = max(config.collect.num_envs, config.run.eval_episodes)
  return envs.on_warp(env, num_envs=most)


def iterate(
  iteration: iteration_lib.Iteration,
  saved: iteration_lib.Saved,
  runs: Sequence[run_lib.Run],
  *,
  first: int,
  draw: Callable[[], None],
  progress: progress_lib.Progress,
  trace: pathlib.Path | None = None,
  stop: signals.StopRequest | None = None,
) -> int:
  """Runs the remaining iterations and writes their results.

  If a stop is requested, or the runs are solved (`solved.py`), the current
  iteration is finished and saved.

  Args:
    iteration: the iteration of one run, or of several stacked runs.
    saved: the state to start from; donated.
    runs: in the order in which they are stacked.
    first: number of iterations already done.
    draw: draws the curves; called at intervals and at the end.
    progress: is notified of the iterations and of the metrics averaged or
      summed over runs.
    trace: a folder for the trace of one iteration.
    stop: requests a stop; by default signals do.

  Returns:
    The number of iterations done.
  """
  config = runs[0].config.run
  total, done = config.num_iterations, first
  with contextlib.ExitStack() as stack:
    for run in runs:
      run.open(first)
    if stop is None:
      stop = stack.enter_context(signals.StopRequest())
    stack.callback(progress.close)
    progress.start(total=total, done=first, metrics=iteration.metrics)
    profiler = stack.enter_context(profiling.Profiler(trace, progress))
    watch = soundness.Watch(runs, iteration.metrics, first)
    kept = promises.Watch(runs, iteration.metrics, first)
    reached = solved.Watch(runs, config.solved_at, first)
    drawn = time.monotonic()
    stopping = devices.any_process(stop.requested is not None)
    # All processes must agree, and only the first one writes the metrics.
    is_solved = devices.any_process(reached.solved)
    for index in range(first, total):
      if is_solved:
        break
      if stopping:
        stop.obeyed = True
        break
      with profiler.iteration(index, compiles=iteration.compiles(index)):
        saved, rows = iteration(saved, index)
      done = index + 1
      for run, row in zip(runs, rows, strict=True):
        run.write(index, row)
      watch.check(index, rows)
      kept.check(index, rows)
      reached.add(rows)
      if index == first:
        for line in iteration.notes(saved):
          progress.message(line)
      stopping = devices.any_process(stop.requested is not None)
      is_solved = devices.any_process(reached.solved)
      is_last = index + 1 == total or stopping or is_solved
      for run in runs:
        run.checkpoints.check()
      if is_last or (index + 1) % config.checkpoint_every == 0:
        # Wait, so that no run is two checkpoints ahead of another.
        for run in runs:
          run.checkpoints.wait()
        for run, own in zip(runs, iteration.split(saved), strict=True):
          run.checkpoints.save(index + 1, own)
      progress.iteration(index, metrics_lib.over_runs(rows, iteration.metrics))
      if is_last or time.monotonic() - drawn > _DRAW_EVERY_S:
        draw()
        drawn = time.monotonic()
  return done


def report(
  rows: Sequence[Mapping[str, float]],
  folder: folder_lib.RunFolder,
  section: config_lib.Run,
  progress: progress_lib.Progress,
  *,
  done: int | None = None,
) -> None:
  """Reports the progress of the run, its results and the paths of its files.

  Args:
    rows: the metrics of the run, of which some may have been lost.
    folder: the run's folder.
    section: gives the number of iterations, and the return at which the run is
      solved.
    progress: receives the messages.
    done: iterations done according to the state; by default the number of rows.
  """
  done = len(rows) if done is None else done
  total = section.num_iterations
  if done < total and solved.is_solved(rows, section.solved_at):
    progress.message(solved.MESSAGE)
    total = done
  text = progress_lib.outcome(rows, total, done=done)
  progress.message(f'{text}; everything is in {folder.root}')
  if done < total:
    progress.message('the same command again continues')
  for path in (
    folder.curve,
    folder.metrics,
    folder.tensorboard,
    folder.page,
    folder.video,
  ):
    if path.exists():
      progress.message(f'  {path}')
  progress.message(f'  {folder.checkpoints} (newest, and the best policy)')
