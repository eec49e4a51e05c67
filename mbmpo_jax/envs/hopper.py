"""Hopper: hop forward in the plane on one leg, without falling."""

from typing import ClassVar

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import locomotion

_UNIFORM = locomotion.Noise(0.005)
_BENCHMARK = locomotion.Variant(
  frame_skip=4,
  control_cost=0.1,
  alive_bonus=1.0,
  position_noise=_UNIFORM,
  velocity_noise=_UNIFORM,
  benchmark=True,
  height_cost=3.0,
  height=1.3,
  ends=False,
)
# The benchmark's environment with early termination.
EARLY = _BENCHMARK._replace(ends=True, alive_if_healthy=True)


class Hopper(locomotion.Locomotion):
  """11 observations, 3 actions; done where it falls.

  Observation: `qpos[1:]` (height, pitch, 3 joint angles) and `qvel` (forward,
  vertical and pitch velocity, 3 joint velocities), with `qvel` clipped to +-10.
  """

  asset = 'hopper.xml'
  can_terminate = True
  max_observed_velocity = 10.0
  variants: ClassVar = {
    'paper': locomotion.Variant(
      frame_skip=10, control_cost=1e-3, alive_bonus=1.0
    ),
    'gymnasium': locomotion.Variant(
      frame_skip=4,
      control_cost=1e-3,
      alive_bonus=1.0,
      position_noise=_UNIFORM,
      velocity_noise=_UNIFORM,
      gymnasium=True,
    ),
    'benchmark': _BENCHMARK,
  }

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Height above 0.7, |pitch| < 0.2, other numbers within +-100.

    The `benchmark` variant does not bound the other numbers.
    """
    height, pitch, rest = obs[..., 0], obs[..., 1], obs[..., 1:]
    stands = (height > 0.7) & (jnp.abs(pitch) < 0.2)
    if self.variant.benchmark:
      return stands
    return stands & jnp.all(jnp.abs(rest) < 100, -1)
