"""The maths of `optim` and `policies.gaussian` once more, in plain NumPy.

An independent float64 implementation that the tests compare the JAX code
with: explicit loops over tasks, rollouts and time, live samples picked out
instead of masked, gradients by hand. Nothing here imports JAX or the package.

Second derivatives. Every function from the parameters to a loss is written
with analytic operations only (no conjugates, no absolute values), so it also
takes complex parameters, and f'(x) = Im f(x + ih) / h holds to the last digit:
no difference is formed that could cancel. `jacobian` does that. A Hessian is
the central difference of such an exact gradient.

Parameters are the policy's pytree, `{'layers': [{'w': [I, J], 'b': [J]}, ...],
'log_std': [A]}`; `flatten` and `unflatten` fix the order used for vectors.
"""

import functools
import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Params = dict[str, Any]
Vector = np.ndarray

_IMAGINARY_STEP = 1e-30
_REAL_STEP = 1e-5
_MIN_STD = 1e-6


class Samples(NamedTuple):
  """Live time steps of one task, flat."""

  obs: np.ndarray  # [S, O]
  action: np.ndarray  # [S, A]
  log_prob: np.ndarray  # [S], as stored with the samples
  advantages: np.ndarray  # [S]


class Task(NamedTuple):
  """One task: what it adapts to, and what the adapted policy is judged on."""

  pre: Samples
  post: Samples
  weight: float


# Returns, baseline, advantages: time-major [T, N], one task.


def discounted_returns(
  rewards: np.ndarray, mask: np.ndarray, discount: float
) -> np.ndarray:
  """Sum of the rewards from a step to its rollout's end, [T, N]."""
  horizon, rollouts = rewards.shape
  returns = np.zeros((horizon, rollouts))
  for n in range(rollouts):
    for start in range(horizon):
      for t in range(start, horizon):
        if not mask[t, n]:
          break
        returns[start, n] += discount ** (t - start) * rewards[t, n]
  return returns


def features(obs: np.ndarray, t: int) -> np.ndarray:
  """Of one observation [O] at step t, `[2 * O + 4]`."""
  clipped = np.clip(obs, -10.0, 10.0)
  time = t / 100.0
  return np.concatenate([clipped, clipped**2, [time, time**2, time**3, 1.0]])


def baseline_weights(
  obs: np.ndarray, targets: np.ndarray, mask: np.ndarray, ridge: float
) -> np.ndarray:
  """Ridge regression of the live targets on their features, unscaled.

  The constant, the last of them, is not penalised.
  """
  horizon, rollouts = mask.shape
  live = [(t, n) for t in range(horizon) for n in range(rollouts) if mask[t, n]]
  rows = np.stack([features(obs[t, n], t) for t, n in live])
  live_targets = np.array([targets[t, n] for t, n in live])
  gram = rows.T @ rows + ridge * np.eye(rows.shape[1])
  gram[-1, -1] -= ridge
  return np.linalg.solve(gram, rows.T @ live_targets)


def baseline_values(
  weights: np.ndarray, obs: np.ndarray, mask: np.ndarray
) -> np.ndarray:
  """The baseline at live steps, 0 elsewhere, [T, N]."""
  values = np.zeros(mask.shape)
  for t in range(mask.shape[0]):
    for n in range(mask.shape[1]):
      if mask[t, n]:
        values[t, n] = features(obs[t, n], t) @ weights
  return values


def gae(
  rewards: np.ndarray,
  values: np.ndarray,
  mask: np.ndarray,
  discount: float,
  gae_lambda: float,
) -> np.ndarray:
  """Advantages as the defining double sum of discounted TD errors, [T, N]."""
  horizon, rollouts = rewards.shape
  advantages = np.zeros((horizon, rollouts))
  for n in range(rollouts):
    # Masks never come back to 1, so a rollout is its first `length` steps.
    length = int(np.sum(mask[:, n]))
    for start in range(length):
      for t in range(start, length):
        following = values[t + 1, n] if t + 1 < length else 0.0
        error = rewards[t, n] + discount * following - values[t, n]
        decay = (discount * gae_lambda) ** (t - start)
        advantages[start, n] += decay * error
  return advantages


def standardize(advantages: np.ndarray, mask: np.ndarray) -> np.ndarray:
  """Zero mean and unit deviation over live steps, 0 elsewhere, [T, N]."""
  live = advantages[mask == 1.0]
  scaled = np.zeros(advantages.shape)
  scaled[mask == 1.0] = (live - np.mean(live)) / (np.std(live) + 1e-8)
  return scaled


# The policy.


def _forward(params: Params, obs: np.ndarray) -> list[np.ndarray]:
  """Input and output of every layer; the last one is the mean."""
  activations = [obs]
  for depth, layer in enumerate(params['layers']):
    output = activations[-1] @ layer['w'] + layer['b']
    is_last = depth == len(params['layers']) - 1
    activations.append(output if is_last else np.tanh(output))
  return activations


def _backward(
  params: Params,
  activations: list[np.ndarray],
  d_mean: np.ndarray,
  d_log_std: np.ndarray,
) -> Params:
  """Gradient in the parameters, from that in mean [S, A] and log-std [A]."""
  layers = []
  d_output = d_mean
  for depth in reversed(range(len(params['layers']))):
    inputs = activations[depth]
    layers.append({'w': inputs.T @ d_output, 'b': np.sum(d_output, axis=0)})
    # A hidden layer's input is a tanh, whose derivative is 1 - tanh^2.
    d_output = (d_output @ params['layers'][depth]['w'].T) * (1.0 - inputs**2)
  # Below the floor the standard deviation does not move with its parameter.
  d_log_std = np.where(_above_floor(params), d_log_std, 0.0)
  return {'layers': layers[::-1], 'log_std': d_log_std}


def _above_floor(params: Params, min_std: float = _MIN_STD) -> np.ndarray:
  return np.real(params['log_std']) > np.log(min_std)


def mean(params: Params, obs: np.ndarray) -> np.ndarray:
  """Mean action, [S, A]."""
  return _forward(params, obs)[-1]


def log_std(params: Params, min_std: float = _MIN_STD) -> np.ndarray:
  """Log of the standard deviation after its floor, [A]."""
  above = _above_floor(params, min_std)
  return np.where(above, params['log_std'], np.log(min_std))


def log_prob(params: Params, obs: np.ndarray, action: np.ndarray) -> np.ndarray:
  """Log-density of actions [S, A] under the policy, [S]."""
  scale = log_std(params)
  z = (action - mean(params, obs)) / np.exp(scale)
  return np.sum(-0.5 * z**2 - scale - 0.5 * np.log(2.0 * np.pi), axis=-1)


def kl(old: Params, new: Params, obs: np.ndarray) -> np.ndarray:
  """KL(old || new) at every observation, [S]."""
  old_scale, new_scale = log_std(old), log_std(new)
  gap = mean(old, obs) - mean(new, obs)
  moments = (np.exp(2.0 * old_scale) + gap**2) / np.exp(2.0 * new_scale)
  return np.sum(new_scale - old_scale + 0.5 * moments - 0.5, axis=-1)


def entropy(params: Params) -> float:
  """Of the policy at any observation."""
  return np.sum(log_std(params) + 0.5 * np.log(2.0 * np.pi * np.e))


# The adaptation.


def _ratio(params: Params, samples: Samples) -> np.ndarray:
  new = log_prob(params, samples.obs, samples.action)
  return np.exp(new - samples.log_prob)


def inner_objective(params: Params, samples: Samples, kind: str) -> float:
  """What one adaptation step climbs."""
  if kind == 'likelihood_ratio':
    return np.mean(_ratio(params, samples) * samples.advantages)
  log_probs = log_prob(params, samples.obs, samples.action)
  return np.mean(log_probs * samples.advantages)


def inner_gradient(params: Params, samples: Samples, kind: str) -> Params:
  """Gradient of `inner_objective`, by hand."""
  activations = _forward(params, samples.obs)
  std = np.exp(log_std(params))
  z = (samples.action - activations[-1]) / std
  weight = samples.advantages / len(samples.advantages)
  if kind == 'likelihood_ratio':
    weight = weight * _ratio(params, samples)
  d_mean = weight[:, None] * z / std
  d_log_std = np.sum(weight[:, None] * (z**2 - 1.0), axis=0)
  return _backward(params, activations, d_mean, d_log_std)


def adapt(
  params: Params, samples: Samples, inner_lr: float, kind: str
) -> Params:
  """theta' = theta + alpha * gradient."""
  gradient = inner_gradient(params, samples, kind)
  moved = flatten(params) + inner_lr * flatten(gradient)
  return unflatten(moved, params)


# The outer objective. `tasks` is any list, whatever members they belong to.


def _weighted(values: list[Any], tasks: list[Task]) -> Any:
  """Mean over tasks; those of weight 0 are not looked at."""
  pairs = list(zip(values, tasks, strict=True))
  total = sum(task.weight for task in tasks)
  return sum(t.weight * value for value, t in pairs if t.weight) / total


def surrogate(
  params: Params, tasks: list[Task], inner_lr: float, kind: str
) -> float:
  """Expected advantage of the adapted policies, to be maximised."""
  values = []
  for task in tasks:
    adapted = adapt(params, task.pre, inner_lr, kind)
    ratio = _ratio(adapted, task.post)
    values.append(np.mean(ratio * task.post.advantages))
  return _weighted(values, tasks)


def mean_entropy(
  params: Params, tasks: list[Task], inner_lr: float, kind: str
) -> float:
  """Entropy of the adapted policies."""
  adapted = [adapt(params, task.pre, inner_lr, kind) for task in tasks]
  return _weighted([entropy(policy) for policy in adapted], tasks)


def mean_kl(
  params: Params,
  old: list[Params],
  tasks: list[Task],
  inner_lr: float,
  kind: str,
) -> float:
  """KL of the adapted policies from the fixed `old` ones, one per task."""
  values = []
  for task, before in zip(tasks, old, strict=True):
    adapted = adapt(params, task.pre, inner_lr, kind)
    values.append(np.mean(kl(before, adapted, task.post.obs)))
  return _weighted(values, tasks)


# Derivatives in the flat parameters.


def flatten(params: Params) -> Vector:
  """Weights and biases layer by layer, then the log-std."""
  leaves = [layer[name] for layer in params['layers'] for name in ('w', 'b')]
  return np.concatenate([np.ravel(x) for x in [*leaves, params['log_std']]])


def unflatten(vector: Vector, like: Params) -> Params:
  """Inverse of `flatten`, shapes as in `like`."""
  start = 0

  def take(leaf: np.ndarray) -> np.ndarray:
    nonlocal start
    start += leaf.size
    return vector[start - leaf.size : start].reshape(leaf.shape)

  layers = [
    {name: take(layer[name]) for name in ('w', 'b')} for layer in like['layers']
  ]
  return {'layers': layers, 'log_std': take(like['log_std'])}


def jacobian(fn: Callable[[Vector], Any], x: Vector) -> np.ndarray:
  """Derivative of an analytic fn, `[..., len(x)]`, exact to rounding."""
  columns = []
  for index in range(len(x)):
    shifted = x.astype(complex)
    shifted[index] += 1j * _IMAGINARY_STEP
    columns.append(np.imag(fn(shifted)) / _IMAGINARY_STEP)
  return np.stack(columns, axis=-1)


def hessian(
  fn: Callable[[Vector], Any], x: Vector, step: float = _REAL_STEP
) -> np.ndarray:
  """Central difference of the exact gradient, made symmetric."""
  matrix = finite_difference(lambda y: jacobian(fn, y), x, step)
  return (matrix + matrix.T) / 2.0


def finite_difference(
  fn: Callable[[Vector], Any], x: Vector, step: float = _REAL_STEP
) -> np.ndarray:
  """Derivative of any fn by central differences, `[..., len(x)]`."""
  columns = []
  for index in range(len(x)):
    shift = np.zeros(len(x))
    shift[index] = step
    columns.append((fn(x + shift) - fn(x - shift)) / (2.0 * step))
  return np.stack(columns, axis=-1)


# The trust-region step.


def conjugate_gradients(
  matrix: np.ndarray, target: Vector, iterations: int
) -> Vector:
  """Textbook CG from 0, no preconditioner and no early stop but an exact 0."""
  x = np.zeros(len(target))
  residual = target - matrix @ x
  direction = residual
  for _ in range(iterations):
    if residual @ residual == 0.0:
      break
    product = matrix @ direction
    length = (residual @ residual) / (direction @ product)
    x = x + length * direction
    shrunk = residual - length * product
    ratio = (shrunk @ shrunk) / (residual @ residual)
    residual, direction = shrunk, shrunk + ratio * direction
  return x


class Step(NamedTuple):
  """The outcome of a trust-region step."""

  theta: Vector
  full_step: Vector  # before backtracking
  accepted: bool
  backtracks: int  # the first accepted exponent


def trpo_step(
  theta: Vector,
  surrogate_fn: Callable[[Vector], float],
  kl_fn: Callable[[Vector], float],
  kl_hessian: np.ndarray,
  *,
  max_kl: float,
  cg_iterations: int = 10,
  damping: float = 1e-5,
  backtrack_ratio: float = 0.8,
  max_backtracks: int = 15,
) -> Step:
  """Climbs surrogate_fn within a ball of kl_fn, whose Hessian is given."""
  gradient = jacobian(surrogate_fn, theta)
  curvature = kl_hessian + damping * np.eye(len(theta))
  x = conjugate_gradients(curvature, gradient, cg_iterations)
  full_step = np.sqrt(2.0 * max_kl / (x @ curvature @ x + 1e-8)) * x
  before = surrogate_fn(theta)
  for exponent in range(max_backtracks):
    candidate = theta + backtrack_ratio**exponent * full_step
    after, distance = surrogate_fn(candidate), kl_fn(candidate)
    finite = np.all(np.isfinite([*candidate, after, distance]))
    if finite and after > before and distance <= max_kl:
      return Step(candidate, full_step, True, exponent)
  return Step(theta, full_step, False, max_backtracks)


# Data.


class Problem(NamedTuple):
  """Tasks with every axis, `[K, P, T, N, ...]`, and their live samples."""

  params: Params
  pre: dict[str, np.ndarray]  # obs, action, log_prob, advantages, mask
  post: dict[str, np.ndarray]
  weights: np.ndarray  # w_i, [K, P]
  tasks: list[Task]  # K * P of them, member-major
  old: list[Params]  # their adapted policies at `params`


def make_params(
  rng: np.random.Generator, sizes: tuple[int, ...] = (2, 4, 2, 2)
) -> Params:
  """A policy of these layer sizes with nothing at zero."""
  layers = []
  for fan_in, fan_out in itertools.pairwise(sizes):
    w = rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in)
    layers.append({'w': w, 'b': 0.3 * rng.normal(size=fan_out)})
  return {'layers': layers, 'log_std': rng.uniform(-0.6, 0.4, sizes[-1])}


@functools.cache
def make_problem(
  inner_lr: float,
  kind: str,
  *,
  seed: int = 5,
  axes: tuple[int, int, int, int] = (2, 3, 6, 4),
  dead: float = 0.0,
) -> Problem:
  """Random tasks of unequal lengths and weights, the last but one's 0.

  The stored log-probabilities differ a little from those of the policies that
  adapt, as if another policy had sampled: whoever recomputes them is found out.

  Args:
    inner_lr: alpha, with which the old adapted policies are made.
    kind: the inner objective.
    seed: of everything.
    axes: members, tasks per member, steps, rollouts.
    dead: what fills every masked entry.

  Returns:
    The problem.
  """
  rng = np.random.default_rng(seed)
  params = make_params(rng)
  sizes = len(params['layers'][0]['w']), len(params['log_std'])
  tasks, old, batches = [], [], []
  weights = np.ones(axes[:2])
  weights.flat[:2], weights.flat[-2] = (0.5, 2.0), 0.0
  for weight in weights.flat:
    pre, pre_batch = _make_samples(rng, params, axes[2:], sizes, dead)
    adapted = adapt(params, pre, inner_lr, kind)
    post, post_batch = _make_samples(rng, adapted, axes[2:], sizes, dead)
    tasks.append(Task(pre, post, float(weight)))
    old.append(adapted)
    batches.append((pre_batch, post_batch))
  pre, post = (
    {
      name: np.reshape([b[side][name] for b in batches], axes[:2] + array.shape)
      for name, array in batches[0][side].items()
    }
    for side in (0, 1)
  )
  return Problem(params, pre, post, weights, tasks, old)


@functools.cache
def kl_hessian(inner_lr: float, kind: str) -> np.ndarray:
  """Of the mean KL of `make_problem(inner_lr, kind)` at its parameters."""
  problem = make_problem(inner_lr, kind)

  def distance(vector: Vector) -> float:
    params = unflatten(vector, problem.params)
    return mean_kl(params, problem.old, problem.tasks, inner_lr, kind)

  return hessian(distance, flatten(problem.params))


def _make_samples(
  rng: np.random.Generator,
  params: Params,
  axes: tuple[int, int],
  sizes: tuple[int, int],
  dead: float,
) -> tuple[Samples, dict[str, np.ndarray]]:
  horizon, rollouts = axes
  lengths = rng.integers(1, horizon + 1, size=rollouts)
  live = np.arange(horizon)[:, None] < lengths
  obs = rng.normal(size=(int(np.sum(live)), sizes[0]))
  noise = rng.normal(size=(len(obs), sizes[1]))
  action = mean(params, obs) + np.exp(log_std(params)) * noise
  stored = log_prob(params, obs, action) + 0.1 * rng.normal(size=len(obs))
  advantages = standardize(rng.normal(size=len(obs)), np.ones(len(obs)))
  samples = Samples(obs, action, stored, advantages)
  batch = {'mask': live.astype(float)}
  for name, values in samples._asdict().items():
    batch[name] = np.full((horizon, rollouts, *values.shape[1:]), dead)
    batch[name][live] = values
  return samples, batch
