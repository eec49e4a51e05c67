"""A policy made of radial basis functions, as PILCO and deep PILCO have it.

  phi_i(s) = exp(-1/2 sum_d (s_d - c_id)^2 / l_d^2)
  action   = squash(b + sum_i w_i phi_i(s)),

with 50 units for the cart-pole (Gal et al. 2016). Centres start standard
normal, and l^2 at e in every dimension, shared by all units, as in a public
version of deep PILCO. It is deterministic: a model's particles explore for it.

Its first weights w decide what it can learn by a gradient through time: where
actions are strong at first, the cart-pole's policy soon pushes one way as hard
as it can, and tanh passes no gradient there. From weights near 0 a push gains
nothing, as the pole hangs to both sides alike, while pumping energy does.
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
    init_scale: of the first weights, 1 / sqrt(units) at 1.
    init_widths: l^2 / e at first, of each feature; 1 each by default.
  """

  action_size: int
  num_units: int = 50
  squash: str = 'tanh'
  features: Callable[[jax.Array], jax.Array] = lambda obs: obs
  init_scale: float = 1.0
  init_widths: tuple[float, ...] | None = None

  @nn.compact
  def __call__(self, obs: jax.Array) -> distributions.Deterministic:
    """The action [..., A] at observations [..., O]."""
    x = self.features(obs)
    size = x.shape[-1]
    centres = self.param(
      'centres', nn.initializers.normal(1.0), (self.num_units, size)
    )
    log_squares = self.param('log_squares', self._log_squares, (size,))
    # Scaled first: the differences are the only array [..., units, F].
    scale = jnp.exp(-0.5 * log_squares)
    shape = (1,) * (x.ndim - 1)
    scaled = (x * scale.reshape(*shape, size))[..., None, :]
    middle = (centres * scale[None]).reshape(*shape, self.num_units, size)
    squared = jnp.sum(jnp.square(scaled - middle), -1)
    output = nn.Dense(
      self.action_size,
      param_dtype=x.dtype,
      kernel_init=nn.initializers.variance_scaling(
        self.init_scale**2, 'fan_in', 'truncated_normal'
      ),
      name='output',
    )
    action = output(jnp.exp(-0.5 * squared))
    if self.squash == 'tanh':
      action = jnp.tanh(action)
    return distributions.Deterministic(action)

  def _log_squares(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    del key
    if self.init_widths is None:
      return jnp.ones(shape)
    return 1 + jnp.log(jnp.asarray(self.init_widths, float))


def make(
  observation_size: int,
  action_size: int,
  *,
  num_units: int = 50,
  squash: str = 'tanh',
  features: Callable[[jax.Array], jax.Array] = lambda obs: obs,
  init_scale: float = 1.0,
  init_widths: tuple[float, ...] | None = None,
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
    init_scale: of the first weights.
    init_widths: l^2 / e at first, of each feature; 1 each by default. With many
      features, as of a latent, wider ones: else no unit is near anything.

  Raises:
    ValueError: if `squash` is none of the two.
  """
  if squash not in SQUASHES:
    raise ValueError(f'squash={squash!r}: must be one of {SQUASHES}')
  network = RBF(
    action_size, num_units, squash, features, init_scale, init_widths
  )
  return flax_policy.make(network, observation_size, action_size)
