"""The policy of radial basis functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import rbf


def reference(params, x):
  """Unit by unit, at one observation."""
  p = jax.tree.map(np.asarray, params['params'])
  squared_lengths = np.exp(p['log_squares'])
  total = p['output']['bias'].copy()
  for centre, weight in zip(p['centres'], p['output']['kernel'], strict=True):
    distance = np.sum((x - centre) ** 2 / squared_lengths)
    total += weight * np.exp(-0.5 * distance)
  return total


@pytest.mark.parametrize('squash', rbf.SQUASHES)
def test_units_and_weights(squash, x64):
  policy = rbf.make(3, 2, num_units=5, squash=squash)
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 2, x.shape)),
    jax.eval_shape(policy.init, jax.random.PRNGKey(0)),
  )
  obs = rng.normal(size=(2, 4, 3))
  raw = policy.distribution(params, (), jnp.asarray(obs)).mode()
  env_action = policy.act(params, (), jnp.asarray(obs[0]), None)[1].env
  for i in np.ndindex(2, 4):
    expected = reference(params, obs[i])
    if squash == 'tanh':
      expected = np.tanh(expected)
    np.testing.assert_allclose(raw[i], expected, rtol=1e-10)
  np.testing.assert_allclose(env_action, np.clip(raw[0], -1, 1), rtol=1e-12)
  assert squash == 'tanh' or np.any(abs(raw[0]) > 1)


def test_it_begins_as_deep_pilco_does():
  """50 units, standard normal centres, squared lengths e."""
  policy = rbf.make(3, 1)
  params = policy.init(jax.random.PRNGKey(0))['params']
  assert params['centres'].shape == (50, 3)
  assert abs(np.std(params['centres']) - 1) < 0.2
  np.testing.assert_array_equal(params['log_squares'], [1, 1, 1])


def test_its_first_force_and_widths_are_chosen():
  """The same draws, 0.01 of the weights; l^2 of each feature."""
  params, small = (
    rbf.make(3, 1, init_scale=scale, init_widths=widths).init(
      jax.random.PRNGKey(0)
    )['params']
    for scale, widths in ((1.0, None), (0.01, (1.0, 1.0, 4.0)))
  )
  np.testing.assert_allclose(
    small['output']['kernel'], 0.01 * params['output']['kernel'], rtol=1e-5
  )
  np.testing.assert_array_equal(small['centres'], params['centres'])
  np.testing.assert_allclose(
    np.exp(small['log_squares']), np.e * np.asarray([1, 1, 4]), rtol=1e-6
  )


def test_it_may_look_at_features():
  """A pole that has turned once more is where it was."""
  env = envs.make('cartpole_swingup')
  policy = rbf.make(4, 1, num_units=5, features=env.model_input)
  params = policy.init(jax.random.PRNGKey(0))
  assert params['params']['centres'].shape == (5, 5)
  obs = jnp.asarray([[0.1, 0.2, 0.3, 0.4]])
  turned = obs.at[0, 2].add(2 * jnp.pi)
  first, second = (
    policy.distribution(params, (), x).mode() for x in (obs, turned)
  )
  np.testing.assert_allclose(first, second, rtol=1e-4)


def test_it_has_no_density():
  policy = rbf.make(3, 1, num_units=2)
  params = policy.init(jax.random.PRNGKey(0))
  dist = policy.distribution(params, (), jnp.ones((2, 3)))
  assert isinstance(dist, distributions.Deterministic)
  with pytest.raises(ValueError, match="squash='sine': must be one of"):
    rbf.make(3, 1, squash='sine')
