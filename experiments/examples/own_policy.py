"""A custom policy: a flax network, trained by MB-MPO and by plain TRPO.

  python experiments/examples/own_policy.py

The standard deviation of this policy depends on the state. Any network that
maps observations to a distribution works; no derivatives are needed by hand.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import algorithms
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.mbmpo import config as mbmpo_config
from mbmpo_jax.objectives import returns
from mbmpo_jax.optim import fisher
from mbmpo_jax.optim import trpo
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy
from mbmpo_jax.rollouts import real
from mbmpo_jax.training.launch import cache


class Network(nn.Module):
  """Two hidden layers; mean and log-std are computed from the same features."""

  action_size: int

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.Gaussian:
    for size in (32, 32):
      obs = nn.tanh(nn.Dense(size)(obs))
    mean, log_std = jnp.split(nn.Dense(2 * self.action_size)(obs), 2, -1)
    return distributions.Gaussian(mean, jnp.clip(log_std, -3.0, 1.0))


ENV = envs.make('point')
POLICY = flax_policy.make(Network(ENV.action_size), 2, ENV.action_size)


def meta_learn(key: jax.Array) -> None:
  """Runs iterations of MB-MPO: collect, fit the models, take meta-steps."""
  settings = mbmpo_config.Config()
  settings.env.name = 'point'
  settings.model.hidden_sizes = (64, 64)
  settings.collect.episode_length = settings.model_rollouts.horizon = 30
  settings.meta.inner_lr, settings.meta.num_meta_steps = 0.1, 10
  algorithm = algorithms.make('mbmpo', ENV, settings, policy=POLICY)
  state = algorithm.init(key, base.hyper(settings))
  update = jax.jit(algorithm.update)
  for iteration in range(5):
    state, metrics = update(state)
    print(f'MB-MPO {iteration}: return {metrics["real/return"]:.1f}')


@jax.jit
def step(theta, key: jax.Array):
  """Takes a TRPO step on real rollouts.

  Returns:
    The new theta, and the mean return before the step.
  """
  rollouts, _ = real.rollout(ENV, POLICY, theta, key, num_envs=64, horizon=30)
  advantages = returns.advantages(
    rollouts, discount=0.99, gae_lambda=1.0, ridge=1e-5
  )
  about = fisher.differentiate(POLICY, theta, rollouts, advantages)
  theta, _ = trpo.trpo_step(
    theta, about, max_kl=0.01, cg_iterations=10, damping=1e-5
  )
  return theta, jnp.mean(jnp.sum(rollouts.reward, 0))


if __name__ == '__main__':
  cache.enable()
  meta_learn(jax.random.PRNGKey(0))
  theta = POLICY.init(jax.random.PRNGKey(0))
  for index in range(30):
    theta, mean_return = step(theta, jax.random.PRNGKey(index))
    print(f'TRPO {index}: return {mean_return:.1f}')
