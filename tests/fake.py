"""An algorithm that compiles in no time, and what may befall its run."""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training.reporting import progress as progress_lib

# None is a phase of a real algorithm: the host knows no names.
PHASES = ('gather', 'think', 'learn')

METRICS = {
  'gathered_steps': base.Metric('transitions', per_second_of='gather'),
  'gathered/return': base.Metric(
    'return, noise', label='gathered', curve='as gathered'
  ),
  'thought/loss': base.Metric('nothing, NaN', panel='error', log=True),
  'learned/return': base.Metric(
    'return, more noise', label='learned', curve='as learned', imagined=True
  ),
}


class State(NamedTuple):
  """As little as the host needs, and noise that depends on the key."""

  counters: base.Counters
  hyper: base.Hyper
  weights: types.Params
  scale: jax.Array


def make(
  env: envs.Environment,
  config: config_lib.Experiment,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Walks at random, with MB-MPO's configuration and policy.

  So that what belongs to a configuration's algorithm, as loading a policy does,
  works on what it leaves.
  """
  del mesh, check
  policy = gaussian.make(env.observation_size, env.action_size, config.policy)

  def init(key: jax.Array, hyper: base.Hyper) -> State:
    # Weakly typed, as what a careless author starts from.
    scale = jnp.full((), 1.0)
    key, policy_key = jax.random.split(key)
    return State(
      base.start_counters(key), hyper, policy.init(policy_key), scale
    )

  def draw(state: State, **counts: jax.Array) -> tuple[State, jax.Array]:
    key, noise_key = jax.random.split(state.counters.key)
    counters = state.counters._replace(key=key, **counts)
    return state._replace(counters=counters), jax.random.normal(noise_key)

  def gather(state: State) -> tuple[State, types.Metrics]:
    state, noise = draw(state, env_steps=state.counters.env_steps + 10)
    factor = sum(state.hyper.values())
    return state, {
      'gathered_steps': jnp.int32(10),
      'gathered/return': noise * factor,
    }

  def think(state: State) -> tuple[State, types.Metrics]:
    return state, {'thought/loss': jnp.nan * state.counters.iteration}

  def learn(state: State) -> tuple[State, types.Metrics]:
    state, noise = draw(state, iteration=state.counters.iteration + 1)
    state = state._replace(
      weights=jax.tree.map(lambda x: x + 0.1 * noise, state.weights),
      scale=state.scale * jnp.float32(1),
    )
    return state, {'learned/return': noise}

  return base.Algorithm(
    init=init,
    phases={
      name: base.Phase(function)
      for name, function in zip(PHASES, (gather, think, learn), strict=True)
    },
    policy=policy,
    policy_params=lambda state: state.weights,
    behaviour=None,
    add=lambda state, trajectory: state,
    adapt=None,
    metrics=METRICS,
  )


def with_phase(
  algorithm: base.Algorithm,
  name: str,
  function: Callable[[Any], tuple[Any, types.Metrics]],
  metrics: Mapping[str, base.Metric] | None = None,
) -> base.Algorithm:
  """The algorithm with another phase of this name, and what else it reports."""
  return algorithm._replace(
    phases={**algorithm.phases, name: base.Phase(function)},
    metrics={**algorithm.metrics, **(metrics or {})},
  )


class Interrupt(progress_lib.Silent):
  """Does something when a phase of an iteration begins.

  Iterations are counted from 0 by each process that goes on with a run.
  """

  def __init__(self, at: int, phase: str, action) -> None:
    self._at, self._phase, self._action = at, phase, action
    self._iteration = 0
    self.done = -1

  def start(
    self, *, total: int, done: int, metrics: Mapping[str, base.Metric]
  ) -> None:
    self.done = done

  def phase(self, name: str, *, compiling: bool = False) -> None:
    if name == self._phase and self._iteration == self._at and not compiling:
      self._action()

  def iteration(self, index: int, metrics: Mapping[str, float]) -> None:
    self._iteration += 1


def crash() -> None:
  raise RuntimeError('power failure')


def sigterm() -> None:
  os.kill(os.getpid(), signal.SIGTERM)


def tree(value: float) -> dict[str, jax.Array]:
  """What a checkpoint may hold."""
  return {'x': jnp.full((30, 20), value), 'n': jnp.int32(value)}


def abstract() -> dict[str, jax.ShapeDtypeStruct]:
  """What `tree` is read into."""
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  return jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree(0)
  )
