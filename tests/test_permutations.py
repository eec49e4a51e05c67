"""Random permutations of rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.models import permutations


@pytest.mark.parametrize('capacity', [1, 2, 3, 400, 4096, 4097, 2**18])
def test_an_order_has_every_index_once_and_what_is_valid_first(capacity):
  valid = np.asarray(
    jax.random.bernoulli(jax.random.PRNGKey(0), 0.7, (capacity,))
  )
  order = np.asarray(
    jax.jit(permutations.permutation)(jax.random.PRNGKey(1), jnp.asarray(valid))
  )
  assert sorted(order) == list(range(capacity))
  assert valid[order[: valid.sum()]].all()


def test_all_orders_are_equally_likely():
  keys = jax.random.split(jax.random.PRNGKey(2), 24_000)
  valid = jnp.array([True, True, False, True, True])
  orders = jax.vmap(lambda key: permutations.permutation(key, valid))(keys)
  found, counts = np.unique(np.asarray(orders), axis=0, return_counts=True)
  assert len(found) == 24  # 4!, the other index last
  # 1000 of each expected: 31 is their standard deviation.
  np.testing.assert_allclose(counts, 1000, atol=155)


def test_rounds_of_a_large_table_are_independent():
  # Each sorts by 13 bits, in which 32 of these rows agree: with one round alone
  # nearly every row would come after a lower one.
  order = np.asarray(
    permutations.permutation(jax.random.PRNGKey(3), jnp.ones(2**18, bool))
  )
  rising = np.mean(np.diff(order) > 0)
  # Its standard deviation is 0.0006; 26 bits leave it at 0.502 on average.
  assert abs(rising - 0.5) < 0.005


@pytest.mark.parametrize('capacity', [2, 4_000, 100_000, 10**7, 10**8])
def test_few_rows_agree_in_all_random_bits(capacity):
  index_bits, num_rounds = permutations._layout(capacity)
  assert 2**index_bits >= capacity
  assert capacity / 2 ** (num_rounds * (31 - index_bits)) <= 8
  assert num_rounds == 1 or capacity > 100_000


@pytest.mark.parametrize('count', [0, 1, 63, 64, 250, 251, 1000])
def test_the_first_rows_are_ordered_whatever_share_they_are(count):
  order = np.asarray(
    jax.jit(permutations.prefix_permutation, static_argnums=2)(
      jax.random.PRNGKey(4), jnp.int32(count), 1000
    )
  )
  assert order.shape == (1000,)
  assert sorted(order[:count]) == list(range(count))
  if count >= 63:
    assert (order[:count] != np.arange(count)).mean() > 0.9
  # No more than it takes: what was not sorted is zero.
  size = 63 if count <= 63 else 250 if count <= 250 else 1000
  assert not order[size:].any()
