"""What an action may be: a point of a box, or one of several choices.

A discrete action is the one-hot vector of its choice, so that every action has
shape [..., A] in policies, models and buffers.
"""

import math
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np


class ActionSpace(Protocol):
  """All actions of a world."""

  @property
  def size(self) -> int:
    """A."""
    ...

  def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform actions `[*shape, A]`; consumes `key`."""
    ...

  def project(self, raw: jax.Array) -> jax.Array:
    """The allowed action `[..., A]` that anything `[..., A]` stands for."""
    ...

  def check(self, actions: jax.Array | np.ndarray) -> None:
    """Holds concrete actions `[..., A]` to the space.

    Raises:
      ValueError: one line with the first action at fault and what is allowed.
    """
    ...

  @property
  def log_prob_uniform(self) -> float:
    """The log-probability of a uniform action."""
    ...


class Box(NamedTuple):
  """All of [-1, 1]^A."""

  size: int

  def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform over the box, `[*shape, A]`; consumes `key`."""
    return jax.random.uniform(key, (*shape, self.size), float, -1.0, 1.0)

  def project(self, raw: jax.Array) -> jax.Array:
    """Clipped to [-1, 1]."""
    return jnp.clip(raw, -1.0, 1.0)

  def check(self, actions: jax.Array | np.ndarray) -> None:
    """Every number is within [-1, 1]."""
    rows = _rows(actions, self.size)
    bad = ~(np.abs(rows) <= 1).all(-1)  # NaN is not.
    if bad.any():
      raise ValueError(
        f'action {rows[bad.argmax()].tolist()}: must be within [-1, 1]'
      )

  @property
  def log_prob_uniform(self) -> float:
    """-A log 2, a density."""
    return -self.size * math.log(2.0)


class Discrete(NamedTuple):
  """A choices, as one-hot vectors."""

  size: int

  def sample(self, key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """A uniform choice each, `[*shape, A]`; consumes `key`."""
    return self._one_hot(jax.random.randint(key, shape, 0, self.size), float)

  def project(self, raw: jax.Array) -> jax.Array:
    """One-hot of the largest number's place."""
    return self._one_hot(jnp.argmax(raw, -1), raw.dtype)

  def check(self, actions: jax.Array | np.ndarray) -> None:
    """Every row is a one-hot vector."""
    rows = _rows(actions, self.size)
    bad = ~(np.isin(rows, (0, 1)).all(-1) & (rows.sum(-1) == 1))
    if bad.any():
      raise ValueError(
        f'action {rows[bad.argmax()].tolist()}: must be a one-hot vector of'
        f' {self.size} choices'
      )

  @property
  def log_prob_uniform(self) -> float:
    """-log A."""
    return -math.log(self.size)

  def _one_hot(
    self, index: jax.Array, dtype: jax.typing.DTypeLike
  ) -> jax.Array:
    # As a default, `float` is what JAX's precision makes of it.
    return jax.nn.one_hot(index, self.size, dtype=jnp.zeros((), dtype).dtype)


def _rows(actions: jax.Array | np.ndarray, size: int) -> np.ndarray:
  rows = np.asarray(actions)
  if rows.ndim < 1 or rows.shape[-1] != size:
    raise ValueError(
      f'actions have shape {list(rows.shape)}: must end in {size}'
    )
  return rows.reshape(-1, size)
