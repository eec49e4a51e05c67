"""L2A: learning to adapt, by GrBAL (Nagabandi et al. 2019, algorithms 1, 2).

  algorithm = algorithms.make('l2a', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

An iteration collects episodes and fits the model's parameters theta to all data
so far: theta adapted by M steps has to predict the following K steps
(`models/grbal.py`). The first episodes have random actions. Later, at every
step, theta is adapted by the last M steps of the episode, and a planner chooses
the action with the adapted model (`policies/planner.py`). The adapted
parameters are used for one step only.
"""

import copy
import functools

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting
from mbmpo_jax import envs
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import planning
from mbmpo_jax.algorithms.l2a import config as config_lib
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import seen
from mbmpo_jax.models import grbal
from mbmpo_jax.models import permutations
from mbmpo_jax.policies import planner
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import windows

# Number of segments on which `adaptation/gain` is computed.
_GAIN_SEGMENTS = 256

METRICS = {
  **planning.METRICS,
  'model/val_loss': base.Metric(
    'validation loss of the parameters that a fit keeps, mean over models: mean'
    ' squared error of the adapted model on the last `adaptation.predict_steps`'
    ' steps of held-out segments, in units of the variance of the predicted'
    ' quantity (observation changes; rewards, if predicted)',
    label='val loss',
    panel='validation loss',
    log=True,
  ),
  'adaptation/gain': base.Metric(
    'share by which adaptation reduces the squared error of the model on the'
    ' next `adaptation.predict_steps` steps, on at most'
    f' {_GAIN_SEGMENTS} segments of the buffer. The model was fitted to these,'
    ' and its parameters are not meant to predict without adaptation',
    label='gain',
  ),
}


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Rewards are predicted if they depend on a hidden task; otherwise they are
  computed by the environment.

  Args:
    env: the real environment, of a task family.
    config: hyperparameters; copied.
    mesh: devices over which environments and fit are distributed, from
      `training.devices.make_mesh`. States are replicated.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract, or its reward
      depends on inputs that the model does not observe.
    envs.TaskError: if it has no tasks, or a hidden task ends its episodes.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  envs.family_of(env, config.algorithm)
  envs.require_known(env, config.algorithm, parts=('done',))
  if not envs.is_own(env):
    seen.check_reward(env, otherwise='`reward` must be left undefined')
  segment = config.adaptation.segment
  predict_reward = not env.reward_is_known

  def model_of(hyper: base.Hyper) -> grbal.Grbal:
    return grbal.make(
      env,
      config.model,
      adapt_steps=config.adaptation.adapt_steps,
      inner_lr=hyper['adaptation.inner_lr'],
      predict_reward=predict_reward,
    )

  def world(
    key: jax.Array, hyper: base.Hyper, *, buffer_capacity: int
  ) -> model_based.World:
    return model_based.init(
      env,
      model_of(hyper).dynamics,
      hyper,
      key,
      buffer_capacity=buffer_capacity,
      predict_reward=predict_reward,
    )

  def fit(
    state: planning.State, mesh: jax.sharding.Mesh | None
  ) -> tuple[planning.State, types.Metrics]:
    model = model_of(state.hyper)
    state, metrics = model_based.fit(
      state,
      env=env,
      section=config.model,
      dynamics=model.dynamics,
      predict_reward=predict_reward,
      segment=segment,
      mesh=mesh,
    )
    key, gain_key = jax.random.split(state.counters.key)
    state = state._replace(counters=state.counters._replace(key=key))
    return state, {
      **metrics,
      'adaptation/gain': gain(model, state, segment, gain_key),
    }

  # The policy reads the inner rate from the model, which stores it in the fit.
  model = model_of(base.hyper(config))
  policy = planning.make_policy(
    env,
    config,
    model.dynamics,
    functools.partial(world, buffer_capacity=1),
    planner.Adaptation(config.adaptation.adapt_steps, model.adapt),
  )
  return planning.make(
    env,
    config,
    planning.Learner(
      policy=policy,
      world=functools.partial(
        world, buffer_capacity=config.collect.buffer_capacity
      ),
      fit=fit,
      metrics=METRICS,
    ),
    mesh=mesh,
  )


def gain(
  model: grbal.Grbal,
  state: planning.State,
  segment: tuple[int, int],
  key: jax.Array,
) -> jax.Array:
  """The share of the error on the buffer's segments that adaptation removes.

  Args:
    model: the model's functions.
    state: with the fitted model and the buffer.
    segment: (M, K).
    key: consumed, to choose the segments.

  Returns:
    1 - after / before; 0 where there is no segment.
  """
  ring = state.buffer
  sound = masking.sound_rows(ring.data)
  data = jax.tree.map(
    lambda x: jnp.where(broadcasting.trailing(sound, x.ndim), x, 0), ring.data
  )
  # Segments exclude the rows that the fit leaves out.
  episode = jnp.where(sound, data.episode, -1)
  ring = ring._replace(data=data._replace(episode=episode))
  usable = windows.whole(ring, length=segment[1]) * buffer_lib.mask(ring)
  usable = usable * sound
  order = permutations.permutation(key, usable > 0)[:_GAIN_SEGMENTS]
  found = jnp.arange(order.shape[0]) < jnp.sum(usable)
  steps, mask = windows.ending(ring, order, length=sum(segment))
  weight = found / jnp.maximum(jnp.sum(found), 1)
  before, after = model.errors(state.model, steps, mask, weight)
  return jnp.where(before > 0, 1 - after / jnp.where(before > 0, before, 1), 0)
