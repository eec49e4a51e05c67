"""Derivatives that are recorded once and applied many times.

`jax.linearize` gives a linear map with what it recorded inside. Here the two
are apart, the record an ordinary list of arrays: it can leave a loop, be
stacked over tasks and go on into another loop.
"""

from collections.abc import Callable
from typing import Any

import jax

Record = list[jax.Array]


def record(fn: Callable[[Any], Any], x: Any) -> tuple[Any, Record]:
  """`fn(x)`, and what its derivative at `x` needs of the way there."""
  # A program of its own: what is recorded then depends on shapes alone, not on
  # whether this is traced in a loop, in a vmap or in neither.
  out, derivative = jax.jit(lambda x: jax.linearize(fn, x))(x)
  return out, jax.tree.leaves(derivative)


def replay(
  fn: Callable[..., Any], *args: Any
) -> Callable[[Record], Callable[[Any], Any]]:
  """What makes a linear map of a record.

  Args:
    fn: that was recorded, as a function of its first argument.
    *args: arguments of the shapes and types of those it was recorded with;
      nothing is computed of them.

  Returns:
    record -> v -> J v.

  Example:
    >>> import jax.numpy as jnp
    >>> x = jnp.array(3.0)
    >>> _, recorded = record(jnp.square, x)
    >>> float(replay(jnp.square, x)(recorded)(1.0))
    6.0
  """

  def derivative(x: Any, *rest: Any) -> Any:
    return jax.linearize(lambda x: fn(x, *rest), x)[1]

  form = jax.tree.structure(jax.eval_shape(derivative, *args))
  return lambda recorded: jax.tree.unflatten(form, recorded)
