"""One iteration as the host sees it: phases, times, evaluation, the best."""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training import devices
from mbmpo_jax.training import evaluate as evaluate_lib
from mbmpo_jax.training import origin
from mbmpo_jax.training import stacked
from mbmpo_jax.training import timing
from mbmpo_jax.training.reporting import progress as progress_lib

PHASES = ('collect', 'fit', 'improve')
# Keeps evaluation's keys apart from the state's own: `fold_in(key, i)` equals
# `split(key, n)[i]`.
_EVALUATION = 0x6576616C


class Saved(NamedTuple):
  """What a checkpoint holds.

  Attributes:
    state: the algorithm's whole state between two iterations.
    best_policy: the policy with the best evaluation so far.
    best_return: that evaluation's mean return; -inf before the first.
  """

  state: Any
  best_policy: types.Params
  best_return: jax.Array


def start(
  init: Callable[[jax.Array], Any],
  key: jax.Array,
  sharding: jax.sharding.Sharding,
) -> Saved:
  """What a run starts from, on the devices of `sharding`; consumes `key`."""
  # One program for all keys, whatever calls it how often.
  begin = jax.jit(_begin, static_argnums=0, out_shardings=sharding)
  return begin(init, key)


def _begin(init: Callable[[jax.Array], Any], key: jax.Array) -> Saved:
  # As a restored state is: no weak types, committed to devices. Otherwise the
  # second iteration, and a resumed run, would compile other programs.
  state = jax.tree.map(
    lambda x: jax.lax.convert_element_type(x, x.dtype), init(key)
  )
  return Saved(state, _copy(state.policy), jnp.asarray(-jnp.inf, float))


class Phase(NamedTuple):
  """A phase of an iteration, and how a state lies on the devices in it."""

  function: Callable[[Any], tuple[Any, types.Metrics]]
  home: jax.sharding.Sharding


def phases(
  algorithm: Any,
  *,
  mesh: jax.sharding.Mesh | None = None,
  num_runs: int | None = None,
) -> dict[str, Phase]:
  """The phases by name, in order.

  Args:
    algorithm: has the three, `state -> (state, metrics)`.
    mesh: as of `Iteration`.
    num_runs: likewise.
  """
  functions = {name: getattr(algorithm, name) for name in PHASES}
  if num_runs is None:
    return {
      name: Phase(function, devices.home(mesh, name))
      for name, function in functions.items()
    }
  return {
    name: Phase(stacked.over_runs(function, mesh), devices.by_run(mesh))
    for name, function in functions.items()
  }


class Iteration:
  """Collect, fit, improve and evaluate, each compiled once and timed.

  Of one run, or of several at once: what is saved of them is then stacked
  (`stacked.stack`), and every phase is one program for all.
  """

  def __init__(
    self,
    env: base.Environment,
    config: config_lib.Config,
    algorithm: Any,
    progress: progress_lib.Progress,
    *,
    num_runs: int | None = None,
    mesh: jax.sharding.Mesh | None = None,
    debug_nans: bool = False,
  ) -> None:
    """Compiles nothing yet.

    Args:
      env: the real world, for the evaluation.
      config: the experiment.
      algorithm: has the three phases, `state -> (state, metrics)`.
      progress: is told which phase runs.
      num_runs: how many are stacked; `None` is one run without that axis.
      mesh: of one run, devices that hold the state and share the evaluation's
        episodes, as the algorithm was made for; of `fit`, the one of
        `devices.fits_on_one`. Of several, devices that share the runs.
      debug_nans: whether numbers that are not finite are an error, which names
        the line that they come from.
    """
    self._run = config.run
    self._num_runs = num_runs
    collect = config.collect
    self._steps = {
      'real': collect.num_trajectories * collect.episode_length,
      'imagined': _imagined_steps(config),
    }
    self._progress = progress
    self._phases = phases(algorithm, mesh=mesh, num_runs=num_runs)
    of_one = num_runs is None
    play = evaluate_lib.make_evaluate(
      env,
      num_episodes=config.run.eval_episodes,
      episode_length=config.collect.episode_length,
      policy_apply=functools.partial(
        gaussian.apply, min_std=config.policy.min_std
      ),
      mesh=mesh if of_one else None,
    )

    def evaluate(saved: Saved, index: jax.Array) -> Any:
      return _evaluate(play, saved, index)

    timed = origin.Checked if debug_nans else timing.Timed
    self._timed = {
      name: timed(
        phase.function,
        donate_argnums=(0,),
        compiler_options=devices.compiler_options(phase.home),
      )
      for name, phase in self._phases.items()
    }
    home = devices.replicated(mesh) if of_one else devices.by_run(mesh)
    self._timed['evaluate'] = timed(
      evaluate if of_one else stacked.over_runs(evaluate, mesh),
      compiler_options=devices.compiler_options(home),
    )

  def __call__(
    self, saved: Saved, index: int
  ) -> tuple[Saved, list[dict[str, float]]]:
    """Runs iteration `index`, counted from 0.

    Args:
      saved: given away: its buffers are reused.
      index: decides whether there is an evaluation.

    Returns:
      What to save, and the metrics of each run; those of an evaluation are NaN
      where there is none. Times and throughput are of all runs together.
    """
    compiled = self._compile_seconds()
    state, metrics, seconds = saved.state, {}, {}
    for name, phase in self._phases.items():
      state = jax.device_put(state, phase.home)
      state, values = self._call(name, state)
      metrics.update(values)
      seconds[name] = self._timed[name].seconds
    saved = saved._replace(state=state)

    seconds['eval'] = 0.0
    if self._evaluates(index):
      policy, value, values = self._call('evaluate', saved, np.int32(index))
      saved = saved._replace(best_policy=policy, best_return=value)
      metrics.update(values)
      seconds['eval'] = self._timed['evaluate'].seconds

    metrics['env_steps'] = state.env_steps
    metrics['eval/best_return'] = saved.best_return
    shared = {f'time/{name}_s': value for name, value in seconds.items()}
    shared['time/compile_s'] = self._compile_seconds() - compiled
    for kind, name in (('real', 'collect'), ('imagined', 'improve')):
      steps = self._steps[kind] * (self._num_runs or 1)
      shared[f'throughput/{kind}_steps_per_s'] = steps / seconds[name]
    return saved, [
      {
        **dict.fromkeys(evaluate_lib.METRICS, math.nan),
        **{name: float(value) for name, value in own.items()},
        'env_steps': int(own['env_steps']),
        **shared,
      }
      for own in self.split(jax.device_get(metrics))
    ]

  def compiles(self, index: int) -> bool:
    """Whether iteration `index` has to compile something first."""
    names = [*PHASES, 'evaluate'] if self._evaluates(index) else PHASES
    return not all(self._timed[name].compiled for name in names)

  def split(self, tree: Any) -> list[Any]:
    """What belongs to each run of a tree, on the host if they are stacked."""
    if self._num_runs is None:
      return [tree]
    return stacked.split(tree, self._num_runs)

  def _call(self, name: str, *args: Any) -> Any:
    timed = self._timed[name]
    if not timed.compiled:
      self._progress.phase(name, compiling=True)
      timed.compile(*args)
    self._progress.phase(name)
    with jax.profiler.TraceAnnotation(name):
      return timed(*args)

  def _evaluates(self, index: int) -> bool:
    is_last = index + 1 == self._run.num_iterations
    return is_last or index % self._run.eval_every == 0

  def _compile_seconds(self) -> float:
    return sum(timed.compile_seconds for timed in self._timed.values())


def _evaluate(
  evaluate: evaluate_lib.Evaluate, saved: Saved, index: jax.Array
) -> tuple[types.Params, jax.Array, types.Metrics]:
  """The best policy and return once iteration `index` counts; its metrics."""
  key = jax.random.fold_in(saved.state.key, _EVALUATION)
  policy = saved.state.policy
  metrics = evaluate(policy, jax.random.fold_in(key, index))
  value = metrics['eval/return_mean'].astype(saved.best_return.dtype)
  better = value > saved.best_return  # NaN never is.
  best_policy, best_return = jax.tree.map(
    lambda new, old: jnp.where(better, new, old),
    (policy, value),
    (saved.best_policy, saved.best_return),
  )
  return best_policy, best_return, metrics


def _copy(policy: types.Params) -> types.Params:
  """A policy whose buffers do not go with the state's."""
  return jax.tree.map(jnp.copy, policy)


def _imagined_steps(config: config_lib.Config) -> int:
  """Model steps of `improve`: rollouts before and after each adaptation."""
  imagine = config.imagine
  tasks = config.model.num_models * imagine.tasks_per_model
  phase = tasks * imagine.rollouts_per_task * imagine.horizon
  return 2 * config.meta.num_meta_steps * phase
