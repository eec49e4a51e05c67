"""The largest possible return, by dynamic programming on a lattice of states.

For an environment whose physics state has two numbers, such as the benchmark's
pendulum and mountain car, with V_0 = 0 and h steps left,

  V_h(s) = max_a r(s, a) + V_{h-1}(f(s, a)),

where f is `advance`, r is `reward`, and the maximum is over a lattice of
actions. V between the points of the lattice is bilinear (Bellman 1957).
"""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base


class Axis(NamedTuple):
  """Equally spaced values of one number of the state.

  Attributes:
    low: the smallest value.
    high: the largest one; an angle of this value is the same as `low`.
    size: the number of values.
    is_angle: whether the number is an angle with period `high - low`.
  """

  low: float
  high: float
  size: int
  is_angle: bool = False

  @property
  def values(self) -> jax.Array:
    """The values, [size]."""
    return jnp.linspace(
      self.low, self.high, self.size, endpoint=not self.is_angle
    )

  def place(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the two neighbours' indices and the weight of the second.

    Beyond the ends of an axis that is no angle, the weight is below 0 or above
    1: interpolation becomes linear extrapolation.
    """
    gaps = self.size if self.is_angle else self.size - 1
    scaled = (x - self.low) / (self.high - self.low) * gaps
    left = jnp.floor(scaled)
    if not self.is_angle:
      left = jnp.clip(left, 0, self.size - 2)
    index = left.astype(jnp.int32)
    return index % self.size, (index + 1) % self.size, scaled - left


# The lattices of states for environments of the benchmark; `finer` refines one.
LATTICES = {
  'pendulum': (
    Axis(-jnp.pi, jnp.pi, 361, is_angle=True),
    Axis(-8.0, 8.0, 201),
  ),
  'mountain_car': (Axis(-1.2, 0.6, 451), Axis(-0.07, 0.07, 141)),
}


def finer(axes: tuple[Axis, Axis]) -> tuple[Axis, Axis]:
  """Returns the lattice with half the distance between neighbours."""
  first, second = (
    axis._replace(size=2 * axis.size - (not axis.is_angle)) for axis in axes
  )
  return first, second


def interpolate(
  table: jax.Array, axes: tuple[Axis, Axis], states: jax.Array
) -> jax.Array:
  """Returns the bilinear values of `table` at `states`.

  Args:
    table: values at the points of the lattice, [I, J].
    axes: the lattice, of I and of J values.
    states: [..., 2].

  Returns:
    Values, [...].
  """
  chex.assert_shape(table, tuple(axis.size for axis in axes))
  (i, next_i, u), (j, next_j, v) = (
    axis.place(states[..., k]) for k, axis in enumerate(axes)
  )
  below = (1 - v) * table[i, j] + v * table[i, next_j]
  above = (1 - v) * table[next_i, j] + v * table[next_i, next_j]
  return (1 - u) * below + u * above


def optimal_values(
  env: base.Environment,
  axes: tuple[Axis, Axis],
  *,
  horizon: int,
  num_actions: int,
) -> jax.Array:
  """Returns the largest return of an episode from each point of a lattice.

  Args:
    env: an environment with a physics state [2] and one action in [-1, 1],
      which never terminates.
    axes: the lattice of states, of I and of J values.
    horizon: the steps of an episode.
    num_actions: the number of actions to choose from, equally spaced.

  Returns:
    V, [I, J].
  """
  states = jnp.stack(
    jnp.meshgrid(*(axis.values for axis in axes), indexing='ij'), -1
  )
  flat = states.reshape(-1, 2)
  actions = jnp.linspace(-1.0, 1.0, num_actions)

  def outcome(state: jax.Array, action: jax.Array) -> jax.Array:
    """The next state and the reward, [3]."""
    following = env.advance(state, action)
    reward = env.reward(env.observe(state), action, env.observe(following))
    return jnp.append(following, reward)

  def step(table: jax.Array, _: None) -> tuple[jax.Array, None]:
    def best(most: jax.Array, action: jax.Array) -> tuple[jax.Array, None]:
      found = jax.vmap(outcome, (0, None))(flat, action[None])
      value = found[:, 2] + interpolate(table, axes, found[:, :2])
      return jnp.maximum(most, value), None

    start = jnp.full(len(flat), -jnp.inf)
    return jax.lax.scan(best, start, actions)[0].reshape(table.shape), None

  start = jnp.zeros(states.shape[:-1])
  return jax.lax.scan(step, start, None, length=horizon)[0]
