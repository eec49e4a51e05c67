"""Derivatives that are recorded once and applied many times.

`jax.linearize` returns a linear map that contains its recorded arrays. Here the
map and the record are separate. The record is a plain list of arrays, so it can
leave a loop, be stacked over tasks, and enter another loop.
"""

from collections.abc import Callable
from typing import Any

import jax

Record = list[jax.Array]


def record(fn: Callable[[Any], Any], x: Any) -> tuple[Any, Record]:
  """`fn(x)`, and the record of its derivative at `x` for `replay`."""
  # The `jit` isolates the computation. What is recorded then depends on shapes
  # only, not on whether this is traced in a loop or in a vmap.
  out, derivative = jax.jit(lambda x: jax.linearize(fn, x))(x)
  return out, jax.tree.leaves(derivative)


def replay(
  fn: Callable[..., Any], *args: Any
) -> Callable[[Record], Callable[[Any], Any]]:
  """A function that makes a linear map of a record.

  Args:
    fn: the recorded function, with the recorded input as first argument.
    *args: all arguments of `fn`, with the shapes and types of the recording;
      their values are not used.

  Returns:
    A function record -> (v -> J v).

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
