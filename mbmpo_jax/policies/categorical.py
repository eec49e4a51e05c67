"""A policy for discrete actions: the softmax of a flax MLP."""

import jax
from flax import linen as nn

from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy


class Network(nn.Module):
  """pi(a | s) = softmax(MLP(s)).

  Attributes:
    action_size: number of actions A.
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
  """

  action_size: int
  hidden_sizes: tuple[int, ...]
  activation: str = 'tanh'

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.Categorical:
    """The density [..., A] at observations [..., O]."""
    net = mlp.MLP(self.hidden_sizes, self.action_size, self.activation)
    return distributions.Categorical(net(obs))


def make(
  observation_size: int,
  action_size: int,
  hidden_sizes: tuple[int, ...],
  activation: str = 'tanh',
) -> base.Policy:
  """The policy for a discrete environment; actions are one-hot vectors.

  Args:
    observation_size: O.
    action_size: number of actions A.
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.

  Example:
    >>> policy = make(4, 3, (8,))
    >>> params = policy.init(jax.random.PRNGKey(0))
    >>> noise = policy.noise(jax.random.PRNGKey(1), (5,))
    >>> _, action = policy.act(params, (), jax.numpy.zeros((5, 4)), noise)
    >>> action.env.sum(-1).tolist()
    [1.0, 1.0, 1.0, 1.0, 1.0]
  """
  return flax_policy.make(
    Network(action_size, hidden_sizes, activation),
    observation_size,
    action_size,
    noise=distributions.gumbel_noise,
  )
