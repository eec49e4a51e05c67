"""PR2 reacher: bring the hand of a seven-joint arm to a goal in the air."""

import jax
import jax.numpy as jnp
import mujoco
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import mjx

# Half bent, in front of the robot; metres and radians.
_POSTURE = (-0.3, 0.3, -1.2, -1.2, 0.0, -0.6, 0.0)
_GOAL_CENTER = (0.55, -0.2, 0.0)
_GOAL_HALF_WIDTH = (0.15, 0.3, 0.25)
_JOINTS = 7


class Pr2Reacher(mjx.MjxEnvironment):
  """20 observations, 7 actions, 0.05 s per step, never done.

  Observation: joint angles (7), joint velocities (7), position of the tool
  centre point (3) and of the goal (3), in metres from the torso's axis at
  shoulder height. Reward (Clavera et al. 2018, appendix A.3):

    r = -||tcp - goal||^2 - 0.05 ||a||^2

  of the next observation; a is the torque over its limit. Reset: angles uniform
  within 0.1 of a posture, velocities normal with deviation 0.1, the goal
  uniform in a box of 0.3 x 0.6 x 0.5 m within the arm's reach.
  """

  max_episode_steps = 200
  can_terminate = False
  observation_size = 20

  def __init__(self) -> None:
    """Loads the arm."""
    super().__init__(mjx.ASSETS / 'pr2_reacher.xml', frame_skip=5)
    self._tool = mujoco.mj_name2id(
      self.mj_model, mujoco.mjtObj.mjOBJ_SITE, 'tool'
    )

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Draws a posture, its velocity, and a goal."""
    position_rng, velocity_rng, goal_rng = jax.random.split(rng, 3)
    qpos = jnp.asarray(_POSTURE) + jax.random.uniform(
      position_rng, (_JOINTS,), minval=-0.1, maxval=0.1
    )
    qvel = 0.1 * jax.random.normal(velocity_rng, (_JOINTS,))
    goal = jnp.asarray(_GOAL_CENTER) + jnp.asarray(
      _GOAL_HALF_WIDTH
    ) * jax.random.uniform(goal_rng, (3,), minval=-1.0, maxval=1.0)
    return self.data(qpos, qvel).replace(mocap_pos=goal[None])

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Angles, velocities, tool and goal, [20]."""
    # After a step, the positions of sites are still those before it.
    with jax.default_matmul_precision('highest'):
      data = mujoco_mjx.kinematics(self.model, pipeline_state)
    return jnp.concatenate(
      [
        pipeline_state.qpos,
        pipeline_state.qvel,
        data.site_xpos[self._tool],
        pipeline_state.mocap_pos[0],
      ]
    )

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """-||tcp - goal||^2 - 0.05 ||a||^2, [...]."""
    tool, goal = next_obs[..., -6:-3], next_obs[..., -3:]
    distance = jnp.sum(jnp.square(tool - goal), -1)
    return -distance - 0.05 * jnp.sum(jnp.square(action), -1)
