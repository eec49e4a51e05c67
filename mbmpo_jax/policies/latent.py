"""A policy whose input includes a latent z of the task: pi(a | s, z).

z is the context that `start` takes, and the carry holds it for the episode. The
wrapped policy observes [s, z]. One such policy serves all tasks: a new task
needs a new z but no gradient step (Wang & van Hoof 2022, section 4.3; Rakelly
et al. 2019).

  policy = latent.conditioned(
    flax_policy.make(network, observation_size + 16, action_size), 16
  )
  trajectory, _ = real.rollout(env, policy, params, key, context=z, ...)
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions


class Conditioned(NamedTuple):
  """The latent and the wrapped policy's own data; both carry and extras."""

  z: jax.Array  # [N, Z]
  inner: Any  # the wrapped policy's carry or extras


def append(
  obs: jax.Array,
  z: jax.Array,
  features: Callable[[jax.Array], jax.Array] = lambda obs: obs,
) -> jax.Array:
  """[s, z], the input of policy and critic, `[..., F + Z]`.

  Args:
    obs: `[..., O]`.
    z: `[..., Z]`.
    features: applied to the observations, `[..., O] -> [..., F]`.
  """
  return jnp.concatenate([features(obs), z], -1)


def conditioned(
  policy: base.Policy,
  latent_size: int,
  *,
  features: Callable[[jax.Array], jax.Array] = lambda obs: obs,
) -> base.Policy:
  """`policy` with a latent appended to its observations.

  The context that `start` takes is z, `[Z]` for all episodes or `[N, Z]` with
  one row each; for the context `()` z is 0. Gradients flow from actions and
  densities to the z that was given to `start`. If they are not wanted, stop
  them before `start`.

  The extras of an action are a `Conditioned`, so that z is part of the
  trajectory, as `trajectory.extras.z` [T, N, Z]. `over` reads it there, and a
  critic can do so too.

  Args:
    policy: for observations of size F + Z.
    latent_size: Z.
    features: applied to the observations before z is appended.

  Raises:
    ValueError: by `start`, if z has the wrong shape.
  """

  def seen(obs: jax.Array, z: jax.Array) -> jax.Array:
    return append(obs, z, features)

  def start(
    params: types.Params, key: jax.Array, context: Any, num: int
  ) -> Conditioned:
    inner = policy.start(params, key, (), num)
    if isinstance(context, tuple) and not context:
      return Conditioned(jnp.zeros((num, latent_size)), inner)
    z = jnp.asarray(context)
    if z.shape not in ((latent_size,), (num, latent_size)):
      raise ValueError(
        f'context: the latent has shape {z.shape}: must have ({latent_size},)'
        f' or ({num}, {latent_size})'
      )
    if z.ndim == 1:
      z = z[None]
    return Conditioned(jnp.broadcast_to(z, (num, latent_size)), inner)

  def act(
    params: types.Params, carry: Conditioned, obs: jax.Array, noise: Any
  ) -> tuple[Conditioned, base.Action]:
    z = carry.z
    inner, action = policy.act(params, carry.inner, seen(obs, z), noise)
    extras = Conditioned(z, action.extras)
    return Conditioned(z, inner), action._replace(extras=extras)

  def distribution(
    params: types.Params, carry: Conditioned, obs: jax.Array
  ) -> distributions.Distribution:
    assert policy.distribution is not None
    return policy.distribution(params, carry.inner, seen(obs, carry.z))

  def over(
    params: types.Params, trajectory: types.Trajectory
  ) -> distributions.Distribution:
    assert policy.over is not None
    z, extras = trajectory.extras
    obs = seen(trajectory.obs, z)
    return policy.over(params, trajectory._replace(obs=obs, extras=extras))

  def observe(
    params: types.Params, carry: Conditioned, step: base.Experience
  ) -> Conditioned:
    assert policy.observe is not None
    z = carry.z
    step = step._replace(obs=seen(step.obs, z), next_obs=seen(step.next_obs, z))
    return Conditioned(z, policy.observe(params, carry.inner, step))

  return policy._replace(
    start=start,
    act=act,
    distribution=None if policy.distribution is None else distribution,
    over=None if policy.over is None else over,
    observe=None if policy.observe is None else observe,
  )
