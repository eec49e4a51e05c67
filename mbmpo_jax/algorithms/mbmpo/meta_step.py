"""One meta-step: imagine, adapt, imagine again, take a trust-region step.

The inner loop of algorithm 1 (Clavera et al. 2018) for all tasks, and its outer
step. The pieces are here on their own too: `collect` imagines and adapts
without an outer step, benchmarks time each apart.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.algorithms.mbmpo import task_rollouts
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.envs import base
from mbmpo_jax.models import ensemble
from mbmpo_jax.optim.tanh_gaussian import adaptation
from mbmpo_jax.objectives import maml
from mbmpo_jax.optim.tanh_gaussian import meta_gradient
from mbmpo_jax import tasks
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import gaussian


class Sampled(NamedTuple):
  """What one meta-step learns from; leaves of tasks lead with [K, P]."""

  pre: task_rollouts.Imagined  # T_i, A_i of theta
  post: task_rollouts.Imagined  # T_i', A_i' of theta_i'
  batch: maml.MetaBatch
  adaptations: adaptation.Adaptation  # from theta to theta_i'
  adapted: jax.Array  # bool [K, P], theta_i' and what it was made of are finite
  finite: jax.Array  # bool [K, P], all of task i


class MetaStep(NamedTuple):
  """A meta-step and its pieces; `hyper` is `state.hyper`, keys are consumed.

  Over a mesh they run inside `parallel.share_out`, and [K, P] is the device's
  own share.
  """

  policy_apply: maml.PolicyApply
  # (policies, model, hyper, key, policy_per_task=) -> Imagined
  imagine: Callable[..., task_rollouts.Imagined]
  # (policy, imagined, hyper) -> theta_i', what from, whether sound [K, P]
  adapt: Callable[..., tuple[types.Params, adaptation.Adaptation, jax.Array]]
  # (policy, model, hyper, key) -> Sampled
  sample: Callable[..., Sampled]
  # (policy, sampled, hyper) -> the outer objective about the policy
  derivatives: Callable[..., meta_gradient.MetaGradient]
  # (policy, model, hyper, key) -> the policy after, metrics
  step: Callable[..., tuple[types.Params, types.Metrics]]


def make(
  env: base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> MetaStep:
  """Builds the meta-step for an environment; arguments as of `mbmpo.make`."""
  policy_apply, policy_head = (
    functools.partial(
      fn, min_std=config.policy.min_std, learn_std=config.policy.learn_std
    )
    for fn in (gaussian.apply, gaussian.head)
  )
  imagine = functools.partial(
    task_rollouts.rollout_tasks,
    env=env,
    config=config,
    policy_apply=policy_apply,
    mesh=mesh,
  )
  adapt = functools.partial(
    task_rollouts.adapt_tasks, config=config, head=policy_head
  )
  all_sum = parallel.all_sum(mesh)
  count = functools.partial(jnp.sum, dtype=float)
  num_tasks = config.model.num_models * config.imagine.tasks_per_model

  def sample(
    policy: types.Params,
    model: ensemble.Model,
    hyper: state_lib.Hyper,
    key: jax.Array,
  ) -> Sampled:
    pre_key, post_key = jax.random.split(key)
    pre = imagine(policy, model, hyper, pre_key, policy_per_task=False)
    adapted, adaptations, sound = adapt(policy, pre, hyper)
    post = imagine(adapted, model, hyper, post_key, policy_per_task=True)
    finite = sound & post.finite
    batch = maml.MetaBatch(
      pre=pre.trajectory,
      pre_advantages=pre.advantages,
      adapted=adapted,
      post=post.trajectory,
      post_advantages=post.advantages,
      weight=tasks.weights(finite.astype(pre.advantages.dtype), all_sum),
    )
    return Sampled(pre, post, batch, adaptations, sound, finite)

  def derivatives(
    policy: types.Params, sampled: Sampled, hyper: state_lib.Hyper
  ) -> meta_gradient.MetaGradient:
    return meta_gradient.at(
      policy,
      sampled.batch,
      inner_lr=hyper.inner_lr,
      objective=config.meta.inner_objective,
      entropy_coef=hyper.entropy_coef,
      head=policy_head,
      adaptations=sampled.adaptations,
    )

  def plasticity(policy: types.Params, sampled: Sampled) -> jax.Array:
    per_task = tasks.map_tasks(
      functools.partial(adaptation.plasticity, policy, head=policy_head),
      sampled.batch.adapted,
      sampled.adaptations,
    )
    return tasks.mean(per_task, sampled.batch.weight)

  def step(
    policy: types.Params,
    model: ensemble.Model,
    hyper: state_lib.Hyper,
    key: jax.Array,
  ) -> tuple[types.Params, types.Metrics]:
    sampled = sample(policy, model, hyper, key)
    pre, post, batch, _, adapted, finite = sampled
    at_policy = derivatives(policy, sampled, hyper)
    updated, info = trpo.trpo_step(
      policy,
      at_policy.objective,
      max_kl=hyper.max_kl,
      cg_iterations=config.meta.cg_iterations,
      damping=hyper.damping,
      value_and_gradient=(at_policy.surrogate, at_policy.gradient),
      curvature_fn=at_policy.curvature,
      quadratic_fn=at_policy.quadratic,
      backtrack_ratio=config.meta.backtrack_ratio,
      max_backtracks=config.meta.max_backtracks,
      all_sum=all_sum,
    )
    return_pre, _ = task_rollouts.episode_means(pre, batch.weight)
    return_post, length = task_rollouts.episode_means(post, batch.weight)
    episodes, sums = all_sum(
      (
        {
          'imagined/return_pre': return_pre,
          'imagined/return_post': return_post,
          'imagined/length': length,
        },
        {
          'imagined/samples': jnp.sum(post.trajectory.mask),
          'imagined/clipped': task_rollouts.clipped_steps(post, model),
          'meta/rejected_tasks': count(~finite),
          'nonfinite/rollouts': sum(
            count(~x.rollouts_finite) for x in (pre, post)
          ),
          'nonfinite/advantages': sum(
            count(x.rollouts_finite & ~x.finite) for x in (pre, post)
          ),
          'nonfinite/adaptations': count(pre.finite & ~adapted),
          'meta/plasticity': plasticity(policy, sampled),
        },
      )
    )
    sums['imagined/clipped'] /= jnp.maximum(sums['imagined/samples'], 1)
    rejected = sums['meta/rejected_tasks'] == num_tasks
    # Rejected for what was not finite: all tasks, or the step itself.
    unsound = ~info.finite | (info.non_finite_kl > 0) | rejected
    std = jnp.exp(
      policy_apply(updated, jnp.zeros(env.observation_size)).log_std
    )
    return updated, {
      **{n: jnp.where(rejected, jnp.nan, x) for n, x in episodes.items()},
      **sums,
      'meta/surrogate_gain': info.surrogate_gain,
      'meta/kl': info.kl,
      'meta/accept_rate': info.accepted.astype(jnp.float32),
      'meta/backtracks': info.backtracks.astype(jnp.float32),
      'policy/std': jnp.mean(std),
      'nonfinite/gradients': count(~info.finite),
      'nonfinite/kl': count(info.non_finite_kl),
      'nonfinite/steps': count(~info.accepted & unsound),
    }

  return MetaStep(policy_apply, imagine, adapt, sample, derivatives, step)
