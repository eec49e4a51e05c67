"""Ants with one crippled leg: the leg is shorter and has no motors.

This is the environment of Learning to Adapt (Nagabandi et al. 2019). The two
actuators of the crippled leg have no effect. Its thigh and shin geoms are half
as long and thick, and the shin starts where the thigh does; the masses do not
change. The first three legs are the training tasks, the fourth is the test
task.

The reward is v + 0.05, where v is the velocity of the centre of mass over the
step. Episodes do not terminate and last 1,000 steps of 0.02 s. The body is
Gymnasium's; a step is two physics steps of 0.01 s.
"""

import jax
import jax.numpy as jnp
import numpy as np
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import ant
from mbmpo_jax.envs import body_family
from mbmpo_jax.envs import kinematics
from mbmpo_jax.envs import locomotion
from mbmpo_jax.envs import physics

LEGS = ('front_left', 'front_right', 'back_left', 'back_right')
_TORSO = 1
_ALIVE = 0.05


class FreeAnt(ant.Ant):
  """41 observations, 8 actions, never done.

  Observation: `qpos` (15), `qvel` (14), the torso's rotation matrix (9) and the
  centre of mass (3).
  """

  can_terminate = False
  observation_size = 41

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(locomotion.Variant(frame_skip=2, control_cost=0.0))

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns positions, velocities, rotation and centre of mass, [41]."""
    data = kinematics.placed(self.model, pipeline_state)
    center = kinematics.center_of_mass(self.model, data, _TORSO)
    rotation = data.xmat[_TORSO].reshape(-1)
    return jnp.concatenate([data.qpos, data.qvel, rotation, center])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns v + 0.05, [...]."""
    return (next_obs[..., -3] - obs[..., -3]) / self.dt + _ALIVE

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Normalises the quaternion and sets the rotation matrix from it."""
    next_obs = super().project(next_obs)
    w, x, y, z = jnp.moveaxis(next_obs[..., 3:7], -1, 0)
    rotation = [
      1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
      2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
      2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ]  # fmt: skip
    return next_obs.at[..., -12:-3].set(jnp.stack(rotation, -1))

  def _quaternion_places(self) -> tuple[int, ...]:
    return (3,)

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Always true."""
    return jnp.ones(obs.shape[:-1], bool)


class CrippledLeg(body_family.BodyFamily):
  """A task is a one-hot vector [4]: the crippled leg among `LEGS`."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = FreeAnt()
    model = self.nominal.mj_model
    joints = (model.joint(int(i)).name for i in model.actuator_trnid[:, 0])
    self._leg_of_actuator = np.array([int(name[-1]) - 1 for name in joints])
    self._thighs, self._shins = (
      np.array([model.geom(f'{leg}_{part}').id for leg in LEGS])
      for part in ('thigh', 'shin')
    )

  def trained_range(self) -> tuple[jax.Array, jax.Array]:
    """The zero vector and 1. for all legs but the last."""
    return jnp.zeros(4), jnp.asarray([1.0, 1.0, 1.0, 0.0])

  def sample_task(self, rng: jax.Array, split: str = 'train') -> jax.Array:
    """Draws a leg of the split uniformly; consumes `rng`."""
    low, high = (3, 4) if split == 'test' else (0, 3)
    return jnp.eye(4)[jax.random.randint(rng, (), low, high)]

  def test_tasks(self) -> jax.Array:
    """The last leg, [1, 4]."""
    return jnp.eye(4)[3:]

  def scales(self, task: jax.Array) -> physics.Scales:
    """Zero gear, geoms of half the size, and the shin at half the distance."""
    half = 1 - task / 2
    ones = jnp.ones(self.nominal.mj_model.ngeom)
    return physics.Scales(
      gear=1 - task[self._leg_of_actuator],
      size=ones.at[self._thighs].set(half).at[self._shins].set(half),
      offset=ones.at[self._shins].set(half),
    )

  def describe(self, task: jax.Array) -> str:
    """Names the crippled leg."""
    legs = [name for name, at in zip(LEGS, task, strict=True) if at > 0.5]
    names = ' and '.join(name.replace('_', ' ') for name in legs)
    return f'{names or "no"} leg crippled'
