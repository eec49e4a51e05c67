"""Base class of the running, hopping and swimming bodies.

Their reward pays for moving forward, or backward if d is -1:

  r = w * d * v + alive - cost * ||a||^2.

v and `alive` depend on the variant. `paper` is the environment in the authors'
code: v is the forward velocity in the next observation, and `alive` is paid at
every step. `gymnasium` is Gymnasium's version 5: v is the displacement of the
step divided by its duration, and `alive` is not paid at the step that ends the
episode. This v is appended to the observation, so that imagined rollouts can
compute the reward. `benchmark` is the environment of the public benchmark (Wang
et al. 2019, MBBL): v is the forward velocity in the observation *before* the
step, and for bodies that stand the reward has the additional term -3 (z -
z0)^2, where z is the height before the step. In this variant, episodes end only
in environments whose names end in `_et` (early termination), and velocities are
observed without clipping.
"""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax import straight_through
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import quaternions


class Noise(NamedTuple):
  """The distribution of the reset around rest, the same for each coordinate."""

  scale: float  # half the width if uniform, else the standard deviation
  normal: bool = False

  def draw(self, rng: jax.Array, size: int) -> jax.Array:
    """Draws a deviation [size]; consumes `rng`."""
    if self.normal:
      return self.scale * jax.random.normal(rng, (size,))
    return jax.random.uniform(
      rng, (size,), minval=-self.scale, maxval=self.scale
    )


class Variant(NamedTuple):
  """Parameters that differ between the variants of one body."""

  frame_skip: int  # physics steps per environment step
  control_cost: float  # weight of ||a||^2
  position_noise: Noise = Noise(0.01, normal=True)
  velocity_noise: Noise = Noise(0.1, normal=True)
  alive_bonus: float = 0.0
  velocity_weight: float = 1.0  # w
  contact_cost: float = 0.0  # weight of the ant's squared contact forces
  gymnasium: bool = False  # Gymnasium's reward, see the module
  pays_the_end: bool = False  # pays `alive` there at the end of an episode, too
  benchmark: bool = False  # the benchmark's reward, see the module
  height_cost: float = 0.0  # weight of (z - z0)^2 in the benchmark's reward
  height: float = 0.0  # z0, m
  ends: bool = True  # episodes end when the body is not healthy
  alive_if_healthy: bool = False  # benchmark: pays `alive` only if healthy
  reach: float = 0.0  # m, position of the swimmer's measured point


class Locomotion(mjx.MjxEnvironment):
  """A body that moves forward, along x.

  Observation: `qpos` without the coordinates that do not matter (x, or x and
  y), `qvel`, and in the `gymnasium` variant the mean forward velocity of the
  step. A subclass sets `asset` and `variants`, and implements `healthy` if the
  body can fall.

  The user data of the physics state are [mean forward velocity of the last
  step, position x from which the next displacement is measured].

  Attributes:
    variants: variants by name; the first is the default.
    variant: the variant in use.
    direction: d, 1 or -1; may be traced.
  """

  asset: ClassVar[str]
  variants: ClassVar[Mapping[str, Variant]]
  hidden_coordinates: ClassVar[int] = 1
  max_observed_velocity: ClassVar[float | None] = None
  max_episode_steps = 1000
  direction: jax.Array | float = 1.0

  def __init__(self, variant: str | Variant | None = None) -> None:
    """Loads the body.

    Args:
      variant: a variant or its name; the first one by default.
    """
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
    """The observed positions and velocities, and the variant's additions."""
    return self._body_size + int(self.variant.gymnasium)

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Draws positions and velocities around rest; consumes `rng`.

    Quaternions are normalised.
    """
    position_rng, velocity_rng = jax.random.split(rng)
    model = self.mj_model
    qpos = jnp.asarray(model.qpos0) + self.variant.position_noise.draw(
      position_rng, model.nq
    )
    qpos = quaternions.normalized(qpos, tuple(quaternions.addresses(model)))
    qvel = self.variant.velocity_noise.draw(velocity_rng, model.nv)
    return self.data(qpos, qvel)

  def data(self, qpos: jax.Array, qvel: jax.Array) -> mujoco_mjx.Data:
    """Returns a state with no step taken, from `qpos` [nq] and `qvel` [nv]."""
    data = super().data(qpos, qvel)
    return data.replace(userdata=jnp.stack([qvel[0], qpos[0]]))

  def advance(
    self, pipeline_state: mujoco_mjx.Data, action: jax.Array
  ) -> mujoco_mjx.Data:
    """Advances the physics and records the displacement of the step."""
    data = super().advance(pipeline_state, action)
    position = self.forward_position(data)
    velocity = (position - pipeline_state.userdata[1]) / self.dt
    return data.replace(userdata=jnp.stack([velocity, position]))

  def forward_position(self, data: mujoco_mjx.Data) -> jax.Array:
    """Returns the x, in m, by which displacement is measured."""
    return data.qpos[0]

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns positions, velocities and the variant's additions, [O]."""
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
    """Returns w * d * v + alive - cost * ||a||^2, [...]; see the module."""
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
    """Normalises quaternions and clips velocities to their observed range."""
    next_obs = super().project(next_obs)
    most = self._most_velocity
    if most is None:
      return next_obs
    velocities = slice(self._velocity_index, self._body_size)
    return next_obs.at[..., velocities].set(
      straight_through.clip(next_obs[..., velocities], -most, most)
    )

  def _quaternion_places(self) -> tuple[int, ...]:
    first = self.hidden_coordinates
    return tuple(x - first for x in quaternions.addresses(self.mj_model))

  @property
  def _most_velocity(self) -> float | None:
    return None if self.variant.benchmark else self.max_observed_velocity

  def healthy(self, obs: jax.Array) -> jax.Array:
    """Returns whether a body observed as `obs` [..., O] stands, bool [...]."""
    return jnp.ones(obs.shape[:-1], bool)

  def done(self, next_obs: jax.Array) -> jax.Array:
    """Returns 1. where the body is not healthy, if episodes can end."""
    if not self.variant.ends:
      return super().done(next_obs)
    return (~self.healthy(next_obs)).astype(next_obs.dtype)
