"""A clip with the gradient of the identity.

Back-propagation through time loses its gradient wherever a clip is active, for
example at an action bound or at the edge of the data. The clip in this module
clips the value and has the derivative of the identity, a straight-through
estimator (Bengio et al. 2013).
"""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def clip(
  x: jax.Array,
  low: jax.typing.ArrayLike,
  high: jax.typing.ArrayLike,
) -> jax.Array:
  """Clips `x` to [low, high]; d/dx is 1 everywhere, d/dlow and d/dhigh are 0.

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
