"""Adapts the policy to a new task, given its transitions (algorithm 2).

An amortised policy keeps its parameters and gets z ~ q(z_c) as its context. A
policy that is not amortised takes gradient steps inside the model, given the
context.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import config as shared_config
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.gssm import config as config_lib
from mbmpo_jax.algorithms.gssm import policy_step
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.rollouts import real


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  steps: policy_step.PolicyStep,
) -> Callable[..., tuple[types.Params, Any]]:
  """Builds the adaptation to a new task.

  Args:
    env: gives `model_input` and `change`.
    config: of the experiment.
    steps: the policy's update, and inference of the latent.

  Returns:
    A function `(learner, model, trajectory [T, N, ...], hyper, key) -> (params,
    context)`: the policy's parameters, and z [Z], or () if the policy is not
    amortised. `model` is that of one member; the key is consumed. Transitions
    that are not finite are left out. The function raises a `ConfigError` for
    more transitions than `model.context_size`.
  """

  def points_of(trajectory: types.Trajectory) -> sets.Points:
    rows, _, _ = real.to_transitions(
      trajectory._replace(extras=()), jnp.zeros((), jnp.int32)
    )
    count, room = rows.reward.shape[0], config.model.context_size
    if count > room:
      raise shared_config.ConfigError(
        f'context={count} transitions: must be <= {room}, model.context_size'
      )
    points = sets.of_transitions(
      rows,
      jnp.ones(count),
      model_input=env.model_input,
      target=config.model.target,
      change=env.change,
    )
    return sets.pad(points, room)

  def adapt(
    learner: policy_step.Learner,
    model: Any,
    trajectory: types.Trajectory,
    hyper: base.Hyper,
    key: jax.Array,
  ) -> tuple[types.Params, Any]:
    points = points_of(trajectory)
    if config.policy.amortised:
      return learner.policy, steps.latents(model, points, key, 1)[0]
    each = jax.tree.map(lambda x: x[None], points)

    def update(
      learner: policy_step.Learner, key: jax.Array
    ) -> tuple[policy_step.Learner, None]:
      num_rollouts = config.adaptation.num_rollouts
      return steps.update(learner, model, each, hyper, key, num_rollouts)[
        0
      ], None

    learner, _ = jax.lax.scan(
      update, learner, jax.random.split(key, config.adaptation.num_updates)
    )
    return learner.policy, ()

  return adapt
