"""What a run is between two calls, and what an algorithm offers."""

import operator
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit
from mbmpo_jax.rollouts import buffer


class Hyper(NamedTuple):
  """Numeric hyperparameters, in the state so that a sweep can be a vmap."""

  inner_lr: jax.Array
  max_kl: jax.Array
  discount: jax.Array
  gae_lambda: jax.Array
  baseline_ridge: jax.Array
  damping: jax.Array
  entropy_coef: jax.Array
  model_learning_rate: jax.Array
  rolling_persistence: jax.Array


class TrainState(NamedTuple):
  """Everything a run is: copy it and the run goes on from there."""

  key: jax.Array  # raw uint32 [2]
  iteration: jax.Array  # int32, iterations completed
  env_steps: jax.Array  # int32, real transitions collected
  episodes: jax.Array  # int32, real episodes begun
  hyper: Hyper
  policy: types.Params  # theta
  ensemble: fit.FitState  # K members and their Adam moments
  model: ensemble.Model  # the members as last fitted, ready to imagine with
  buffer: buffer.Buffer


Phase = Callable[[TrainState], tuple[TrainState, types.Metrics]]


class Algorithm(NamedTuple):
  """An algorithm as pure functions over one state."""

  init: Callable[[jax.Array], TrainState]
  collect: Phase
  fit: Phase
  improve: Phase
  update: Phase
  act: Callable[..., jax.Array]


def hyper(config: config_lib.Config) -> Hyper:
  """The numeric hyperparameters of a configuration, as arrays."""
  # A dtype, so that none is weakly typed: a second call would retrace.
  return Hyper(
    **{
      name: jnp.asarray(operator.attrgetter(field)(config), float)
      for name, field in config_lib.HYPER_FIELDS.items()
    }
  )
