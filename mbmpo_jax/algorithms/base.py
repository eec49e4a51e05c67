"""The interface of algorithms: pure functions of one state.

The host (`training/`) evaluates, saves, resumes, sweeps, draws and exports all
algorithms through the fields of `Algorithm`, without using their names. All
functions called by `update` can be jitted, vmapped over states, scanned and
sharded.
"""

import dataclasses
import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.policies import base as policies

# The numeric hyperparameters that a sweep may vary, by dotted field name.
Hyper: TypeAlias = dict[str, jax.Array]

# A metric that an algorithm may report: 1 if an iteration changed nothing
# because of numbers that are not finite. The host counts such iterations.
# Metrics named `nonfinite/...` count what was left out for this reason.
STUCK = 'nonfinite/stuck'

# Names of phases with the same meaning in all algorithms. `COLLECT` collects
# whole episodes of the real environment. `FIT` fits models to data and changes
# nothing else. `IMPROVE` improves a policy in models only. `LEARN` alternates
# real steps and updates.
COLLECT = 'collect'
FIT = 'fit'
IMPROVE = 'improve'
LEARN = 'learn'


class Counters(NamedTuple):
  """Counters that the states of all algorithms share."""

  key: jax.Array  # raw uint32 [2]
  iteration: jax.Array  # int32, iterations completed
  env_steps: jax.Array  # int32, real transitions collected
  episodes: jax.Array  # int32, real episodes started


class Metric(NamedTuple):
  """The description of a metric that a phase reports.

  Attributes:
    text: its meaning and unit.
    over_runs: the reduction over several runs, `mean` or `sum`.
    label: the name shown in the terminal; empty for most metrics.
    curve: the label in the learning curve, for returns.
    imagined: whether the number comes from a model. Its curve is then dashed
      and does not affect the range of the figure.
    panel: the label of the metric's own panel in comparisons of runs.
    log: whether that panel's axis is logarithmic.
    per_second_of: the phase whose duration divides the metric. The host then
      also reports `throughput/<name>_per_s`. For counts of steps.
    against: the metric of the real environment that this metric of a model
      predicts. The host then also reports their ratio as `<name>_ratio`, and
      warns once if it stays high (`training/ratios.py`, `promises.py`). For
      returns.
    advice: the warning's advice to the user.
  """

  text: str
  over_runs: str = 'mean'
  label: str = ''
  curve: str = ''
  imagined: bool = False
  panel: str = ''
  log: bool = False
  per_second_of: str = ''
  against: str = ''
  advice: str = ''


@dataclasses.dataclass(frozen=True)
class Phase:
  """A part of an iteration, `state -> (state, metrics)`.

  Attributes:
    function: pure; runs on all devices that the algorithm was made for.
    alone: the same function for a single device, if that is faster. The host
      then moves the state to one device. `update` uses `function`.
    repeats: number of calls of the function that make up the phase, so that a
      long phase consists of several short programs. The metrics are those of
      the last call; sums over the calls must be kept in the state.
  """

  function: Callable[[Any], tuple[Any, types.Metrics]]
  alone: Callable[[Any], tuple[Any, types.Metrics]] | None = None
  repeats: int = 1

  def __call__(self, state: Any) -> tuple[Any, types.Metrics]:
    """Calls `function` as often as `repeats`."""
    if self.repeats == 1:
      return self.function(state)
    # A scan traces the function once, including the last call.
    state, metrics = jax.lax.scan(
      lambda state, _: self.function(state), state, length=self.repeats
    )
    return state, jax.tree.map(lambda x: x[-1], metrics)


class Algorithm(NamedTuple):
  """An algorithm for one environment and one configuration.

  The state is the algorithm's own NamedTuple, with the fields `counters`
  (`Counters`) and `hyper` (`Hyper`). The last phase increments
  `counters.iteration`.

  Attributes:
    init: `(key, hyper) -> state` before any data; consumes the key. `hyper` is
      `base.hyper(config)`, possibly with other values.
    phases: by name, in order; `COLLECT` etc. have the meanings above.
    policy: the policy that acts.
    policy_params: state -> the parameters of `policy` that are evaluated, kept
      as the best ones, saved, drawn and exported.
    behaviour: `(state, key) -> params [N, ...]`, one set for each of the N
      environments that collect real data; `None` for other ways to collect.
    add: `(state, trajectory [T, N, ...]) -> state`, adds real data from
      outside; the counters include it.
    adapt: `(state, trajectory [T, N, ...], key) -> (params, context)`, the
      policy adapted to this data at test time; `None` if it does not adapt.
    metrics: the metrics that the phases report, by name.
    notes: state -> lines about its data, which the host prints once, after the
      first iteration; `None` for no notes.
  """

  init: Callable[[jax.Array, Hyper], Any]
  phases: Mapping[str, Phase]
  policy: policies.Policy
  policy_params: Callable[[Any], types.Params]
  behaviour: Callable[[Any, jax.Array], types.Params] | None
  add: Callable[[Any, types.Trajectory], Any]
  adapt: Callable[..., tuple[types.Params, Any]] | None
  metrics: Mapping[str, Metric]
  notes: Callable[[Any], list[str]] | None = None

  def update(self, state: Any) -> tuple[Any, types.Metrics]:
    """One iteration: runs all phases in order; pure."""
    metrics: types.Metrics = {}
    for phase in self.phases.values():
      state, values = phase(state)
      metrics.update(values)
    return state, metrics


def hyper(config: config_lib.Experiment) -> Hyper:
  """The numeric hyperparameters of a configuration, as arrays."""
  # With a dtype: a weakly typed array would cause a second trace.
  return {
    name: jnp.asarray(operator.attrgetter(name)(config), float)
    for name in config_lib.sweepable(type(config))
  }


def start_counters(key: jax.Array) -> Counters:
  """Counters of a new run; `key` is the state's random key from here on."""
  # Each leaf has its own buffer: XLA cannot donate one buffer twice.
  return Counters(key, *(jnp.zeros((), jnp.int32) for _ in range(3)))
