"""Policies that are told their task."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from mbmpo_jax import envs
from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy
from mbmpo_jax.policies import latent
from mbmpo_jax.rollouts import real


class Gaussian(nn.Module):
  """A ReLU layer and a deviation that depends on what is seen."""

  @nn.compact
  def __call__(self, seen):
    outputs = mlp.MLP((6,), 4)(seen)
    return distributions.Gaussian(*jnp.split(outputs, 2, -1))


class Categorical(nn.Module):
  """A softmax over three choices."""

  @nn.compact
  def __call__(self, seen):
    return distributions.Categorical(mlp.MLP((6,), 3)(seen))


Z = jnp.asarray([0.5, -1.0, 2.0])


def make(network=None):
  inner = flax_policy.make(network or Gaussian(), 5, 2)
  policy = latent.conditioned(inner, 3)
  return policy, inner, policy.init(jax.random.PRNGKey(0))


def test_the_latent_is_appended_and_kept():
  policy, inner, params = make()
  key, obs = jax.random.PRNGKey(1), jnp.ones((4, 2))
  carry = policy.start(params, key, Z, 4)
  noise = policy.noise(key, (4,))
  after, action = policy.act(params, carry, obs, noise)
  seen = jnp.concatenate([obs, jnp.tile(Z[None], (4, 1))], -1)
  _, expected = inner.act(params, (), seen, noise)
  np.testing.assert_array_equal(action.raw, expected.raw)
  np.testing.assert_array_equal(action.log_prob, expected.log_prob)
  np.testing.assert_array_equal(after.z, carry.z)
  np.testing.assert_array_equal(action.extras.z, carry.z)
  dist = policy.distribution(params, carry, obs)
  np.testing.assert_allclose(
    dist.log_prob(action.raw), action.log_prob, rtol=1e-5
  )


def test_every_rollout_may_have_its_own():
  policy, _, params = make()
  own = jnp.arange(12.0).reshape(4, 3)
  carry = policy.start(params, jax.random.PRNGKey(1), own, 4)
  np.testing.assert_array_equal(carry.z, own)
  nothing = policy.start(params, jax.random.PRNGKey(1), (), 4)
  np.testing.assert_array_equal(nothing.z, np.zeros((4, 3)))
  for shape in ((2,), (3, 3), (1, 3)):
    with pytest.raises(ValueError, match='the latent has shape'):
      policy.start(params, jax.random.PRNGKey(1), jnp.zeros(shape), 4)


def test_a_trajectory_knows_its_latent():
  """Also after an episode was cut; `over` replays it."""
  policy, _, params = make()
  trajectory, _ = real.rollout(
    envs.make('point'),
    policy,
    params,
    jax.random.PRNGKey(2),
    num_envs=4,
    horizon=6,
    context=Z,
    time_limit=3,
  )
  np.testing.assert_array_equal(
    trajectory.extras.z, np.broadcast_to(Z, (6, 4, 3))
  )
  dist = policy.over(params, trajectory)
  np.testing.assert_allclose(
    dist.log_prob(trajectory.action), trajectory.log_prob, rtol=1e-4
  )


def test_gradients_reach_the_latent():
  """And stop where they are stopped."""
  policy, _, params = make()

  def total(z, stop):
    z = jax.lax.stop_gradient(z) if stop else z
    carry = policy.start(params, jax.random.PRNGKey(1), z, 4)
    _, action = policy.act(params, carry, jnp.ones((4, 2)), None)
    return jnp.sum(action.raw)

  assert np.any(jax.grad(total)(Z, False) != 0)
  assert np.all(jax.grad(total)(Z, True) == 0)


def test_choices_may_be_conditioned_too():
  """The network of 128 units with a softmax, of a smaller size."""
  inner = flax_policy.make(
    Categorical(), 5, 3, noise=distributions.gumbel_noise
  )
  policy = latent.conditioned(inner, 3)
  params = policy.init(jax.random.PRNGKey(0))
  carry = policy.start(params, jax.random.PRNGKey(1), Z, 4)
  noise = policy.noise(jax.random.PRNGKey(2), (4,))
  _, action = policy.act(params, carry, jnp.ones((4, 2)), noise)
  np.testing.assert_array_equal(np.sum(action.env, -1), np.ones(4))


def test_features_are_of_the_observation_alone():
  inner = flax_policy.make(Gaussian(), 13, 2)
  policy = latent.conditioned(
    inner, 3, features=lambda obs: jnp.concatenate([obs] * 5, -1)
  )
  params = policy.init(jax.random.PRNGKey(0))
  carry = policy.start(params, jax.random.PRNGKey(1), Z, 4)
  obs = jnp.ones((4, 2))
  seen = latent.append(obs, carry.z, lambda obs: jnp.concatenate([obs] * 5, -1))
  np.testing.assert_array_equal(
    policy.distribution(params, carry, obs).mean,
    inner.distribution(params, (), seen).mean,
  )


def test_a_memory_behind_it_goes_on():
  """What came of an action is told with the latent appended."""

  def act(params, carry, obs, noise):
    return carry + 1, base.Action(obs, obs[:, :2], obs[:, 0], carry)

  counting = base.Policy(
    init=lambda key: (),
    start=lambda params, key, context, num: jnp.zeros(num),
    act=act,
    noise=lambda key, shape: jnp.zeros(shape),
    observe=lambda params, carry, step: carry + step.next_obs[:, -1],
  )
  policy = latent.conditioned(counting, 3)
  assert policy.distribution is None and policy.over is None
  carry = policy.start((), jax.random.PRNGKey(0), Z, 4)
  carry, action = policy.act((), carry, jnp.ones((4, 2)), None)
  np.testing.assert_array_equal(carry.inner, np.ones(4))
  np.testing.assert_array_equal(action.extras.inner, np.zeros(4))
  step = base.Experience(
    jnp.ones((4, 2)), action.env, jnp.zeros(4), jnp.ones((4, 2)), jnp.zeros(4)
  )
  carry = policy.observe((), carry, step)
  np.testing.assert_array_equal(carry.inner, np.full(4, 3.0))
