"""One iteration on the host: phases, timing, evaluation, the best policy."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import backend
from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.algorithms import base as algorithms
from mbmpo_jax.envs import base
from mbmpo_jax.training import best as best_lib
from mbmpo_jax.training import devices
from mbmpo_jax.training import evaluate as evaluate_lib
from mbmpo_jax.training import footprint
from mbmpo_jax.training import memory
from mbmpo_jax.training import origin
from mbmpo_jax.training import ratios
from mbmpo_jax.training import stacked
from mbmpo_jax.training import timing
from mbmpo_jax.training.reporting import progress as progress_lib


class Saved(NamedTuple):
  """The content of a checkpoint.

  Attributes:
    state: the algorithm's complete state between two iterations.
    policy: the policy's parameters, so that they can be loaded without the
      state.
    best_policy: the parameters of the best policy so far (`best.py`).
    best_return: the mean return of that policy's further evaluations; -inf
      before the first.
    best_error: the standard error of that mean; infinite in runs started before
      it was saved.
    best_iteration: the iteration of the best policy; -1 before the first.
  """

  state: Any
  policy: types.Params
  best_policy: types.Params
  best_return: jax.Array
  # Older checkpoints lack these fields and use the defaults.
  best_error: Any = math.inf
  best_iteration: Any = -1


def start(
  algorithm: algorithms.Algorithm,
  key: jax.Array,
  hyper: algorithms.Hyper,
  sharding: jax.sharding.Sharding,
) -> Saved:
  """Returns the initial `Saved` with the given sharding; consumes `key`."""
  # One compiled program for all keys and calls.
  begin = jax.jit(_begin, static_argnums=(0, 1), out_shardings=sharding)
  return begin(algorithm.init, algorithm.policy_params, key, hyper)


def _begin(
  init: Callable[..., Any],
  policy_params: Callable[[Any], types.Params],
  key: jax.Array,
  hyper: algorithms.Hyper,
) -> Saved:
  # No weak types, and committed to devices, as a restored state. Otherwise the
  # second iteration and a resumed run would compile the programs again.
  state = jax.tree.map(
    lambda x: jax.lax.convert_element_type(x, x.dtype), init(key, hyper)
  )
  # Copies, because the buffers of the state are donated.
  policy, best = (
    jax.tree.map(jnp.copy, policy_params(state)) for _ in range(2)
  )
  return Saved(
    state,
    policy,
    best,
    jnp.asarray(-jnp.inf, float),
    jnp.asarray(jnp.inf, float),
    jnp.int32(-1),
  )


def _of_runs(
  begin: Callable[..., Saved], num_runs: int | None
) -> Callable[..., Saved]:
  """Returns `begin` with its results stacked for `num_runs` runs."""

  def stacked(*args: Any) -> Saved:
    return jax.tree.map(
      lambda x: jnp.broadcast_to(x, (num_runs, *x.shape)), begin(*args)
    )

  return stacked


class Placed(NamedTuple):
  """A phase as called by the host, and the sharding of its state."""

  function: Callable[[Any], tuple[Any, types.Metrics]]
  home: jax.sharding.Sharding
  repeats: int = 1


def phases(
  algorithm: algorithms.Algorithm,
  *,
  mesh: jax.sharding.Mesh | None = None,
  num_runs: int | None = None,
) -> dict[str, Placed]:
  """Returns the phases of an algorithm by name, in order.

  Args:
    algorithm: the algorithm of one run.
    mesh: as for `Iteration`.
    num_runs: as for `Iteration`.
  """
  if num_runs is not None:
    return {
      name: Placed(
        stacked.over_runs(phase.function, mesh),
        devices.by_run(mesh),
        phase.repeats,
      )
      for name, phase in algorithm.phases.items()
    }
  return {
    name: Placed(phase.function, devices.replicated(mesh), phase.repeats)
    if phase.alone is None
    else Placed(phase.alone, devices.replicated(None), phase.repeats)
    for name, phase in algorithm.phases.items()
  }


class Host(NamedTuple):
  """Functions that step an environment outside JAX.

  Attributes:
    phases: by the name of the phase that it replaces, a function `state ->
      (state, metrics)` that runs on the host.
    evaluate: `(params, key) -> metrics`, as `evaluate.make_evaluate` makes it.
  """

  phases: Mapping[str, Callable[[Any], tuple[Any, types.Metrics]]]
  evaluate: evaluate_lib.Evaluate


class Iteration:
  """All phases and the evaluation; each is compiled once and timed.

  An `Iteration` runs one run or several at once. With several runs, their
  `Saved` are stacked (`stacked.stack`) and every phase is one program for all.

  Attributes:
    metrics: the metrics of the phases, by name.
  """

  def __init__(
    self,
    env: base.Environment,
    config: config_lib.Experiment,
    algorithm: algorithms.Algorithm,
    progress: progress_lib.Progress,
    *,
    num_runs: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    debug_nans: bool = False,
    host: Host | None = None,
  ) -> None:
    """Compiles nothing yet.

    Args:
      env: the real environment, for the evaluation.
      config: the experiment.
      algorithm: the algorithm for this environment and configuration.
      progress: is notified of the current phase.
      num_runs: number of stacked runs; `None` is one run without that axis.
      mesh: for one run, the devices over which the algorithm was made and the
        evaluation's episodes are sharded; a phase with an `alone` function runs
        on one device. For several runs, the devices over which the runs are
        sharded.
      debug_nans: whether a non-finite number raises an error that names its
        line of code.
      host: for one run in an environment outside JAX, functions that replace
        phases and the evaluation.
    """
    self.metrics = algorithm.metrics
    self._notes = algorithm.notes if num_runs is None else None
    self._config = config
    self._run = config.run
    self._num_runs = num_runs
    self._progress = progress
    self._phases = phases(algorithm, mesh=mesh, num_runs=num_runs)
    of_one = num_runs is None
    self._home = devices.replicated(mesh) if of_one else devices.by_run(mesh)
    begin = functools.partial(_begin, algorithm.init, algorithm.policy_params)
    self._abstract = jax.eval_shape(
      begin if of_one else _of_runs(begin, num_runs),
      jax.random.PRNGKey(0),
      algorithms.hyper(config),
    )
    policy_params = algorithm.policy_params
    self._policy_params = jax.jit(
      policy_params if of_one else jax.vmap(policy_params)
    )
    play = (
      evaluate_lib.make_evaluate(
        env,
        algorithm.policy,
        num_episodes=config.run.eval_episodes,
        episode_length=config.collect.episode_length,
        mesh=mesh if of_one else None,
      )
      if host is None
      else host.evaluate
    )

    episodes = config.run.eval_episodes

    def evaluate(contest: best_lib.Contest, index: jax.Array) -> Any:
      if host is None:
        return best_lib.evaluate(play, contest, index, episodes)
      return best_lib.evaluate_on_host(play, contest, index, episodes)

    timed = origin.Checked if debug_nans else timing.Timed
    self._timed = {
      name: timed(
        phase.function,
        name=name,
        donate_argnums=(0,),
        compiler_options=backend.compiler_options(phase.home),
      )
      for name, phase in self._phases.items()
    }
    self._evaluate = timed(
      evaluate if of_one else stacked.over_runs(evaluate, mesh),
      name='evaluate',
      compiler_options=backend.compiler_options(self._home),
    )

    if host is not None:
      for name, function in host.phases.items():
        self._timed[name] = timing.OnHost(function, name=name)
      self._evaluate = timing.OnHost(evaluate, name='evaluate')

  def notes(self, saved: Saved) -> list[str]:
    """Returns messages about the data so far; none for several runs."""
    return [] if self._notes is None else self._notes(saved.state)

  def __call__(
    self, saved: Saved, index: int
  ) -> tuple[Saved, list[dict[str, float]]]:
    """Runs iteration `index`, counted from 0.

    Args:
      saved: donated; its buffers are reused.
      index: determines whether the policy is evaluated.

    Returns:
      The new `Saved`, and the metrics of each run. Evaluation metrics are NaN
      without an evaluation. Times and throughput are of all runs together.
    """
    compiled = self._compile_seconds()
    state, metrics, seconds = saved.state, {}, {}
    for name, phase in self._phases.items():
      state = jax.device_put(state, phase.home)
      seconds[name] = 0.0
      for _ in range(phase.repeats):
        state, values = self._call(self._timed[name], state)
        seconds[name] += self._timed[name].seconds
      metrics.update(values)
    state = jax.device_put(state, self._home)
    policy = jax.device_put(self._policy_params(state), self._home)
    saved = saved._replace(state=state, policy=policy)

    seconds['eval'] = 0.0
    if self._evaluates(index):
      contest = best_lib.Contest(state.counters.key, *saved[1:])
      best, values = self._call(self._evaluate, contest, np.int32(index))
      saved = saved._replace(**best._asdict())
      metrics.update(values)
      seconds['eval'] = self._evaluate.seconds

    metrics['env_steps'] = state.counters.env_steps
    metrics['eval/best_return'] = saved.best_return
    metrics['eval/best_error'] = saved.best_error
    metrics['eval/best_iteration'] = saved.best_iteration
    of_runs = self.split(jax.device_get(metrics))
    shared = {f'time/{name}_s': value for name, value in seconds.items()}
    shared['time/compile_s'] = self._compile_seconds() - compiled
    shared.update(_throughput(self.metrics, of_runs, seconds))
    return saved, [
      {
        **dict.fromkeys(evaluate_lib.METRICS, math.nan),
        **{name: float(value) for name, value in own.items()},
        **ratios.ratios(self.metrics, own),
        'env_steps': int(own['env_steps']),
        **shared,
      }
      for own in of_runs
    ]

  def footprints(self, only: str | None = None) -> dict[str, int]:
    """Returns the bytes that one device needs, before anything is compiled.

    Args:
      only: one part, `state` or a program's name; by default all.

    Returns:
      A dict with the bytes of `Saved` under `state`, and the additional bytes
      of each program under its name.
    """
    saved = self._abstract
    found = {memory.STATE: footprint.of_tree(saved)}
    for name, timed in self._timed.items():
      if only in (None, name):
        found[name] = timed.footprint(saved.state)
    if only in (None, self._evaluate.name):
      index = jax.ShapeDtypeStruct((), np.int32)
      contest = best_lib.Contest(saved.state.counters.key, *saved[1:])
      found[self._evaluate.name] = self._evaluate.footprint(contest, index)
    return found

  def compiles(self, index: int) -> bool:
    """Whether iteration `index` has to compile a program first."""
    programs = [*self._timed.values()]
    if self._evaluates(index):
      programs.append(self._evaluate)
    return not all(timed.compiled for timed in programs)

  def split(self, tree: Any) -> list[Any]:
    """Returns the pytree of each run; on the host if they are stacked."""
    if self._num_runs is None:
      return [tree]
    return stacked.split(tree, self._num_runs)

  def _call(self, timed: timing.Timed, *args: Any) -> Any:
    if not timed.compiled:
      self._progress.phase(timed.name, compiling=True)
      timed.compile(*args)
      memory.check_program(timed.name, timed.extra_bytes, self._config)
    self._progress.phase(timed.name)
    with jax.profiler.TraceAnnotation(timed.name):
      return timed(*args)

  def _evaluates(self, index: int) -> bool:
    is_last = index + 1 == self._run.num_iterations
    return is_last or index % self._run.eval_every == 0

  def _compile_seconds(self) -> float:
    programs = (*self._timed.values(), self._evaluate)
    return sum(timed.compile_seconds for timed in programs)


def _throughput(
  metrics: Mapping[str, algorithms.Metric],
  of_runs: list[dict[str, Any]],
  seconds: Mapping[str, float],
) -> dict[str, float]:
  """Returns counts of all runs per second of the phase that produces them."""
  return {
    f'throughput/{name}_per_s': sum(float(own[name]) for own in of_runs)
    / seconds[metric.per_second_of]
    for name, metric in metrics.items()
    if metric.per_second_of
  }
