"""Half-cheetahs of other masses and damping, as GSSM and CaDM have them.

Reward u - 0.1 ||a||^2, u the distance of the step over its duration; never
done, 1,000 steps. GSSM (Wang and van Hoof 2022, section 5) has these task sets,
CaDM (Lee et al. 2020) the rest.
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
  """18 observations: u, `qpos[1:]` (8) and `qvel` (9).

  CaDM's order. Its models do not see u and predict it anew; `model_input` keeps
  it, as models that predict changes need it.
  """

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(_VARIANT)

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """[u, positions, velocities]."""
    return jnp.roll(super().observe(pipeline_state), 1)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """u - 0.1 ||a||^2, [...]."""
    effort = jnp.sum(jnp.square(action), -1)
    return next_obs[..., 0] - self.variant.control_cost * effort

  def model_input(self, obs: jax.Array) -> jax.Array:
    """The pitch as sine and cosine, so that full turns are alike; [..., 19]."""
    pitch = obs[..., 2:3]
    return jnp.concatenate(
      [obs[..., :2], jnp.sin(pitch), jnp.cos(pitch), obs[..., 3:]], -1
    )


class HalfCheetahs(mass_damping.MassDamping):
  """25 to train on, 16 others to be tested on."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = SpeedFirst()
