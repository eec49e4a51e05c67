"""What networks with a memory compute, by hand: NumPy, float64."""

from typing import Any

import numpy as np


def _dense(params: dict[str, Any], x: np.ndarray) -> np.ndarray:
  out = x @ np.asarray(params['kernel'], np.float64)
  return (
    out + np.asarray(params['bias'], np.float64) if 'bias' in params else out
  )


def _sigmoid(x: np.ndarray) -> np.ndarray:
  return 1 / (1 + np.exp(-x))


def gru(
  cell: dict[str, Any], features: np.ndarray, mask: np.ndarray
) -> np.ndarray:
  """h [Z] after the steps of one history [L], those where `mask` is 1."""
  h = np.zeros(np.shape(cell['hr']['kernel'])[0])
  for x, live in zip(features, mask, strict=True):
    if not live:
      continue
    r = _sigmoid(_dense(cell['ir'], x) + _dense(cell['hr'], h))
    u = _sigmoid(_dense(cell['iz'], x) + _dense(cell['hz'], h))
    n = np.tanh(_dense(cell['in'], x) + r * _dense(cell['hn'], h))
    h = (1 - u) * n + u * h
  return h


def swish_mlp(layers: dict[str, Any], x: np.ndarray) -> np.ndarray:
  """Dense_0, Dense_1, ..., with x sigmoid(x) between."""
  for index in range(len(layers)):
    if index:
      x = x * _sigmoid(x)
    x = _dense(layers[f'Dense_{index}'], x)
  return x


def network(
  params: dict[str, Any],
  x: np.ndarray,
  features: np.ndarray | None = None,
  mask: np.ndarray | None = None,
) -> np.ndarray:
  """`networks.history.Network` at one input `x` [I]."""
  if features is not None:
    assert mask is not None
    cell = params['Encoder_0']['gru']['GRUCell_0']
    x = np.concatenate([gru(cell, features, mask), x])
  return swish_mlp(params['MLP_0'], x)


def bounded_gaussian(
  outputs: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of the model's Gaussian."""
  mean, x = np.split(outputs, 2, -1)
  x = high - np.logaddexp(0, high - x)
  return mean, np.exp(low + np.logaddexp(0, x - low))


def squashed(
  outputs: np.ndarray, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
  """Mean and deviation of the policy's Gaussian, before the tanh."""
  mean, x = np.split(outputs, 2, -1)
  return mean, np.exp(low + (high - low) * _sigmoid(x))


def windows(rows: Any, slot: int, length: int, size: int) -> list[int | None]:
  """The slots of the L steps before the one in `slot`, oldest first.

  `None` where the episode has no such step. It walks back through the ring step
  by step, and stops at what does not follow.
  """
  capacity = len(rows.time)
  found: list[int | None] = []
  at = slot
  for _ in range(length):
    previous = (at - 1) % capacity
    follows = (
      previous < size
      and rows.episode[previous] == rows.episode[slot]
      and rows.time[previous] == rows.time[at] - 1
    )
    if not follows:
      break
    found.append(previous)
    at = previous
  return [None] * (length - len(found)) + found[::-1]
