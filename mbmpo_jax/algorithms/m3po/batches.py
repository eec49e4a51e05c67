"""Minibatches of imagined data, optionally mixed with real data."""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms.m3po import config as config_lib
from mbmpo_jax.algorithms.m3po import rows as rows_lib
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import history


def model_share(
  hyper: base.Hyper, env_steps: jax.Array, section: config_lib.Batches
) -> jax.Array:
  """The share of imagined data after `env_steps` real steps, a scalar.

  It changes linearly from `model_share` to `final_model_share` over
  `decay_steps`, and is constant afterwards. It is 1 if data are not mixed.
  """
  if section.kind == 'model':
    return jnp.ones(())
  first = hyper['batches.model_share']
  done = jnp.minimum(env_steps.astype(float) / section.decay_steps, 1.0)
  return first + (hyper['batches.final_model_share'] - first) * done


def sample(
  env: envs_base.Environment,
  config: config_lib.Config,
  buffer: buffer_lib.Buffer,
  ring: buffer_lib.Buffer,
  share: jax.Array,
  moments: Any,
  key: jax.Array,
) -> learner_lib.Batch:
  """G minibatches of B rows, uniform with replacement in each data set.

  The first B - round(share B) rows of each are real.

  Args:
    env: gives sizes.
    config: of the experiment.
    buffer: of real transitions.
    ring: of imagined rows.
    share: of imagined data.
    moments: of real transitions, or () if nothing is normalised.
    key: consumed.

  Returns:
    Leaves `[G, B, ...]`.
  """
  section, length = config.learn, config.history.length
  shape = (section.num_updates, section.batch_size)
  imagined_key, real_key = jax.random.split(key)

  def slots(key: jax.Array, size: jax.Array) -> jax.Array:
    return jax.random.randint(key, shape, 0, jnp.maximum(size, 1))

  flat = ring.data[slots(imagined_key, ring.size)]
  rows = rows_lib.unflatten(env, length, flat)
  if config.batches.kind == 'mixed':
    chosen = slots(real_key, buffer.size).reshape(-1)
    real = rows_lib.real_rows(
      buffer, chosen, length=length, num_envs=config.collect.num_envs
    )
    num_real = section.batch_size - jnp.round(share * section.batch_size)
    is_real = jnp.arange(section.batch_size) < num_real

    def select(imagined: jax.Array, real: jax.Array) -> jax.Array:
      flags = is_real.reshape(1, -1, *(1,) * (imagined.ndim - 2))
      return jnp.where(flags, real.reshape(imagined.shape), imagined)

    rows = jax.tree.map(select, rows, real)
  return to_batch(rows, moments)


def to_batch(rows: rows_lib.Row, moments: Any = ()) -> learner_lib.Batch:
  """Rows as a batch for SAC; the history of s' is one step longer.

  Args:
    rows: as they are stored.
    moments: of real transitions, to normalise the inputs; or ().
  """
  obs, window = rows.seen
  after = history.push(window, obs, rows.action, rows.reward)
  return learner_lib.Batch(
    inputs=inputs.read(moments, rows.seen),
    action=rows.action,
    reward=rows.reward,
    next_inputs=inputs.read(moments, history.Seen(rows.next_obs, after)),
    terminated=rows.terminated,
  )
