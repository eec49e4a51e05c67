"""A clip through which gradients pass.

Back-propagation through time loses its gradient at every clip that bites: an
action at its bound, a prediction at the edge of the data. Here the value is
clipped and the derivative is that of the identity (Bengio et al. 2013).
"""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def clip(
  x: jax.Array,
  low: jax.typing.ArrayLike,
  high: jax.typing.ArrayLike,
) -> jax.Array:
  """`x` within [low, high]; its derivative by `x` is 1, by the bounds 0.

  Example:
    >>> x = jnp.array([0.5, 3.0])
    >>> clip(x, -1.0, 1.0).tolist()
    [0.5, 1.0]
    >>> jax.grad(lambda x: jnp.sum(clip(x, -1.0, 1.0)))(x).tolist()
    [1.0, 1.0]
  """
  return jnp.clip(x, low, high)


@clip.defjvp
def _clip_jvp(
  primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
  return clip(*primals), tangents[0]
