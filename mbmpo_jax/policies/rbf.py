"""A policy made of radial basis functions, as PILCO and deep PILCO have it.

  phi_i(s) = exp(-1/2 sum_d (s_d - c_id)^2 / l_d^2)
  action   = squash(b + sum_i w_i phi_i(s)),

with 50 units for the cart-pole (Gal et al. 2016). Centres start standard
normal, and l^2 at e in every dimension, shared by all units, as in a public
version of deep PILCO. It is deterministic: a model's particles explore for it.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import flax_policy

SQUASHES = ('tanh', 'clip')


class RBF(nn.Module):
  """The network.

  Attributes:
    action_size: A.
    num_units: basis functions.
    squash: `tanh`, or `clip`, which leaves it to the action's own clip.
    features: what the units see of an observation, `[..., O] -> [..., F]`.
  """

  action_size: int
  num_units: int = 50
  squash: str = 'tanh'
  features: Callable[[jax.Array], jax.Array] = lambda obs: obs

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.Deterministic:
    """The action [..., A] at observations [..., O]."""
    x = self.features(obs)
    size = x.shape[-1]
    centres = self.param(
      'centres', nn.initializers.normal(1.0), (self.num_units, size)
    )
    log_squares = self.param('log_squares', nn.initializers.ones, (size,))
    # Scaled first: the differences are the only array [..., units, F].
    scale = jnp.exp(-0.5 * log_squares)
    shape = (1,) * (x.ndim - 1)
    scaled = (x * scale.reshape(*shape, size))[..., None, :]
    middle = (centres * scale[None]).reshape(*shape, self.num_units, size)
    squared = jnp.sum(jnp.square(scaled - middle), -1)
    output = nn.Dense(self.action_size, param_dtype=x.dtype, name='output')
    action = output(jnp.exp(-0.5 * squared))
    if self.squash == 'tanh':
      action = jnp.tanh(action)
    return distributions.Deterministic(action)


def make(
  observation_size: int,
  action_size: int,
  *,
  num_units: int = 50,
  squash: str = 'tanh',
  features: Callable[[jax.Array], jax.Array] = lambda obs: obs,
) -> base.Policy:
  """The policy for observations [..., O] and actions [..., A].

  Args:
    observation_size: O, with a latent's size where one is appended.
    action_size: A.
    num_units: basis functions.
    squash: `tanh` keeps the action within (-1, 1), and gradients alive; with
      `clip` what leaves [-1, 1] is clipped on its way to the world.
    features: what the units see of an observation, as the environment's
      `model_input`.

  Raises:
    ValueError: if `squash` is none of the two.
  """
  if squash not in SQUASHES:
    raise ValueError(f'squash={squash!r}: must be one of {SQUASHES}')
  network = RBF(action_size, num_units, squash, features)
  return flax_policy.make(network, observation_size, action_size)
