"""What differs between versions of JAX."""

import jax
import jax.numpy as jnp
import pytest

from mbmpo_jax import compat


def _summed(scale, rows):
  """A scan with one constant, two carried arrays and three sequences."""

  def step(carry, row):
    total, count = carry
    x, (y, z) = row
    return (total + scale * x * y, count + z), total

  return jax.lax.scan(step, (jnp.zeros(2), 0), rows)[1].sum()


@pytest.mark.parametrize('transform', [lambda f: f, jax.vmap])
def test_the_inputs_of_a_scan_are_told_apart(transform):
  """Shapes of the scan's inputs, without and with an axis that is mapped."""
  rows = (jnp.ones((5, 2)), (jnp.ones((5, 2)), jnp.ones(5, int)))
  args = (jnp.ones(2), rows)
  if transform is jax.vmap:
    args = jax.tree.map(lambda x: x[None], args)
  jaxpr = jax.make_jaxpr(transform(_summed))(*args)
  (scan,) = (x for x in jaxpr.eqns if x.primitive.name == 'scan')
  shapes = [tuple(n for n in v.aval.shape if n > 1) for v in scan.invars]
  parts = compat.scan_parts(scan.params, shapes)
  assert parts == ([(2,)], [(2,), ()], [(5, 2), (5, 2), (5,)])
