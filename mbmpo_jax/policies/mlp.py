"""The tanh network of the Gaussian policy.

  h_0 = x,    z_l = h_{l-1} W_l + b_l,    h_l = tanh(z_l),    output = z_L

Layers are `{'w': [in, out], 'b': [out]}`. In policy steps, `samples_last`
applies them to many samples at once.
"""

import jax
import jax.numpy as jnp

from mbmpo_jax import broadcasting

Layers = list[dict[str, jax.Array]]


def init(key: jax.Array, sizes: tuple[int, ...]) -> Layers:
  """Xavier-uniform weights and zero biases; consumes `key`.

  Args:
    key: consumed.
    sizes: units of the input, every hidden layer and the output.
  """
  xavier = jax.nn.initializers.xavier_uniform()
  return [
    {'w': xavier(layer_key, (fan_in, fan_out)), 'b': jnp.zeros(fan_out)}
    for layer_key, fan_in, fan_out in zip(
      jax.random.split(key, len(sizes) - 1), sizes[:-1], sizes[1:], strict=True
    )
  ]


def apply(layers: Layers, x: jax.Array) -> jax.Array:
  """The output [..., out] at inputs `x` [..., in]."""
  for index, layer in enumerate(layers):
    x = jnp.matmul(x, layer['w'], precision=jax.lax.Precision.HIGHEST)
    x = x + broadcasting.leading(layer['b'], x.ndim)
    if index < len(layers) - 1:
      x = jnp.tanh(x)
  return x


def spread(layers: Layers, shape: tuple[int, ...]) -> Layers:
  """Layers for `apply` at inputs [*shape, in], with a bias for every input.

  The outputs equal those of `layers`. The weights are shared, or have leading
  axes that are some of `shape` but its last axis. XLA vectorises tanh(z + b)
  only if b has the shape of z. The copy pays off if the same layers are applied
  many times.
  """
  return [
    {
      'w': layer['w'],
      'b': jnp.broadcast_to(
        jnp.expand_dims(layer['b'], -2), (*shape, layer['b'].shape[-1])
      ),
    }
    for layer in layers
  ]
