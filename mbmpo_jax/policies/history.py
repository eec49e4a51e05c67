"""A policy that remembers the last L steps of its episode: pi(a | h, s).

The carry is the window of these steps (`rollouts/history.py`). The network
reads the whole window again at every step, in acting as in training, so nothing
older than L steps has an influence.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax import types
from mbmpo_jax.networks import history as networks
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import squashed
from mbmpo_jax.rollouts import history


class Gaussian(nn.Module):
  """A squashed Gaussian policy with a GRU and an MLP.

  Attributes:
    action_size: A.
    hidden_sizes: units of each hidden layer.
    activation: one of `mlp.ACTIVATIONS`.
    units: size of the GRU's state.
    min_log_std: least log-deviation, before the tanh.
    max_log_std: greatest log-deviation, before the tanh.
  """

  action_size: int
  hidden_sizes: tuple[int, ...] = (256, 256)
  activation: str = 'swish'
  units: int = 32
  min_log_std: float = -5.0
  max_log_std: float = 2.0

  @nn.compact
  def __call__(self, obs: jax.Array, window: Any) -> distributions.TanhGaussian:
    """The density [..., A] at observations [..., O] with their histories."""
    outputs = networks.Network(
      self.hidden_sizes, 2 * self.action_size, self.activation, self.units
    )(obs, networks.of_window(window))
    return squashed.head(
      outputs, min_log_std=self.min_log_std, max_log_std=self.max_log_std
    )


def make(
  module: nn.Module, observation_size: int, action_size: int, *, length: int
) -> base.Policy:
  """The policy whose density `module` computes from observation and history.

  `start` takes the context () at the start of an episode. For an episode that
  has begun, as in branched rollouts, it takes a `Window` [N, L].

  Args:
    module: maps observations `[..., O]` and a `Window` to a distribution.
    observation_size: O.
    action_size: A.
    length: L. With 0 the policy has no memory, and the module receives () in
      place of a window.

  Example:
    >>> policy = make(Gaussian(2, (8,)), 3, 2, length=4)
    >>> params = policy.init(jax.random.PRNGKey(0))
    >>> carry = policy.start(params, jax.random.PRNGKey(1), (), 5)
    >>> carry, action = policy.act(params, carry, jnp.zeros((5, 3)), None)
    >>> action.env.shape, carry.obs.shape
    ((5, 2), (5, 4, 3))
  """
  empty = functools.partial(
    history.empty,
    observation_size=observation_size,
    action_size=action_size,
    length=length,
  )

  def init(key: jax.Array) -> types.Params:
    return module.init(key, jnp.zeros((1, observation_size)), empty(1))

  def distribution(params: types.Params, carry: Any, obs: jax.Array) -> Any:
    return module.apply(params, obs, carry)

  noise = functools.partial(distributions.normal_noise, action_size=action_size)
  if not length:
    return base.memoryless(
      init, lambda params, obs: distribution(params, (), obs), noise=noise
    )

  def start(params: types.Params, key: Any, context: Any, num: int) -> Any:
    del params, key
    if isinstance(context, history.Window):
      return context
    return empty(num)

  def act(
    params: types.Params, carry: Any, obs: jax.Array, noise: Any
  ) -> tuple[Any, base.Action]:
    return carry, base.take(distribution(params, carry, obs), noise)

  def observe(
    params: types.Params, carry: Any, step: base.Experience
  ) -> history.Window:
    del params
    return history.push(carry, step.obs, step.action, step.reward)

  def over(params: types.Params, trajectory: types.Trajectory) -> Any:
    window = history.along(empty(trajectory.obs.shape[1]), trajectory)
    return distribution(params, window, trajectory.obs)

  return base.Policy(
    init=init,
    start=start,
    act=act,
    noise=noise,
    distribution=distribution,
    over=over,
    observe=observe,
  )
