"""PR2 reacher: bring the hand of a seven-joint arm to a goal in the air."""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import mjx
from mbmpo_jax.optim import linear

# Reference joint angles (arm half bent in front of the robot) in radians, and
# the box of goals in metres.
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

  with tcp and goal from the next observation; a is the torque divided by its
  limit. Reset: the angles are uniform within 0.1 rad of a reference posture,
  the velocities are normal with standard deviation 0.1, and the goal is uniform
  in a box of 0.3 x 0.6 x 0.5 m within the arm's reach.
  """

  max_episode_steps = 200
  can_terminate = False
  observation_size = 20

  def __init__(self) -> None:
    """Loads the arm."""
    super().__init__(mjx.ASSETS / 'pr2_reacher.xml', frame_skip=5)
    links = self.mj_model.jnt_bodyid
    self._offsets = self.mj_model.body_pos[links]
    self._axes = self.mj_model.jnt_axis
    self._tool_offset = self.mj_model.site('tool').pos

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Draws a posture, its velocities and a goal; consumes `rng`."""
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
    """Returns angles, velocities, tool position and goal, [20]."""
    return jnp.concatenate(
      [
        pipeline_state.qpos,
        pipeline_state.qvel,
        self.tool_position(pipeline_state.qpos),
        pipeline_state.mocap_pos[0],
      ]
    )

  def tool_position(self, qpos: jax.Array) -> jax.Array:
    """Returns the position [3] of the tool centre point at angles `qpos` [7].

    Applies p <- p + R offset, R <- R exp(angle [axis]) along the chain, as a
    scan. MJX's kinematics of the whole body give the same result and take far
    longer to compile.
    """

    def link(
      pose: tuple[jax.Array, jax.Array], joint: tuple[jax.Array, ...]
    ) -> tuple[tuple[jax.Array, jax.Array], None]:
      position, rotation = pose
      offset, axis, angle = joint
      cross = jnp.cross(jnp.eye(3), axis[None])  # cross v = axis x v
      turn = (
        jnp.eye(3)
        + jnp.sin(angle) * cross
        + (1 - jnp.cos(angle)) * linear.dot(cross, cross)
      )
      position += linear.dot(rotation, offset)
      return (position, linear.dot(rotation, turn)), None

    chain = (jnp.asarray(self._offsets), jnp.asarray(self._axes), qpos)
    start = (jnp.zeros(3), jnp.eye(3))
    (position, rotation), _ = jax.lax.scan(link, start, chain)
    return position + linear.dot(rotation, jnp.asarray(self._tool_offset))

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """-||tcp - goal||^2 - 0.05 ||a||^2, [...]."""
    tool, goal = next_obs[..., -6:-3], next_obs[..., -3:]
    distance = jnp.sum(jnp.square(tool - goal), -1)
    return -distance - 0.05 * jnp.sum(jnp.square(action), -1)
