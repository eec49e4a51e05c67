"""Q learning once more in plain NumPy, float64: nothing here imports JAX.

Networks are tanh, so that every loss is analytic and takes complex parameters:
f'(x) = Im f(x + ih) / h holds to the last digit.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

_STEP = 1e-30


class Sizes(NamedTuple):
  """Of a batch."""

  rows: int = 7
  obs: int = 3
  action: int = 2


class Batch(NamedTuple):
  """Transitions; the first terminated, the second was cut by a time limit."""

  obs: np.ndarray
  action: np.ndarray
  reward: np.ndarray
  next_obs: np.ndarray
  terminated: np.ndarray
  truncated: np.ndarray


SIZES = Sizes()


def batch() -> Batch:
  """Rows 0 and 1 are alike but for how they ended."""
  rng = np.random.default_rng(0)
  rows, size, action = SIZES
  obs, next_obs = rng.normal(size=(2, rows, size))
  actions = rng.uniform(-1, 1, (rows, action))
  reward = rng.normal(size=rows)
  for x in (obs, next_obs, actions, reward):
    x[1] = x[0]
  ended = np.eye(rows)
  return Batch(obs, actions, reward, next_obs, ended[0], ended[1])


def noises() -> np.ndarray:
  """Two draws, [2, rows, action]."""
  rng = np.random.default_rng(1)
  return rng.normal(size=(2, SIZES.rows, SIZES.action))


def mlp(net: Any, x: np.ndarray) -> np.ndarray:
  """A tanh network of flax's parameters."""
  layers = [net[f'Dense_{i}'] for i in range(len(net))]
  for index, layer in enumerate(layers):
    x = x @ np.asarray(layer['kernel']) + np.asarray(layer['bias'])
    if index < len(layers) - 1:
      x = np.tanh(x)
  return x


def qs(params: Any, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
  """Q of all critics, [rows, C]."""
  x = np.concatenate([obs, action], -1)
  nets = params['params']
  count = len(nets)
  return np.concatenate([mlp(nets[f'critic_{i}'], x) for i in range(count)], -1)


def gradient(loss: Callable[[Any], Any], params: Any) -> Any:
  """Of a loss, number by number."""

  def replaced(tree: Any, path: tuple[str, ...], leaf: np.ndarray) -> Any:
    if not path:
      return leaf
    inner = replaced(tree[path[0]], path[1:], leaf)
    return {**tree, path[0]: inner}

  def of(tree: Any, path: tuple[str, ...]) -> Any:
    if isinstance(tree, dict):
      return {name: of(x, (*path, name)) for name, x in tree.items()}
    result = np.zeros(tree.shape)
    for index in np.ndindex(tree.shape):
      leaf = np.array(tree, complex)
      leaf[index] += 1j * _STEP
      result[index] = np.imag(loss(replaced(params, path, leaf))) / _STEP
    return result

  return of(params, ())
