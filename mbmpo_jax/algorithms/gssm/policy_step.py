"""An update of the policy inside the model, given contexts of tasks.

Every rollout starts like an episode of the environment, samples z from q(z_c |
context) for the policy, and follows the model's predictions. For a share of the
rollouts z is 0, as in an unknown task. The update follows the return's gradient
through time (`objectives/bptt.py`), or is PPO's on the imagined steps, with a
critic that observes z (Wang & van Hoof 2022, section 4.3).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mbmpo_jax import config as shared_config
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import minibatches
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.gssm import config as config_lib
from mbmpo_jax.algorithms.ppo import algorithm as ppo
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import spaces
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.networks import critics
from mbmpo_jax.objectives import bptt
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import categorical
from mbmpo_jax.policies import flax_policy
from mbmpo_jax.policies import latent as latent_lib
from mbmpo_jax.policies import mean_network
from mbmpo_jax.policies import rbf
from mbmpo_jax.rollouts import imagined


class Learner(NamedTuple):
  """The state that an update changes."""

  policy: types.Params
  value: types.Params  # () without a value network
  optimizer: Any


class Parts(NamedTuple):
  """The networks.

  Attributes:
    seeing: the policy on [model_input(s), z].
    acting: the same policy on observations, with z as its context.
    features: of observations, without z: `model_input`, scaled.
    latent_size: Z; 0 if the policy gets no latent.
    value: (params, [model_input(s), z]) -> V; `None` for BPTT.
    init_value: key -> params; () for BPTT.
  """

  seeing: policies.Policy
  acting: policies.Policy
  features: Any
  latent_size: int
  value: Any
  init_value: Any


def make_parts(env: envs_base.Environment, config: config_lib.Config) -> Parts:
  """The networks of a configuration, for an environment.

  Args:
    env: gives sizes and `model_input`.
    config: of the experiment.

  Raises:
    config.ConfigError: if BPTT is used with discrete actions, or the number of
      scales is not that of the features.
  """
  section, choices = (
    config.policy,
    isinstance(env.action_space, spaces.Discrete),
  )
  if config.improve.kind == 'bptt' and choices:
    raise shared_config.ConfigError(
      "improve.kind='bptt': must be 'ppo' for an environment with discrete"
      ' actions, which have no gradient'
    )
  obs = jnp.zeros(env.observation_size)
  size = jax.eval_shape(env.model_input, obs).shape[-1]
  features = _scaled(env.model_input, section.feature_scales, size)
  latent_size = config.model.latent_size if section.amortised else 0
  seen, actions = size + latent_size, env.action_size
  value, init_value = None, lambda key: ()
  if config.improve.kind == 'bptt':
    # Wider units for latents: the distance to a centre grows with Z.
    widths = (1.0,) * size + (float(latent_size),) * latent_size
    seeing = rbf.make(
      seen,
      actions,
      num_units=section.num_units,
      init_scale=section.init_scale,
      init_widths=widths,
    )
  elif choices:
    seeing = categorical.make(seen, actions, section.hidden_sizes, 'relu')
  else:
    network = mean_network.Gaussian(
      actions, section.hidden_sizes, section.init_std
    )
    seeing = flax_policy.make(network, seen, actions)
  if config.improve.kind == 'ppo':
    values = critics.Value(config.value.hidden_sizes, 'relu')

    def value(params: types.Params, obs: jax.Array) -> jax.Array:
      return jnp.asarray(values.apply(params, obs))

    def init_value(key: jax.Array) -> types.Params:
      return values.init(key, jnp.zeros((1, seen)))

  acting = latent_lib.conditioned(seeing, latent_size, features=features)
  return Parts(seeing, acting, features, latent_size, value, init_value)


def _scaled(
  features: Callable[[jax.Array], jax.Array],
  scales: tuple[float, ...],
  size: int,
) -> Callable[[jax.Array], jax.Array]:
  """A function from observations [..., O] to scaled features [..., F]."""
  if not scales:
    return features
  if len(scales) != size:
    raise shared_config.ConfigError(
      f'policy.feature_scales={scales}: must have {size} numbers, one for each'
      " feature of the environment's model_input, or none"
    )
  divisor = np.asarray(scales, np.float32)

  def scaled(obs: jax.Array) -> jax.Array:
    found = features(obs)
    return found / divisor.reshape((1,) * (found.ndim - 1) + (size,))

  return scaled


def init(
  made: Parts,
  section: config_lib.Learn,
  hyper: base.Hyper,
  key: jax.Array,
) -> Learner:
  """New random networks and their optimiser state.

  Args:
    made: the networks.
    section: gives the clipping of gradients.
    hyper: gives the learning rate.
    key: consumed.
  """
  policy_key, value_key = jax.random.split(key)
  theta, value = made.seeing.init(policy_key), made.init_value(value_key)
  adam = minibatches.optimizer(section, hyper['learn.learning_rate'])
  return Learner(theta, value, adam.init((theta, value)))


class PolicyStep(NamedTuple):
  """The functions; keys are consumed, `model` is that of one member.

  Attributes:
    latents: (model, context, key, num) -> z [num, Z] for one context; 0 if it
      has no points.
    update: (learner, model, contexts [M, C], hyper, key, num_rollouts) ->
      (learner, metrics), with `num_rollouts` for each context. The metrics are
      `imagined/return`, `policy/updates`, `nonfinite/rollouts` and
      `nonfinite/updates`.
  """

  latents: Callable[..., jax.Array]
  update: Callable[..., tuple[Learner, types.Metrics]]


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  made: Parts,
  surrogate: surrogate_lib.Surrogate,
) -> PolicyStep:
  """Builds the update.

  Args:
    env: gives reward, termination and initial observations, the same for all
      tasks.
    config: of the experiment.
    made: the networks.
    surrogate: the model.
  """
  horizon, untold = config.model_rollouts.horizon, config.model_rollouts.untold

  def latents(
    model: Any, context: sets.Points, key: jax.Array, num: int
  ) -> jax.Array:
    if not made.latent_size:
      return jnp.zeros((num, 0))
    assert surrogate.encode is not None
    noise_key, key = jax.random.split(key)
    found = surrogate.encode(model, context, key)
    noise = jax.random.normal(noise_key, (num, made.latent_size))
    z = found.mean[None] + jnp.exp(found.log_std)[None] * noise
    return jnp.where(jnp.any(context.mask > 0), z, 0.0)

  def begin(
    model: Any, context: sets.Points, key: jax.Array, num: int
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    start_key, z_key, key = jax.random.split(key, 3)
    obs = jax.vmap(env.initial_obs)(jax.random.split(start_key, num))
    z = latents(model, context, z_key, num)
    if untold:
      untold_key, key = jax.random.split(key)
      z = jnp.where(jax.random.bernoulli(untold_key, untold, (num, 1)), 0.0, z)
    return obs, z, key

  def by_bptt(
    learner: Learner,
    model: Any,
    contexts: sets.Points,
    hyper: base.Hyper,
    key: jax.Array,
    num_rollouts: int,
  ) -> tuple[Learner, types.Metrics]:
    def of_context(context: sets.Points, key: jax.Array) -> Any:
      obs, z, key = begin(model, context, key, num_rollouts)
      return bptt.gradient(
        made.acting,
        learner.policy,
        surrogate.dynamics,
        model,
        key,
        obs,
        horizon=horizon,
        reward_fn=env.reward,
        done_fn=env.done,
        discount=hyper['advantage.discount'],
        context=context,
        policy_context=z,
      )

    keys = jax.random.split(key, contexts.mask.shape[0])
    gradient, info = jax.vmap(of_context)(contexts, keys)
    # A context is weighted by its number of finite particles.
    counts = num_rollouts - info.rejected
    total = jnp.sum(counts)
    share = counts / jnp.maximum(total, 1)
    downhill = jax.tree.map(lambda x: -jnp.tensordot(share, x, 1), gradient)
    downhill = (downhill, jax.tree.map(jnp.zeros_like, learner.value))
    params = (learner.policy, learner.value)
    adam = minibatches.optimizer(config.learn, hyper['learn.learning_rate'])
    changes, optimizer = adam.update(downhill, learner.optimizer, params)
    theta, value = optax.apply_updates(params, changes)
    finite = (total > 0) & masking.all_finite((downhill, theta))
    after = Learner(theta, value, optimizer)
    return _where(finite, after, learner), {
      'imagined/return': jnp.where(
        total > 0, jnp.sum(share * info.value), jnp.nan
      ),
      'policy/updates': finite.astype(float),
      'nonfinite/rollouts': jnp.sum(info.rejected),
      'nonfinite/updates': (~finite).astype(float),
    }

  def by_ppo(
    learner: Learner,
    model: Any,
    contexts: sets.Points,
    hyper: base.Hyper,
    key: jax.Array,
    num_rollouts: int,
  ) -> tuple[Learner, types.Metrics]:
    descend_key, key = jax.random.split(key)

    def of_context(context: sets.Points, key: jax.Array) -> types.Trajectory:
      obs, z, key = begin(model, context, key, num_rollouts)
      return imagined.rollout(
        made.acting,
        learner.policy,
        surrogate.dynamics,
        model,
        key,
        obs,
        horizon=horizon,
        reward_fn=env.reward,
        done_fn=env.done,
        context=context,
        policy_context=z,
      )

    keys = jax.random.split(key, contexts.mask.shape[0])
    each = jax.vmap(of_context, out_axes=1)(contexts, keys)
    trajectory = jax.tree.map(
      lambda x: x.reshape(horizon, x.shape[1] * x.shape[2], *x.shape[3:]), each
    )
    trajectory, finite = _reject(trajectory)
    live = masking.live(trajectory.reward, trajectory.mask)
    earned = jnp.sum(live) / jnp.maximum(jnp.sum(finite), 1)
    z = trajectory.extras.z
    seen = trajectory._replace(
      obs=latent_lib.append(trajectory.obs, z, made.features),
      next_obs=latent_lib.append(trajectory.next_obs, z, made.features),
      extras=(),
    )
    batch, _ = on_policy.judge(made.value, learner.value, seen, hyper)
    networks = on_policy.Parts(
      made.seeing, made.acting, made.init_value, made.value
    )
    (theta, value), optimizer, taken = minibatches.descend(
      functools.partial(ppo.loss, made=networks, hyper=hyper),
      (learner.policy, learner.value),
      learner.optimizer,
      batch,
      descend_key,
      section=config.learn,
      learning_rate=hyper['learn.learning_rate'],
    )
    updates = config.learn.num_epochs * config.learn.num_minibatches
    any_finite = jnp.any(finite)
    after = Learner(theta, value, optimizer)
    return _where(any_finite, after, learner), {
      'imagined/return': jnp.where(any_finite, earned, jnp.nan),
      'policy/updates': jnp.where(any_finite, taken, 0).astype(float),
      'nonfinite/rollouts': jnp.sum(~finite, dtype=float),
      'nonfinite/updates': jnp.where(
        any_finite, updates - taken, updates
      ).astype(float),
    }

  update = by_bptt if config.improve.kind == 'bptt' else by_ppo
  return PolicyStep(latents, update)


def _where(flag: jax.Array, new: Learner, old: Learner) -> Learner:
  return jax.tree.map(lambda new, old: jnp.where(flag, new, old), new, old)


def _reject(
  trajectory: types.Trajectory,
) -> tuple[types.Trajectory, jax.Array]:
  """Masks rollouts with a non-finite live step; flags the finite ones, [N]."""

  def finite(rollout: types.Trajectory) -> jax.Array:
    one = jax.tree.map(lambda x: jnp.expand_dims(x, 1), rollout)
    return masking.reject_non_finite(one)[1]

  kept = jax.vmap(finite, 1)(trajectory)
  mask = jnp.where(kept[None], trajectory.mask, 0.0)
  return trajectory._replace(mask=mask), kept
