"""What the model-based algorithms refuse of a policy; their optimiser."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy
from tests import tiny


class Net(nn.Module):
  """A Gaussian of so many actions."""

  size: int

  @nn.compact
  def __call__(self, obs):
    mean = nn.Dense(self.size)(obs)
    return distributions.Gaussian(mean, jnp.zeros_like(mean))


class Choices(tiny.Countdown):
  """Takes one of three choices."""

  action_size = 3
  action_space = envs.Discrete(3)


def make(name: str, **options):
  config = tiny.point_config()
  if name != 'mbmpo':
    config = algorithms.config(name)()
    config.env.name, config.collect.episode_length = 'point', 10
    config.model_rollouts.horizon = 10
  env = options.pop('env', None) or envs.make('point')
  return algorithms.make(name, env, config, check=False, **options)


@pytest.mark.parametrize('name', ['mbmpo', 'me_trpo'])
def test_a_policy_that_does_not_fit_is_one_line(name):
  for policy, said in (
    (flax_policy.make(Net(3), 2, 3), r'actions have shape \[1, 3\]: must be'),
    (flax_policy.make(Net(2), 5, 2), r'cannot act on observations of shape'),
    (
      base.Policy(
        init=lambda key: (),
        start=lambda *args: (),
        act=lambda *args: None,
        noise=lambda key, shape: None,
      ),
      'has no density',
    ),
  ):
    with pytest.raises(config_lib.ConfigError, match=said) as raised:
      make(name, policy=policy)
    assert '\n' not in str(raised.value)
  assert make(name, policy=flax_policy.make(Net(2), 2, 2)).policy.over


@pytest.mark.parametrize('name', ['mbmpo', 'me_trpo'])
def test_choices_get_a_distribution_over_choices(name):
  policy = make(name, env=Choices()).policy
  dist = policy.distribution(
    policy.init(jax.random.PRNGKey(0)), (), jnp.zeros((2, 1))
  )
  assert isinstance(dist, distributions.Categorical)
  assert dist.logits.shape == (2, 3)
  policy = base.memoryless(
    lambda key: jnp.zeros((1, 3)),
    lambda params, obs: distributions.Categorical(obs @ params),
    noise=functools.partial(distributions.gumbel_noise, action_size=3),
  )
  assert make(name, env=Choices(), policy=policy).policy is policy


@pytest.mark.parametrize('decay', [0.0, 0.1])
def test_weight_decay(decay):
  """Three steps of the models' optimiser, against AdamW in float64."""
  rate = 0.01
  optimizer = model_based.optimizer(
    {'model.learning_rate': rate, 'model.weight_decay': jnp.float32(decay)}
  )
  expected = np.array([2.0, -1.0, 0.5])
  params = jnp.asarray(expected, jnp.float32)
  state = optimizer.init(params)
  mean, square = np.zeros(3), np.zeros(3)
  for t in range(1, 4):
    gradient = np.array([1.0, 0.1 * t, -3.0])
    mean = 0.9 * mean + 0.1 * gradient
    square = 0.999 * square + 0.001 * gradient**2
    direction = mean / (1 - 0.9**t)
    direction /= np.sqrt(square / (1 - 0.999**t)) + 1e-8
    expected = expected - rate * (direction + decay * expected)
    updates, state = optimizer.update(jnp.asarray(gradient), state, params)
    params = optax.apply_updates(params, updates)
  np.testing.assert_allclose(params, expected, rtol=1e-5)
