"""Half-cheetahs with different masses and damping, as in GSSM and CaDM.

The reward is u - 0.1 ||a||^2, where u is the displacement of the step divided
by its duration. Episodes do not terminate and have 1,000 steps. The task sets
are those of GSSM (Wang and van Hoof 2022, section 5), the rest is as in CaDM
(Lee et al. 2020).
"""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import half_cheetah
from mbmpo_jax.envs import locomotion
from mbmpo_jax.envs import mass_damping

_NOISE = locomotion.Noise(1e-3, normal=True)
_VARIANT = locomotion.Variant(
  frame_skip=5,
  control_cost=0.1,
  position_noise=_NOISE,
  velocity_noise=_NOISE,
  gymnasium=True,
)


class SpeedFirst(half_cheetah.HalfCheetah):
  """18 observations: u, `qpos[1:]` (8) and `qvel` (9), in CaDM's order.

  CaDM's models do not receive u as an input and predict its value. Here
  `model_input` includes u, because the models predict changes of observations.
  """

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(_VARIANT)

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns [u, positions, velocities]."""
    return jnp.roll(super().observe(pipeline_state), 1)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns u - 0.1 ||a||^2, [...]."""
    effort = jnp.sum(jnp.square(action), -1)
    return next_obs[..., 0] - self.variant.control_cost * effort

  def model_input(self, obs: jax.Array) -> jax.Array:
    """Replaces the pitch by its sine and cosine (period 2 pi), [..., 19]."""
    pitch = obs[..., 2:3]
    return jnp.concatenate(
      [obs[..., :2], jnp.sin(pitch), jnp.cos(pitch), obs[..., 3:]], -1
    )


class HalfCheetahs(mass_damping.MassDamping):
  """25 training tasks and 16 other test tasks."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = SpeedFirst()
