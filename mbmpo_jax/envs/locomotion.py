"""What the running, hopping and swimming bodies share.

All of them are paid for moving forward, or, where d is -1, backward,

  r = w * d * v + alive - cost * ||a||^2,

and come in variants. `paper` is what the authors' code trains on: v is the
forward velocity in the next observation, `alive` is paid at every step.
`gymnasium` is Gymnasium's own version 5: v is the distance of the step over
its duration, `alive` is not paid where the episode ends. So that a model can
imagine that reward, this v is observed as well, as the last number.
`benchmark` is that of the public benchmark (Wang et al. 2019, MBBL): v is the
forward velocity in the observation *before* the step, and its height z there is
paid for, too, -3 (z - z0)^2. Episodes end only where a world's name ends in
`_et`, early termination; velocities are observed as they are.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import quaternions


class Noise(NamedTuple):
  """How far a reset is from rest, in every coordinate alike."""

  scale: float  # half the width if uniform, else the standard deviation
  normal: bool = False

  def draw(self, rng: jax.Array, size: int) -> jax.Array:
    """A deviation [size]; consumes `rng`."""
    if self.normal:
      return self.scale * jax.random.normal(rng, (size,))
    return jax.random.uniform(
      rng, (size,), minval=-self.scale, maxval=self.scale
    )


class Variant(NamedTuple):
  """In what one body's environments differ."""

  frame_skip: int  # physics steps per environment step
  control_cost: float  # weight of ||a||^2
  position_noise: Noise = Noise(0.01, normal=True)
  velocity_noise: Noise = Noise(0.1, normal=True)
  alive_bonus: float = 0.0
  velocity_weight: float = 1.0  # w
  contact_cost: float = 0.0  # of the ant's contact forces
  gymnasium: bool = False  # Gymnasium's reward, see above
  pays_the_end: bool = False  # alive in that reward even where an episode ends
  benchmark: bool = False  # the benchmark's reward and observation, see above
  height_cost: float = 0.0  # weight of (z - z0)^2 in it
  height: float = 0.0  # z0, m
  ends: bool = True  # episodes end where the body is not healthy
  alive_if_healthy: bool = False  # alive in that reward only where it is
  reach: float = 0.0  # m, of the swimmer's point by which distance is measured


class Locomotion(mjx.MjxEnvironment):
  """A body that moves forward, along x.

  Observation: `qpos` without the coordinates that do not matter (x, or x and
  y), `qvel`, and in the `gymnasium` variant the mean forward velocity of the
  step. A subclass names its file, its variants and, if it can fall, `healthy`.

  The physics state's user data are that mean velocity and the position x by
  which the next one is measured.

  Attributes:
    variants: by name; the first is the default.
    variant: the one in use.
    direction: d, 1 or -1; may be traced.
  """

  asset: ClassVar[str]
  variants: ClassVar[Mapping[str, Variant]]
  hidden_coordinates: ClassVar[int] = 1
  max_observed_velocity: ClassVar[float | None] = None
  max_episode_steps = 1000
  direction: jax.Array | float = 1.0

  def __init__(self, variant: str | Variant | None = None) -> None:
    """Loads the body for a variant or its name; the first one, by default."""
    if not isinstance(variant, Variant):
      variant = self.variants[variant or next(iter(self.variants))]
    self.variant = variant
    self.can_terminate = type(self).can_terminate and variant.ends
    super().__init__(
      mjx.ASSETS / self.asset, frame_skip=self.variant.frame_skip
    )
    self._velocity_index = self.mj_model.nq - self.hidden_coordinates
    self._body_size = self._velocity_index + self.mj_model.nv

  @property
  def observation_size(self) -> int:
    """Positions and velocities that matter, and what the variant adds."""
    return self._body_size + int(self.variant.gymnasium)

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Draws positions, of unit quaternions, and velocities around rest."""
    position_rng, velocity_rng = jax.random.split(rng)
    model = self.mj_model
    qpos = jnp.asarray(model.qpos0) + self.variant.position_noise.draw(
      position_rng, model.nq
    )
    qpos = quaternions.normalized(qpos, tuple(quaternions.addresses(model)))
    qvel = self.variant.velocity_noise.draw(velocity_rng, model.nv)
    return self.data(qpos, qvel)

  def data(self, qpos: jax.Array, qvel: jax.Array) -> mujoco_mjx.Data:
    """A physics state at rest in its solver, no step taken yet."""
    data = super().data(qpos, qvel)
    return data.replace(userdata=jnp.stack([qvel[0], qpos[0]]))

  def advance(
    self, pipeline_state: mujoco_mjx.Data, action: jax.Array
  ) -> mujoco_mjx.Data:
    """Physics steps, and the distance they went."""
    data = super().advance(pipeline_state, action)
    position = self.forward_position(data)
    velocity = (position - pipeline_state.userdata[1]) / self.dt
    return data.replace(userdata=jnp.stack([velocity, position]))

  def forward_position(self, data: mujoco_mjx.Data) -> jax.Array:
    """The x after a step by which the distance is measured, in metres."""
    return data.qpos[0]

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Positions, velocities and what the variant adds, [O]."""
    qvel = pipeline_state.qvel
    most = self._most_velocity
    if most is not None:
      qvel = jnp.clip(qvel, -most, most)
    parts = [pipeline_state.qpos[self.hidden_coordinates :], qvel]
    if self.variant.gymnasium:
      parts.append(pipeline_state.userdata[:1])
    return jnp.concatenate(parts)

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """w * d * v + alive - cost * ||a||^2, [...]."""
    variant = self.variant
    read = obs if variant.benchmark else next_obs
    index = -1 if variant.gymnasium else self._velocity_index
    forward = variant.velocity_weight * self.direction
    reward = forward * read[..., index] + variant.alive_bonus
    if variant.benchmark:
      off = jnp.square(read[..., 0] - variant.height)
      reward -= variant.height_cost * off
      if variant.alive_if_healthy:
        reward -= variant.alive_bonus * ~self.healthy(read)
    elif variant.gymnasium and not variant.pays_the_end:
      reward -= variant.alive_bonus * self.done(next_obs)
    return reward - variant.control_cost * jnp.sum(jnp.square(action), -1)

  def project(self, next_obs: jax.Array) -> jax.Array:
    """Unit quaternions, and velocities within those that are observed."""
    next_obs = super().project(next_obs)
    most = self._most_velocity
    if most is None:
      return next_obs
    velocities = slice(self._velocity_index, self._body_size)
    return next_obs.at[..., velocities].set(
      jnp.clip(next_obs[..., velocities], -most, most)
    )

  def _quaternion_places(self) -> tuple[int, ...]:
    first = self.hidden_coordinates
    return tuple(x - first for x in quaternions.addresses(self.mj_model))

  @property
  def _most_velocity(self) -> float | None:
    return None if self.variant.benchmark else self.max_observed_velocity

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Whether the body has not fallen, bool [...], by `obs` [..., O]."""
    return jnp.ones(obs.shape[:-1], bool)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """1. where the body is not healthy, in variants whose episodes end."""
    if not self.variant.ends:
      return super().done(next_obs)
    return (~self.healthy(next_obs)).astype(next_obs.dtype)
