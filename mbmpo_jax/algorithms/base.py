"""What an algorithm is: pure functions over one state.

The host (`training/`) evaluates, saves, resumes, sweeps, draws and exports any
algorithm through the fields of `Algorithm`, and knows none by name. Everything
reachable from `update` can be jitted, vmapped over states, scanned and sharded.
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

# A metric that an algorithm may report: 1 where an iteration taught nothing
# because of numbers that are not finite. The host counts such iterations.
# Metrics named `nonfinite/...` count what was left out for that reason.
STUCK = 'nonfinite/stuck'

# Names of phases that mean the same wherever they occur: whole episodes of the
# real world become data; models are fitted to data, and nothing else changes; a
# policy is improved in models alone; real steps and updates take turns.
COLLECT = 'collect'
FIT = 'fit'
IMPROVE = 'improve'
LEARN = 'learn'


class Counters(NamedTuple):
  """What the states of all algorithms share."""

  key: jax.Array  # raw uint32 [2]
  iteration: jax.Array  # int32, iterations completed
  env_steps: jax.Array  # int32, real transitions collected
  episodes: jax.Array  # int32, real episodes begun


class Metric(NamedTuple):
  """What a number that a phase reports says.

  Attributes:
    text: its meaning, and its unit.
    over_runs: how that of several runs is reduced to one number, `mean` or
      `sum`.
    label: under which the terminal shows it; nothing for most.
    curve: a label, for returns that belong into the learning curve.
    imagined: whether a model made the number up; the curve is then dashed, and
      what it shows does not set the range of the picture.
    panel: a label, for what a comparison of runs draws in a panel of its own.
    log: whether that panel's axis is logarithmic.
    per_second_of: the phase whose seconds divide it: the host then reports
      `throughput/<name>_per_s` besides. For counts of steps.
    against: the metric of the real world that this one of a model foretells:
      the host then reports their ratio as `<name>_ratio` besides, and warns
      once where it stays high (`training/promises.py`). For returns.
    advice: what the warning tells a user to do.
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
    function: on all devices that the algorithm was made for; pure.
    alone: the same on one of them, where that is faster; the host then moves
      the state there. `update` uses `function`.
    repeats: calls of the function that make the phase, so that a long one is
      several short programs. The metrics are those of the last call: sums over
      all of them are kept in the state.
  """

  function: Callable[[Any], tuple[Any, types.Metrics]]
  alone: Callable[[Any], tuple[Any, types.Metrics]] | None = None
  repeats: int = 1

  def __call__(self, state: Any) -> tuple[Any, types.Metrics]:
    """All calls of `function`."""
    if self.repeats == 1:
      return self.function(state)
    # The function once, not a second time for the last call's metrics.
    state, metrics = jax.lax.scan(
      lambda state, _: self.function(state), state, length=self.repeats
    )
    return state, jax.tree.map(lambda x: x[-1], metrics)


class Algorithm(NamedTuple):
  """An algorithm for one environment and one configuration.

  Its state is a NamedTuple of its own with the fields `counters` (`Counters`)
  and `hyper` (`Hyper`). The last phase increments `counters.iteration`.

  Attributes:
    init: `(key, hyper) -> state` before any data; consumes the key. The hyper
      is `base.hyper(config)`, or that with other values.
    phases: in order, by name; what `COLLECT` and the others mean is above.
    policy: how it acts.
    policy_params: state -> what `policy` takes: this is evaluated, kept as
      best, saved, drawn and exported.
    behaviour: `(state, key) -> params [N, ...]`, one for each of the N
      environments that collect real data; `None` where it does not collect so.
    add: `(state, trajectory [T, N, ...]) -> state`, with real data from
      outside; the counters count it.
    adapt: `(state, trajectory [T, N, ...], key) -> (params, context)`, the
      policy adapted to this data at test time; `None` where there is no such.
    metrics: what the phases report, by name.
    notes: state -> lines about its data, which the host says once, after the
      first iteration; `None` where there are none.
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
    """One whole iteration: all phases in order; pure."""
    metrics: types.Metrics = {}
    for phase in self.phases.values():
      state, values = phase(state)
      metrics.update(values)
    return state, metrics


def hyper(config: config_lib.Experiment) -> Hyper:
  """The numeric hyperparameters of a configuration, as arrays."""
  # A dtype, so that none is weakly typed: a second call would retrace.
  return {
    name: jnp.asarray(operator.attrgetter(name)(config), float)
    for name in config_lib.sweepable(type(config))
  }


def start_counters(key: jax.Array) -> Counters:
  """Nothing has been done yet; the state's own `key` from here on."""
  # No two leaves share memory: XLA refuses to be donated it twice.
  return Counters(key, *(jnp.zeros((), jnp.int32) for _ in range(3)))
