"""Action spaces: a box, or a finite set of choices.

A discrete action is a one-hot vector, so every action has shape [..., A] in
policies, models and buffers.
"""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class ActionSpace(Protocol):
  """The set of allowed actions of an environment."""

  @property
  def size(self) -> int:
    """The action size A."""
    ...

  def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws uniform actions `[*shape, A]`; consumes `key`."""
    ...

  def project(self, raw: jax.Array) -> jax.Array:
    """Maps arbitrary numbers `[..., A]` to an allowed action `[..., A]`."""
    ...

  def check(self, actions: jax.Array | np.ndarray) -> None:
    """Checks that concrete actions `[..., A]` are in the space.

    Raises:
      ValueError: one line with the first action at fault and what is allowed.
    """
    ...

  @property
  def log_prob_uniform(self) -> float:
    """The log-probability, or log-density, of a uniform action."""
    ...


class Box(NamedTuple):
  """The box [-1, 1]^A."""

  size: int

  def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws uniformly from the box, `[*shape, A]`; consumes `key`."""
    return jax.random.uniform(key, (*shape, self.size), float, -1.0, 1.0)

  def project(self, raw: jax.Array) -> jax.Array:
    """Clips to [-1, 1]."""
    return jnp.clip(raw, -1.0, 1.0)

  def check(self, actions: jax.Array | np.ndarray) -> None:
    """Checks that every number is within [-1, 1]."""
    rows = _rows(actions, self.size)
    bad = ~(np.abs(rows) <= 1).all(-1)  # NaN is not.
    if bad.any():
      raise ValueError(
        f'action {rows[bad.argmax()].tolist()}: must be within [-1, 1]'
      )

  @property
  def log_prob_uniform(self) -> float:
    """-A log 2, the log-density."""
    return -self.size * math.log(2.0)


class Discrete(NamedTuple):
  """A choices, represented by one-hot vectors."""

  size: int

  def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Draws uniform choices, `[*shape, A]`; consumes `key`."""
    return self._one_hot(jax.random.randint(key, shape, 0, self.size), float)

  def project(self, raw: jax.Array) -> jax.Array:
    """Returns the one-hot vector of the argmax."""
    return self._one_hot(jnp.argmax(raw, -1), raw.dtype)

  def check(self, actions: jax.Array | np.ndarray) -> None:
    """Checks that every row is a one-hot vector."""
    rows = _rows(actions, self.size)
    bad = ~(np.isin(rows, (0, 1)).all(-1) & (rows.sum(-1) == 1))
    if bad.any():
      raise ValueError(
        f'action {rows[bad.argmax()].tolist()}: must be a one-hot vector of'
        f' {self.size} choices'
      )

  @property
  def log_prob_uniform(self) -> float:
    """-log A, the log-probability."""
    return -math.log(self.size)

  def _one_hot(
    self, index: jax.Array, dtype: jax.typing.DTypeLike
  ) -> jax.Array:
    # Maps `float` to JAX's default float type.
    return jax.nn.one_hot(index, self.size, dtype=jnp.zeros((), dtype).dtype)


def _rows(actions: jax.Array | np.ndarray, size: int) -> np.ndarray:
  rows = np.asarray(actions)
  if rows.ndim < 1 or rows.shape[-1] != size:
    raise ValueError(
      f'actions have shape {list(rows.shape)}: must end in {size}'
    )
  return rows.reshape(-1, size)
