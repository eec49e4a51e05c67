"""Walker2d: walk forward in the plane on two legs, without falling."""

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
# Sliding friction of the right foot in the benchmark. Its left foot has 1.9, as
# both feet have in the other variants.
_SLIDING = 0.9
# The benchmark's environment with early termination.
EARLY = _BENCHMARK._replace(ends=True, alive_if_healthy=True)


class Walker2d(locomotion.Locomotion):
  """17 observations, 6 actions; done where it falls.

  Observation: `qpos[1:]` (height, pitch, 6 joint angles) and `qvel` (forward,
  vertical and pitch velocity, 6 joint velocities), with `qvel` clipped to +-10.
  """

  asset = 'walker2d.xml'
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

  def __init__(self, variant: str | locomotion.Variant | None = None) -> None:
    """Loads the body, with the benchmark's foot friction in its variants."""
    super().__init__(variant)
    if self.variant.benchmark:
      self.mj_model.geom('foot').friction[0] = _SLIDING
      self.model = self.model.replace(
        geom_friction=jnp.asarray(self.mj_model.geom_friction)
      )

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Height between 0.8 and 2, pitch within +-1."""
    height, pitch = obs[..., 0], obs[..., 1]
    return (height > 0.8) & (height < 2.0) & (jnp.abs(pitch) < 1.0)
