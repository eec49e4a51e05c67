"""Functions of one task, mapped over all."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import tasks


@pytest.mark.parametrize('axes', [(5, 4), (2, 1), (1, 3), (1, 1)])
def test_map_tasks_is_over_tasks(axes):
  """Even and odd numbers of tasks, each with its own result in its place."""
  x = jnp.arange(np.prod(axes) * 6.0).reshape(*axes, 2, 3)

  def fn(tree, y):
    return {'sum': jnp.sum(tree['x'] * y), 'row': tree['x'][1]}

  y = 1 + jnp.arange(np.prod(axes)).reshape(axes)
  mapped = jax.jit(lambda x, y: tasks.map_tasks(fn, {'x': x}, y))(x, y)
  np.testing.assert_array_equal(mapped['sum'], jnp.sum(x, (2, 3)) * y)
  np.testing.assert_array_equal(mapped['row'], x[:, :, 1])
  every = tasks.over_tasks(fn)({'x': x}, y)
  assert jax.tree.all(jax.tree.map(jnp.array_equal, mapped, every))


def test_map_tasks_can_be_differentiated_and_vmapped():
  x = jnp.linspace(-1.0, 1.0, 12).reshape(2, 2, 3)

  def total(scale):
    return jnp.sum(tasks.map_tasks(lambda x: jnp.sin(scale * x), x))

  scales = jnp.array([0.5, 2.0])
  expected = [jnp.sum(x * jnp.cos(scale * x)) for scale in scales]
  gradients = jax.jit(jax.vmap(jax.grad(total)))(scales)
  np.testing.assert_allclose(gradients, expected, rtol=1e-5, atol=1e-6)


def test_what_a_task_without_weight_holds_does_not_matter():
  x = jnp.array([[1.0, jnp.nan], [3.0, 5.0]])
  weight = tasks.weights(jnp.array([[1.0, 0.0], [1.0, 0.0]]))
  assert tasks.mean(x, weight) == 2.0
  assert tasks.mean(x, tasks.weights(jnp.zeros((2, 2)))) == 0.0
