"""The humanoids of the public benchmark (Wang et al. 2019, MBBL).

The reward is (0.25 / 0.015) v - 0.1 ||u||^2 + 5 [1 <= z <= 2], where v is the
torso's forward velocity and z its height, both before the step, and u = 0.4 a.
The slim humanoid observes `qpos` and `qvel`. The full humanoid also observes
the contact forces c on its bodies, and its reward has the additional term
-min(5e-7 ||c||^2, 10), with c before the step.
"""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import humanoid
from mbmpo_jax.envs import kinematics

SLIM = humanoid.Humanoid.variants['standard']._replace(
  velocity_weight=0.25 / 0.015,
  benchmark=True,
  alive_if_healthy=True,
  ends=False,
)
# The environment with early termination.
SLIM_EARLY = SLIM._replace(ends=True)
_FORCE_COST, _MOST_FORCE_COST = 5e-7, 10.0


class Slim(humanoid.Humanoid):
  """45 observations, 17 actions."""

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Whether the height is in [1, 2]."""
    height = obs[..., 0]
    return (height >= 1.0) & (height <= 2.0)


class Full(Slim):
  """376 observations, 17 actions; done if the torso's height is out of range.

  Observation: the 45 numbers of the slim humanoid; for each of 14 bodies, which
  include MuJoCo's world body, the inertia (10) and velocity (6) about the
  centre of mass; the forces of the actuators on the 23 degrees of freedom; and
  the external force on each body (6).
  """

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(SLIM_EARLY)

  @property
  def observation_size(self) -> int:
    """The slim humanoid's size, 22 numbers per body, and actuator forces."""
    model = self.mj_model
    return super().observation_size + 22 * model.nbody + model.nv

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Draws the slim humanoid's state, with zero forces; consumes `rng`."""
    start = super().initial_state(rng)
    data = kinematics.placed(self.model, start)
    with jax.default_matmul_precision('highest'):
      data = mujoco_mjx.com_pos(self.model, data)
      data = mujoco_mjx.com_vel(self.model, data)
    return data.replace(qpos=start.qpos)

  def advance(
    self, pipeline_state: mujoco_mjx.Data, action: jax.Array
  ) -> mujoco_mjx.Data:
    """Advances the physics and computes the contact forces of the last step."""
    data = super().advance(pipeline_state, action)
    with jax.default_matmul_precision('highest'):
      return mujoco_mjx.rne_postconstraint(self.model, data)

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns the observation [376], see the class."""
    data = pipeline_state
    inner = data._impl
    parts = [inner.cinert, data.cvel, data.qfrc_actuator, inner.cfrc_ext]
    return jnp.concatenate(
      [super().observe(data), *(part.reshape(-1) for part in parts)]
    )

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns the slim humanoid's reward minus the contact cost, [...]."""
    reward = super().reward(obs, action, next_obs)
    forces = obs[..., -6 * self.mj_model.nbody :]
    cost = _FORCE_COST * jnp.sum(jnp.square(forces), -1)
    return reward - jnp.minimum(cost, _MOST_FORCE_COST)
