"""One iteration as the host sees it: phases, times, evaluation, the best."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.envs import base
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training import evaluate as evaluate_lib
from mbmpo_jax.training import progress as progress_lib
from mbmpo_jax.training import timing

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

  def begin(key: jax.Array) -> Saved:
    # As a restored state is: no weak types, committed to devices. Otherwise the
    # second iteration, and a resumed run, would compile other programs.
    state = jax.tree.map(
      lambda x: jax.lax.convert_element_type(x, x.dtype), init(key)
    )
    return Saved(state, _copy(state.policy), jnp.float32(-jnp.inf))

  return jax.jit(begin, out_shardings=sharding)(key)


class Iteration:
  """Collect, fit, improve and evaluate, each compiled once and timed."""

  def __init__(
    self,
    env: base.Environment,
    config: config_lib.Config,
    algorithm: Any,
    progress: progress_lib.Progress,
    *,
    mesh: jax.sharding.Mesh | None = None,
  ) -> None:
    """Compiles nothing yet.

    Args:
      env: the real world, for the evaluation.
      config: the experiment.
      algorithm: has the three phases, `state -> (state, metrics)`.
      progress: is told which phase runs.
      mesh: devices that share the evaluation's episodes.
    """
    self._run = config.run
    self._imagined_steps = _imagined_steps(config)
    self._progress = progress
    self._timed = {
      name: timing.Timed(getattr(algorithm, name), donate_argnums=(0,))
      for name in PHASES
    }
    self._timed['evaluate'] = timing.Timed(
      evaluate_lib.make_evaluate(
        env,
        num_episodes=config.run.eval_episodes,
        episode_length=config.collect.episode_length,
        policy_apply=functools.partial(
          gaussian.apply, min_std=config.policy.min_std
        ),
        mesh=mesh,
      )
    )

  def __call__(
    self, saved: Saved, index: int
  ) -> tuple[Saved, dict[str, float]]:
    """Runs iteration `index`, counted from 0.

    Args:
      saved: given away: its buffers are reused.
      index: decides whether there is an evaluation.

    Returns:
      What to save, and the metrics; those of an evaluation are NaN where there
      is none.
    """
    compiled = self._compile_seconds()
    state, metrics, seconds = saved.state, {}, {}
    for name in PHASES:
      state, values = self._call(name, state)
      metrics.update(values)
      seconds[name] = self._timed[name].seconds
    saved = saved._replace(state=state)

    metrics |= dict.fromkeys(evaluate_lib.METRICS, jnp.nan)
    seconds['eval'] = 0.0
    is_last = index + 1 == self._run.num_iterations
    if is_last or index % self._run.eval_every == 0:
      key = jax.random.fold_in(state.key, _EVALUATION)
      values = self._call(
        'evaluate', state.policy, jax.random.fold_in(key, index)
      )
      metrics.update(values)
      seconds['eval'] = self._timed['evaluate'].seconds
      saved = _keep_best(saved, values['eval/return_mean'])

    row = {name: float(v) for name, v in jax.device_get(metrics).items()}
    row['env_steps'] = int(state.env_steps)
    row['eval/best_return'] = float(saved.best_return)
    for name, value in seconds.items():
      row[f'time/{name}_s'] = value
    row['time/compile_s'] = self._compile_seconds() - compiled
    row['throughput/imagined_steps_per_s'] = (
      self._imagined_steps / seconds['improve']
    )
    return saved, row

  def _call(self, name: str, *args: Any) -> Any:
    timed = self._timed[name]
    if not timed.compiled:
      self._progress.phase(name, compiling=True)
      timed.compile(*args)
    self._progress.phase(name)
    return timed(*args)

  def _compile_seconds(self) -> float:
    return sum(timed.compile_seconds for timed in self._timed.values())


def _keep_best(saved: Saved, mean_return: jax.Array) -> Saved:
  """Keeps the policy if it is the best so far; NaN never is."""
  if not mean_return > saved.best_return:
    return saved
  return saved._replace(
    best_policy=_copy(saved.state.policy), best_return=mean_return
  )


def _copy(policy: types.Params) -> types.Params:
  """A policy whose buffers do not go with the state's."""
  return jax.tree.map(jnp.copy, policy)


def _imagined_steps(config: config_lib.Config) -> int:
  """Model steps of `improve`: rollouts before and after each adaptation."""
  imagine = config.imagine
  tasks = config.model.num_models * imagine.tasks_per_model
  phase = tasks * imagine.rollouts_per_task * imagine.horizon
  return 2 * config.meta.num_meta_steps * phase
