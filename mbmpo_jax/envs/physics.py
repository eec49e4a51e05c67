"""Physical parameters that differ between the environments of a batch.

`scaled` computes the fields of `mjx.Model` that depend on given factors, and
`with_physics` puts these fields into an environment. Both are pure, so a
`jax.vmap` steps a batch of environments with different bodies:

  def step(scales, state, action):
    drawn = physics.scaled(env.model, scales)
    return physics.with_physics(env, drawn).step(state, action)

  states = jax.vmap(step)(scales, states, actions)
"""

import copy
from typing import NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
from mujoco import mjx as mujoco_mjx

from mbmpo_jax import errors
from mbmpo_jax.envs import kinematics
from mbmpo_jax.envs import mjx
from mbmpo_jax.optim import linear

_Env = TypeVar('_Env', bound=mjx.MjxEnvironment)


class PhysicsError(errors.UserError, ValueError):
  """Factors do not fit a body; the message names the field."""


class Scales(NamedTuple):
  """Positive factors on values of the MJCF file; 1 keeps the value.

  A scalar applies to all elements; an array has one factor for each element.

  Attributes:
    mass: factors on body masses, `[nbody]`.
    damping: factors on the damping of degrees of freedom, `[nv]`; 0 is allowed.
    friction: factors on all three friction coefficients of the geoms,
      `[ngeom]`. The larger friction of two geoms in contact counts, unless one
      has priority or the file sets the friction of the pair.
    gear: factors on actuator gears, `[nu]`; 0 disables an actuator.
    inertia: factors on body inertias about all axes, `[nbody]`; `None` uses the
      factors of `mass`, as for a change of density.
    size: factors on geom sizes, `[ngeom]`; masses do not change. Meshes are not
      scaled.
    offset: factors on the distances of geoms from their body frames, `[ngeom]`.
  """

  mass: jax.Array | float = 1.0
  damping: jax.Array | float = 1.0
  friction: jax.Array | float = 1.0
  gear: jax.Array | float = 1.0
  inertia: jax.Array | float | None = None
  size: jax.Array | float = 1.0
  offset: jax.Array | float = 1.0


class Physics(NamedTuple):
  """The fields of `mjx.Model` that depend on `Scales`, with MJX's names."""

  body_mass: jax.Array  # [nbody]
  body_inertia: jax.Array  # [nbody, 3]
  dof_damping: jax.Array  # [nv]
  geom_friction: jax.Array  # [ngeom, 3]
  actuator_gear: jax.Array  # [nu, 6]
  geom_size: jax.Array  # [ngeom, 3]
  geom_pos: jax.Array  # [ngeom, 3]

  # Derived from the above.
  body_subtreemass: jax.Array  # [nbody]
  body_invweight0: jax.Array  # [nbody, 2]
  dof_invweight0: jax.Array  # [nv]
  tendon_invweight0: jax.Array  # [ntendon]
  actuator_acc0: jax.Array  # [nu]


def with_physics(env: _Env, physics: Physics) -> _Env:
  """Returns a copy of `env` with the given physics, which may be traced.

  The host's `mj_model` stays nominal, and so does everything that the
  constructor of `env` computed from it.
  """
  env = copy.copy(env)
  env.model = env.model.replace(**physics._asdict())
  return env


@jax.jit  # Otherwise each operation would be compiled separately.
def scaled(model: mujoco_mjx.Model, scales: Scales) -> Physics:
  """Returns the physics of a body under `scales`.

  MuJoCo computes the derived fields when it compiles a file (`mj_setConst`),
  and MJX does not recompute them. Let M be the mass matrix in the pose `qpos0`,
  armature included, and J the Jacobian of a body's centre of mass, of a
  tendon's length or of an actuator's length:

  - body_subtreemass: the mass of a body and of all its descendants;
  - body_invweight0: the mean of diag(J M^-1 J^T) over the 3 translations, and
    over the 3 rotations;
  - dof_invweight0: diag(M^-1), averaged over the dofs of a ball joint, over the
    translations of a free joint, and over its rotations;
  - tendon_invweight0: J M^-1 J^T;
  - actuator_acc0: ||M^-1 J^T||.

  For a single body on slide joints (`body_simple` 2) the two weights are 1 /
  mass and 0.

  Args:
    model: the model of the nominal body.
    scales: the factors.

  Raises:
    PhysicsError: if a factor's shape does not fit the body.
  """
  mass = _sized('mass', scales.mass, model.nbody)
  damping = _sized('damping', scales.damping, model.nv)
  friction = _sized('friction', scales.friction, model.ngeom)
  gear = _sized('gear', scales.gear, model.nu)
  size = _sized('size', scales.size, model.ngeom)
  offset = _sized('offset', scales.offset, model.ngeom)
  inertia = mass
  if scales.inertia is not None:
    inertia = _sized('inertia', scales.inertia, model.nbody)
  model = model.replace(
    body_mass=model.body_mass * mass,
    body_inertia=model.body_inertia * inertia[:, None],
    dof_damping=model.dof_damping * damping,
    geom_friction=model.geom_friction * friction[:, None],
    actuator_gear=model.actuator_gear * gear[:, None],
    geom_size=model.geom_size * size[:, None],
    geom_pos=model.geom_pos * offset[:, None],
  )
  # MJX broadcasts on purpose; on GPUs, TF32 products would lose precision.
  with (
    jax.numpy_rank_promotion('allow'),
    jax.default_matmul_precision('highest'),
    kinematics.unfused_chains(),
  ):
    model = model.replace(**_derived(model))
  return Physics(*(getattr(model, field) for field in Physics._fields))


def _sized(name: str, scale: jax.Array | float, size: int) -> jax.Array:
  shape = jnp.shape(scale)
  if shape not in ((), (size,)):
    raise PhysicsError(
      f'{name} has shape {list(shape)}: must be [] or [{size}]'
    )
  return jnp.broadcast_to(scale, (size,))


def _derived(model: mujoco_mjx.Model) -> dict[str, jax.Array]:
  data = mujoco_mjx.make_data(model).replace(qpos=model.qpos0)
  for compute in (
    mujoco_mjx.kinematics,
    mujoco_mjx.com_pos,
    mujoco_mjx.tendon,
    mujoco_mjx.crb,
    mujoco_mjx.tendon_armature,
    mujoco_mjx.transmission,
  ):
    data = compute(model, data)
  inverse = jax.vmap(linear.solve, (None, 0))(
    mujoco_mjx.full_m(model, data), jnp.eye(model.nv)
  )

  def inverse_weight(jacobian: jax.Array) -> jax.Array:
    """diag(J M^-1 J^T) `[..., rows]` of J `[..., rows, nv]`."""
    return jnp.sum((jacobian @ inverse) * jacobian, axis=-1)

  jacobians = jax.vmap(mujoco_mjx.jac, (None, None, 0, 0))(
    model, data, data.xipos, jnp.arange(model.nbody)
  )
  by_row = jnp.swapaxes(jnp.stack(jacobians, axis=1), 2, 3)
  body_weight = jnp.mean(inverse_weight(by_row), axis=-1)
  dof_weight = _joint_means(model) @ jnp.diag(inverse)

  slides = model.body_simple == 2
  lone = 1 / jnp.where(slides, model.body_mass, 1)
  of_dof = model.dof_bodyid
  return {
    'body_subtreemass': _subtrees(model) @ model.body_mass,
    'body_invweight0': jnp.where(
      slides[:, None], lone[:, None] * jnp.array([1, 0]), body_weight
    ),
    'dof_invweight0': jnp.where(slides[of_dof], lone[of_dof], dof_weight),
    'tendon_invweight0': inverse_weight(data._impl.ten_J),
    'actuator_acc0': jnp.linalg.norm(
      data._impl.actuator_moment @ inverse, axis=1
    ),
  }


def _subtrees(model: mujoco_mjx.Model) -> np.ndarray:
  """`[nbody, nbody]`: 1 where the row's body carries, or is, the column's."""
  carries = np.eye(model.nbody)
  for body in range(model.nbody - 1, 0, -1):
    carries[model.body_parentid[body]] += carries[body]
  return carries


def _joint_means(model: mujoco_mjx.Model) -> np.ndarray:
  """`[nv, nv]`: averages over the dofs of a joint that are treated alike."""
  first = model.jnt_dofadr[model.dof_jntid]
  free = model.jnt_type[model.dof_jntid] == mujoco.mjtJoint.mjJNT_FREE
  rotates = free & (np.arange(model.nv) >= first + 3)
  group = first + 3 * rotates
  alike = group[:, None] == group
  return alike / alike.sum(axis=1)
