"""Adapts a policy in the real environment by policy-gradient steps.

A step collects N episodes with the current policy, with sampled actions, and
updates

  theta <- theta + alpha grad L(theta),
  L(theta) = mean over the steps of log pi_theta(a|s) A,

where A is the advantage. This is MB-MPO's inner step (`maml.adapt`) on real
rollouts. alpha is the largest value up to `inner_lr` for which the step changes
the policy by a mean KL divergence of at most `max_kl`, to second order
(`inner_rate.bounded`). Measured by this divergence, steps have the same size
for every policy.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import physics as physics_lib
from mbmpo_jax.objectives import maml
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim import inner_rate
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate

# The physical factors that `--bodies` may name.
FACTORS = ('mass', 'damping', 'friction', 'gear')
NOMINAL = 'nominal'
_BODIES = (NOMINAL, 'mass=0.5', 'mass=2', 'damping=2', 'friction=0.5')


class AdaptationError(errors.UserError, ValueError):
  """A policy cannot be adapted, or a body cannot be simulated."""


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the adaptation.

  Attributes:
    num_steps: number of policy-gradient steps, S.
    num_rollouts: episodes per step, N.
    inner_lr: upper bound of the step size alpha.
    max_kl: upper bound of the KL divergence of a step, in nats.
  """

  num_steps: int = 20
  num_rollouts: int = 20
  inner_lr: float = 1e3
  max_kl: float = 0.01


class Course(NamedTuple):
  """Results of one adaptation, before each step and after the last, [S + 1].

  Attributes:
    return_mean: mean return of the N episodes.
    return_std: standard deviation of these returns.
    rate: alpha of the step that follows.
  """

  return_mean: jax.Array
  return_std: jax.Array
  rate: jax.Array


Adapt = Callable[[types.Params, Any, jax.Array], Course]


def make_adapt(
  env: envs_base.Environment,
  policy: policies.Policy,
  settings: Settings,
  *,
  episode_length: int,
  advantage: config_lib.Advantage,
) -> Adapt:
  """Builds the adaptation of a policy.

  Args:
    env: the real environment, with the nominal body.
    policy: a policy with a density.
    settings: the settings of the adaptation.
    episode_length: steps after which an episode is truncated.
    advantage: the settings of advantage estimation.

  Returns:
    A jitted `(params, physics, key) -> Course`; consumes the key. `physics` is
    that of the body (`physics.scaled`), or `None` for the nominal body.

  Raises:
    AdaptationError: if the policy has no density.
  """
  if policy.distribution is None or policy.over is None:
    raise AdaptationError(
      'policy: has no density: must have one to be adapted by policy gradient'
    )

  def adapt(params: types.Params, physics: Any, key: jax.Array) -> Course:
    world: Any = env
    if physics is not None:
      assert isinstance(env, mjx.MjxEnvironment)
      world = physics_lib.with_physics(env, physics)

    def step(
      params: types.Params, key: jax.Array
    ) -> tuple[types.Params, Course]:
      trajectory, _ = real.rollout(
        world,
        policy,
        params,
        key,
        num_envs=settings.num_rollouts,
        horizon=episode_length,
      )
      advantages = returns.advantages(
        trajectory,
        discount=advantage.discount,
        gae_lambda=advantage.gae_lambda,
        ridge=advantage.baseline_ridge,
      )
      rate = inner_rate.bounded(
        policy,
        params,
        trajectory,
        advantages,
        inner_lr=settings.inner_lr,
        max_kl=settings.max_kl,
      )
      adapted = maml.adapt(
        policy, params, trajectory, advantages, inner_lr=rate
      )
      live = evaluate.first_episode(trajectory)
      played = jnp.sum(jnp.where(live, trajectory.reward, 0.0), 0)
      return adapted, Course(jnp.mean(played), jnp.std(played), rate)

    keys = jax.random.split(key, settings.num_steps + 1)
    return jax.lax.scan(step, params, keys)[1]

  return jax.jit(adapt)


def factors(body: str) -> dict[str, float]:
  """Parses the factors in a body's name, such as `mass=2+friction=0.5`.

  Args:
    body: `nominal`, or factors of `FACTORS` joined by +.

  Raises:
    AdaptationError: naming the body and what is allowed.

  Example:
    >>> factors('mass=2+friction=0.5')
    {'mass': 2.0, 'friction': 0.5}
  """
  if body == NOMINAL:
    return {}
  found: dict[str, float] = {}
  for part in body.split('+'):
    name, _, text = part.partition('=')
    try:
      value = float(text)
    except ValueError:
      value = 0.0
    if name not in FACTORS or name in found or not 0 < value < 1e6:
      raise AdaptationError(
        f'--bodies={body}: must be {NOMINAL}, or <name>=<factor> with a name of'
        f' {", ".join(FACTORS)} and a factor > 0 and < 1e6; several different'
        ' names are joined by +'
      )
    found[name] = value
  return found


def default_bodies(env: envs_base.Environment) -> tuple[str, ...]:
  """Returns several bodies if the environment can change them.

  Otherwise it returns `nominal` only.
  """
  return _BODIES if isinstance(env, mjx.MjxEnvironment) else (NOMINAL,)


def physics_of(
  env: envs_base.Environment, body: str
) -> physics_lib.Physics | None:
  """Returns the physics of a body, or `None` for the nominal one.

  Raises:
    AdaptationError: if the environment has no such body.
  """
  scales = factors(body)
  if not isinstance(env, mjx.MjxEnvironment):
    if not scales:
      return None
    raise AdaptationError(
      f'--bodies={body}: must be {NOMINAL}: {type(env).__name__} has no body'
      ' whose physics could be changed'
    )
  return physics_lib.scaled(env.model, physics_lib.Scales(**scales))
