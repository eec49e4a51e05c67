"""The pieces of a meta-step as programs of their own, to be timed apart."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.flatten_util

from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.algorithms import imagination
from mbmpo_jax.algorithms import state as state_lib
from mbmpo_jax.envs import base
from mbmpo_jax.optim import linear
from mbmpo_jax.optim import maml
from mbmpo_jax.optim import meta_gradient
from mbmpo_jax.optim import returns
from mbmpo_jax.policies import gaussian

State = state_lib.TrainState


class Pieces(NamedTuple):
  """Pure functions of arrays, in the order in which a meta-step needs them."""

  imagine: Callable[[State], types.Trajectory]  # T_i, without advantages
  advantages: Callable[[State, types.Trajectory], jax.Array]
  batch: Callable[[State], maml.MetaBatch]  # all that is sampled
  inner_gradient: Callable[[State, maml.MetaBatch], types.Params]
  surrogate_gradient: Callable[[State, maml.MetaBatch], types.Params]
  # Conjugate gradients from that gradient: `cg_iterations` curvature products.
  natural_gradient: Callable[[State, maml.MetaBatch, types.Params], jax.Array]
  # Surrogate and kl at one candidate of the line search.
  evaluation: Callable[[State, maml.MetaBatch, types.Params], Any]


def make(env: base.Environment, config: config_lib.Config) -> Pieces:
  """Builds the pieces of one meta-step from `state.policy` on `state.model`."""
  policy_apply, policy_head = (
    functools.partial(
      fn, min_std=config.policy.min_std, learn_std=config.policy.learn_std
    )
    for fn in (gaussian.apply, gaussian.head)
  )
  rollout_tasks = functools.partial(
    imagination.rollout_tasks, env=env, config=config, policy_apply=policy_apply
  )
  adapt_tasks = functools.partial(
    imagination.adapt_tasks, config=config, policy_apply=policy_apply
  )

  def imagine(state: State) -> types.Trajectory:
    # Jitted, this computes no advantages: they are not returned.
    return rollout_tasks(
      state.policy, state.model, state.hyper, state.key, policy_per_task=False
    ).trajectory

  def advantages(state: State, trajectory: types.Trajectory) -> jax.Array:
    return maml.over_tasks(
      functools.partial(
        returns.advantages,
        discount=state.hyper.discount,
        gae_lambda=state.hyper.gae_lambda,
        ridge=state.hyper.baseline_ridge,
      )
    )(trajectory)

  def batch(state: State) -> maml.MetaBatch:
    pre_key, post_key = jax.random.split(state.key)
    model, hyper = state.model, state.hyper
    pre = rollout_tasks(
      state.policy, model, hyper, pre_key, policy_per_task=False
    )
    adapted, sound = adapt_tasks(state.policy, pre, hyper)
    post = rollout_tasks(adapted, model, hyper, post_key, policy_per_task=True)
    return maml.MetaBatch(
      pre=pre.trajectory,
      pre_advantages=pre.advantages,
      adapted=adapted,
      post=post.trajectory,
      post_advantages=post.advantages,
      weight=maml.task_weights(
        (sound & post.finite).astype(pre.advantages.dtype)
      ),
    )

  def inner_gradient(state: State, batch: maml.MetaBatch) -> types.Params:
    imagined = imagination.Imagined(
      batch.pre, batch.pre_advantages, batch.weight > 0
    )
    return adapt_tasks(state.policy, imagined, state.hyper)[0]

  def settings(state: State) -> dict[str, Any]:
    return {
      'inner_lr': state.hyper.inner_lr,
      'objective': config.meta.inner_objective,
      'entropy_coef': state.hyper.entropy_coef,
    }

  def at_theta(
    state: State, batch: maml.MetaBatch
  ) -> meta_gradient.MetaGradient:
    return meta_gradient.at(
      state.policy, batch, **settings(state), head=policy_head
    )

  def surrogate_gradient(state: State, batch: maml.MetaBatch) -> types.Params:
    return at_theta(state, batch).gradient

  def natural_gradient(
    state: State, batch: maml.MetaBatch, gradient: types.Params
  ) -> jax.Array:
    curvature = at_theta(state, batch).curvature
    flat, unravel = jax.flatten_util.ravel_pytree(gradient)

    def product(v: jax.Array) -> jax.Array:
      curved, _ = jax.flatten_util.ravel_pytree(curvature(unravel(v)))
      return curved + state.hyper.damping * v

    return linear.conjugate_gradient(
      product, flat, iterations=config.meta.cg_iterations
    )[0]

  def evaluation(
    state: State, batch: maml.MetaBatch, candidate: types.Params
  ) -> tuple[jax.Array, jax.Array]:
    meta = maml.meta_objective(
      batch, **settings(state), policy_apply=policy_apply
    )
    return meta.surrogate(candidate), meta.kl(candidate)

  return Pieces(
    imagine,
    advantages,
    batch,
    inner_gradient,
    surrogate_gradient,
    natural_gradient,
    evaluation,
  )
