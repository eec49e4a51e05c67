"""A policy made of radial basis functions, as in PILCO and deep PILCO.

  phi_i(s) = exp(-1/2 sum_d (s_d - c_id)^2 / l_d^2)
  action   = squash(b + sum_i w_i phi_i(s)),

with 50 units for the cart-pole (Gal et al. 2016). The centres c start standard
normal. The squared widths l^2 start at e in every dimension and are shared by
all units, as in a public version of deep PILCO. The policy is deterministic;
the model's particles provide exploration.

The scale of the initial weights w matters when the gradient flows through time.
With large initial actions, the cart-pole's policy soon saturates at a constant
force, where the gradient of tanh vanishes. With weights near 0 a constant force
gains nothing, by the symmetry of the hanging pole, but pumping energy does.
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
  """The network of basis functions.

  Attributes:
    action_size: A.
    num_units: number of basis functions.
    squash: `tanh`, or `clip`, which leaves the output to the clip of
      `distributions.Deterministic`.
    features: inputs of the units, `[..., O] -> [..., F]`.
    init_scale: scale of the initial weights; at 1 their standard deviation is
      1 / sqrt(num_units).
    init_widths: initial l^2 / e of each feature; 1 each by default.
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
    # Scaled first, so that the differences are the only array [..., units, F].
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
    observation_size: O, including the size of a latent if one is appended.
    action_size: A.
    num_units: number of basis functions.
    squash: `tanh` keeps the action within (-1, 1), with a nonzero gradient.
      With `clip` the action is clipped to [-1, 1] for the environment.
    features: inputs of the units, such as the environment's `model_input`.
    init_scale: scale of the initial weights.
    init_widths: initial l^2 / e of each feature; 1 each by default. With many
      features, such as those of a latent, use larger ones; otherwise inputs are
      far from all centres.

  Raises:
    ValueError: if `squash` is unknown.
  """
  if squash not in SQUASHES:
    raise ValueError(f'squash={squash!r}: must be one of {SQUASHES}')
  network = RBF(
    action_size, num_units, squash, features, init_scale, init_widths
  )
  return flax_policy.make(network, observation_size, action_size)
