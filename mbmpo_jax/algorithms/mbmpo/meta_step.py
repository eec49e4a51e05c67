"""One meta-step: imagine, adapt, imagine again, take a trust-region step.

This is the inner loop of algorithm 1 (Clavera et al. 2018) for all tasks, and
its outer step. The parts are also available separately: `collect` imagines and
adapts without an outer step, and benchmarks time each part.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import parallel
from mbmpo_jax import tasks
from mbmpo_jax import types
from mbmpo_jax.algorithms import base as algorithms
from mbmpo_jax.algorithms.mbmpo import config as config_lib
from mbmpo_jax.algorithms.mbmpo import task_rollouts
from mbmpo_jax.envs import base
from mbmpo_jax.models import base as models
from mbmpo_jax.objectives import maml
from mbmpo_jax.optim import meta_gradient
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import base as policies


class Sampled(NamedTuple):
  """The data of one meta-step; leaves of tasks have leading axes [K, P]."""

  pre: task_rollouts.TaskRollouts  # T_i, A_i of theta
  post: task_rollouts.TaskRollouts  # T_i', A_i' of theta_i'
  batch: maml.MetaBatch
  adaptations: meta_gradient.Adaptation  # from theta to theta_i'
  usable_adaptation: jax.Array  # bool [K, P], rollouts to adaptation finite
  usable: jax.Array  # bool [K, P], all of the task finite


class MetaStep(NamedTuple):
  """A meta-step and its parts; `hyper` is `state.hyper`, keys are consumed.

  `seen` are states `[S, O]` at which a share of the rollouts start, if
  `model_rollouts.buffer_starts` is positive.

  With a mesh the functions run inside `parallel.share_out`, and [K, P] is this
  device's part of the tasks.
  """

  # (params, model, hyper, key, per_task=, seen=None) -> TaskRollouts
  rollout: Callable[..., task_rollouts.TaskRollouts]
  # (theta, rollouts, hyper) -> theta_i', adaptation for derivatives, usable
  adapt: Callable[..., tuple[types.Params, meta_gradient.Adaptation, jax.Array]]
  # (theta, model, hyper, key, seen=None) -> Sampled
  sample: Callable[..., Sampled]
  # (theta, sampled, hyper) -> expansion of the outer objective at theta
  derivatives: Callable[..., trpo.Expansion]
  # (theta, model, hyper, key, seen=None) -> new theta, metrics
  step: Callable[..., tuple[types.Params, types.Metrics]]
  # (theta, model, hyper, key) -> mean return of the policies adapted in each of
  # all members [K]; NaN if it is not finite. All rollouts start at resets.
  validate: Callable[..., jax.Array]


def make(
  env: base.Environment,
  config: config_lib.Config,
  policy: policies.Policy,
  dynamics: models.Dynamics,
  *,
  mesh: jax.sharding.Mesh | None = None,
) -> MetaStep:
  """Builds the meta-step for an environment.

  Args:
    env: gives reward, termination and initial observations.
    config: of the experiment.
    policy: the policy to learn.
    dynamics: of the ensemble.
    mesh: see `algorithm.make`.
  """
  rollout = functools.partial(
    task_rollouts.rollout_tasks,
    env=env,
    config=config,
    policy=policy,
    dynamics=dynamics,
    mesh=mesh,
  )
  all_sum = parallel.all_sum(mesh)
  count = functools.partial(jnp.sum, dtype=float)
  trust_region = config.trust_region

  def adapt(
    theta: types.Params,
    rollouts: task_rollouts.TaskRollouts,
    hyper: algorithms.Hyper,
  ) -> tuple[types.Params, Any, jax.Array]:
    def task(
      trajectory: types.Trajectory, advantages: jax.Array
    ) -> tuple[types.Params, Any]:
      return meta_gradient.adapt(
        policy,
        theta,
        trajectory,
        advantages,
        inner_lr=hyper['meta.inner_lr'],
        max_kl=config.meta.max_inner_kl,
        objective=config.meta.inner_objective,
      )

    adapted, adaptations = tasks.map_tasks(
      task, rollouts.trajectory, rollouts.advantages
    )
    adapted, usable = task_rollouts.keep_usable(adapted, theta, rollouts.usable)
    return adapted, adaptations, usable

  def sample(
    theta: types.Params,
    model: Any,
    hyper: algorithms.Hyper,
    key: jax.Array,
    seen: jax.Array | None = None,
  ) -> Sampled:
    pre_key, post_key = jax.random.split(key)
    pre = rollout(theta, model, hyper, pre_key, per_task=False, seen=seen)
    adapted, adaptations, usable_adaptation = adapt(theta, pre, hyper)
    post = rollout(adapted, model, hyper, post_key, per_task=True, seen=seen)
    usable = usable_adaptation & post.usable
    batch = maml.MetaBatch(
      pre=pre.trajectory,
      pre_advantages=pre.advantages,
      adapted=adapted,
      post=post.trajectory,
      post_advantages=post.advantages,
      weight=tasks.weights(usable.astype(pre.advantages.dtype), all_sum),
    )
    return Sampled(pre, post, batch, adaptations, usable_adaptation, usable)

  def differentiate(
    theta: types.Params, sampled: Sampled, hyper: algorithms.Hyper
  ) -> trpo.Expansion:
    return meta_gradient.differentiate(
      policy,
      theta,
      sampled.batch,
      inner_lr=hyper['meta.inner_lr'],
      max_kl=config.meta.max_inner_kl,
      objective=config.meta.inner_objective,
      entropy_coef=hyper['meta.entropy_coef'],
      adaptations=sampled.adaptations,
    )

  def plasticity(sampled: Sampled) -> jax.Array:
    per_task = tasks.map_tasks(
      functools.partial(meta_gradient.plasticity, policy),
      sampled.batch.adapted,
      sampled.adaptations,
      sampled.batch.pre,
    )
    return tasks.mean(per_task, sampled.batch.weight)

  def step(
    theta: types.Params,
    model: Any,
    hyper: algorithms.Hyper,
    key: jax.Array,
    seen: jax.Array | None = None,
  ) -> tuple[types.Params, types.Metrics]:
    sampled = sample(theta, model, hyper, key, seen)
    pre, post, batch, _, usable_adaptation, usable = sampled
    updated, info = trpo.trpo_step(
      theta,
      differentiate(theta, sampled, hyper),
      max_kl=hyper['trust_region.max_kl'],
      cg_iterations=trust_region.cg_iterations,
      damping=hyper['trust_region.damping'],
      backtrack_ratio=trust_region.backtrack_ratio,
      max_backtracks=trust_region.max_backtracks,
      all_sum=all_sum,
    )
    means = functools.partial(
      task_rollouts.episode_means,
      weight=batch.weight,
      num_seen=config.model_rollouts.num_seen,
    )
    return_pre, _ = means(pre)
    return_post, length = means(post)
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
          'meta/rejected_tasks': count(~usable),
          'nonfinite/rollouts': sum(
            count(~x.usable_rollouts) for x in (pre, post)
          ),
          'nonfinite/advantages': sum(
            count(x.usable_rollouts & ~x.usable) for x in (pre, post)
          ),
          'nonfinite/adaptations': count(pre.usable & ~usable_adaptation),
          'meta/plasticity': plasticity(sampled),
        },
      )
    )
    sums['imagined/clipped'] /= jnp.maximum(sums['imagined/samples'], 1)
    rejected = sums['meta/rejected_tasks'] == config.num_tasks
    # Whether non-finite numbers rejected the step: all tasks, or the step.
    not_finite = ~info.finite | (info.non_finite_kl > 0) | rejected
    return updated, {
      **{n: jnp.where(rejected, jnp.nan, x) for n, x in episodes.items()},
      **sums,
      'meta/surrogate_gain': info.surrogate_gain,
      'meta/kl': info.kl,
      'meta/accept_rate': info.accepted.astype(jnp.float32),
      'meta/backtracks': info.backtracks.astype(jnp.float32),
      'policy/std': policies.mean_std(
        policy, updated, key, env.observation_size
      ),
      'nonfinite/gradients': count(~info.finite),
      'nonfinite/kl': count(info.non_finite_kl),
      'nonfinite/steps': count(~info.accepted & not_finite),
    }

  def validate(
    theta: types.Params, model: Any, hyper: algorithms.Hyper, key: jax.Array
  ) -> jax.Array:
    sampled = sample(theta, model, hyper, key)
    returns, _ = task_rollouts.task_means(sampled.post)
    returns = jnp.where(sampled.usable, returns, jnp.nan)
    return jnp.mean(parallel.whole(mesh, returns, parallel.BY_TASK), axis=1)

  return MetaStep(rollout, adapt, sample, differentiate, step, validate)
