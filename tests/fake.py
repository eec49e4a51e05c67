"""An algorithm that compiles in no time, and what may befall its run."""

import os
import signal
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training.reporting import progress as progress_lib


class FakeState(NamedTuple):
  """As little as the loop needs, and noise that depends on the key."""

  key: jax.Array
  iteration: jax.Array
  env_steps: jax.Array
  hyper: state_lib.Hyper
  policy: types.Params
  scale: jax.Array


class FakeAlgorithm(NamedTuple):
  """Walks at random; compiles in no time."""

  init: object
  collect: object
  fit: object
  improve: object


def make(env: envs.Environment, config: config_lib.Config) -> FakeAlgorithm:
  def init(key):
    policy = gaussian.init(
      key, env.observation_size, env.action_size, hidden_sizes=(4,)
    )
    # Weakly typed, as what a careless author starts from.
    scale = jnp.full((), 1.0)
    hyper = state_lib.hyper(config)
    return FakeState(key, jnp.int32(0), jnp.int32(0), hyper, policy, scale)

  def collect(state):
    key, noise_key = jax.random.split(state.key)
    noise = jax.random.normal(noise_key)
    state = state._replace(key=key, env_steps=state.env_steps + 10)
    return state, {'real/return': noise * state.hyper.inner_lr}

  def fit(state):
    return state, {'model/val_loss': jnp.nan * state.iteration}

  def improve(state):
    key, noise_key = jax.random.split(state.key)
    noise = jax.random.normal(noise_key)
    policy = jax.tree.map(lambda x: x + 0.1 * noise, state.policy)
    state = state._replace(
      key=key,
      policy=policy,
      iteration=state.iteration + 1,
      scale=state.scale * jnp.float32(1),
    )
    return state, {'imagined/return_pre': noise}

  return FakeAlgorithm(init, collect, fit, improve)


class Interrupt(progress_lib.Silent):
  """Does something when a phase of an iteration begins."""

  def __init__(self, at: int, phase: str, action) -> None:
    self._at, self._phase, self._action = at, phase, action
    self._iteration = -1
    self.done = -1

  def start(self, *, total: int, done: int) -> None:
    self.done = done

  def phase(self, name: str, *, compiling: bool = False) -> None:
    if name == 'collect' and not compiling:
      self._iteration += 1
    if name == self._phase and self._iteration == self._at and not compiling:
      self._action()


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
