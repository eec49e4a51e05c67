"""Finds features of a compiled MJCF file that MJX cannot simulate.

MJX's own errors name members of its enumerations. The messages here name the
elements of the file and what to do, and are created before MJX reads the model.
"""

from collections.abc import Iterator
from typing import Any

import mujoco
from mujoco.mjx._src import collision_driver
from mujoco.mjx._src import types as mjx_types

from mbmpo_jax.envs import mjx_fields

_INTEGRATORS = 'set <option integrator="Euler"/>, "RK4" or "implicitfast"'
_STEPPED = ('mjINT_EULER', 'mjINT_RK4', 'mjINT_IMPLICITFAST')
_JOINT_MOTOR = 'use a motor, position or velocity actuator at a joint'

# (field, MJX's enumeration, MuJoCo's enumeration, last part of a member's name
# -> (description, advice))
_KINDS: tuple[tuple[str, Any, Any, dict[str, tuple[str, str]]], ...] = (
  ('actuator_trntype', mjx_types.TrnType, mujoco.mjtTrn, {
    'BODY': ('adhesion', 'remove it; MJX has no adhesion'),
    'SLIDERCRANK': ('a slider-crank', 'model the crank with bodies and an'
      ' <equality><connect/>'),
  }),
  ('actuator_dyntype', mjx_types.DynType, mujoco.mjtDyn, {}),
  ('actuator_gaintype', mjx_types.GainType, mujoco.mjtGain, {}),
  ('actuator_biastype', mjx_types.BiasType, mujoco.mjtBias, {}),
  ('eq_type', mjx_types.EqType, mujoco.mjtEq, {}),
)  # fmt: skip
_EQUALITY = 'use a connect, weld, joint or tendon equality'

# Shapes that can replace the shape of a geom.
_SHAPES = ('SPHERE', 'CAPSULE', 'BOX', 'ELLIPSOID', 'CYLINDER', 'MESH')


def refusals(model: mujoco.MjModel) -> Iterator[str]:
  """Yields a message for each feature of a model that MJX cannot simulate."""
  yield from mjx_fields.refusals(model)
  if model.nflex:
    return
  yield from _options(model.opt)
  yield from _elements(model)
  yield from _contacts(model)


def sensors(model: mujoco.MjModel) -> list[int]:
  """Returns the indices of sensors that MJX lacks or computes differently.

  A sensor does not affect the motion. MJX has no delayed or interval sensors,
  and sets acceleration and force sensors to 0 if the model has no constraints.
  """
  known = {int(kind) for kind in mjx_types.SensorType}
  contact = mujoco.mjtSensor.mjSENS_CONTACT
  objects = mujoco.mjtObj
  accelerations = mujoco.mjtStage.mjSTAGE_ACC
  found = []
  for i in range(model.nsensor):
    matched = (model.sensor_objtype[i], model.sensor_reftype[i])
    odd = int(model.sensor_type[i]) == contact and (
      model.sensor_objtype[i] == objects.mjOBJ_SITE
      or objects.mjOBJ_BODY in matched
      or objects.mjOBJ_XBODY in matched
      or model.sensor_intprm[i, 1] == 3
    )
    late = model.sensor_delay[i] > 0 or any(model.sensor_history[i])
    seldom = any(model.sensor_interval[i])
    unknown = int(model.sensor_type[i]) not in known
    of_forces = model.sensor_needstage[i] == accelerations
    zero = of_forces and not _constrained(model)
    if unknown or odd or late or seldom or zero:
      found.append(i)
  return found


def _constrained(model: mujoco.MjModel) -> bool:
  bound = (
    model.eq_type.size,
    model.jnt_limited.any(),
    model.tendon_limited.any(),
    model.dof_frictionloss.any(),
    model.tendon_frictionloss.any(),
  )
  return any(bound) or any(True for _ in collision_driver.geom_pairs(model))


def _options(option: mujoco.MjOption) -> Iterator[str]:
  if option.solver == mujoco.mjtSolver.mjSOL_PGS:
    yield (
      '<option solver="PGS">: set <option solver="Newton"/> or solver="CG"'
    )
  integrator = mujoco.mjtIntegrator(option.integrator).name
  if integrator not in _STEPPED:
    spoken = integrator.removeprefix('mjINT_').lower()
    yield f'<option integrator="{spoken}">: {_INTEGRATORS}'
  fluid = option.density > 0 or option.viscosity > 0 or option.wind.any()
  if integrator == 'mjINT_IMPLICITFAST' and fluid:
    yield (
      '<option integrator="implicitfast"> in a fluid (density, viscosity,'
      ' wind): set integrator="Euler" or "RK4", or all three to 0'
    )


def _elements(model: mujoco.MjModel) -> Iterator[str]:
  told = set()
  for field, known, enumeration, spoken in _KINDS:
    allowed = {int(kind) for kind in known}
    kind = 'equality' if field.startswith('eq') else 'actuator'
    for index, value in enumerate(getattr(model, field)):
      if int(value) in allowed or (kind, index) in told:
        continue
      told.add((kind, index))
      end = enumeration(int(value)).name.split('_', 1)[1]
      way_out = _EQUALITY if kind == 'equality' else _JOINT_MOTOR
      what, way_out = spoken.get(end, (end.lower(), way_out))
      yield (
        f'{kind} {mjx_fields.name_of(model, kind, index)}: {what}: {way_out}'
      )


def _contacts(model: mujoco.MjModel) -> Iterator[str]:
  """Yields a message for the first pair of geoms whose contacts MJX lacks.

  Which pairs may touch is determined as in MJX: by contype and conaffinity,
  pairs and excludes, parents and children, and welded bodies.
  """
  no_margin = (mujoco.mjtGeom.mjGEOM_MESH, mujoco.mjtGeom.mjGEOM_HFIELD)
  for a, b, pair in collision_driver.geom_pairs(model):
    kinds = [mujoco.mjtGeom(int(model.geom_type[i])) for i in (a, b)]
    first, second = (
      f'geom {mjx_fields.name_of(model, "geom", int(i))} ({_shape(kind)})'
      for i, kind in zip((a, b), kinds, strict=True)
    )
    if not _collide(*kinds):
      yield (
        f'contacts of {first} with {second}: {_other_shapes(first, *kinds)}'
        f'{_other_shapes(second, *kinds[::-1])}keep the two apart by contype'
        f' and conaffinity or {_apart(model, a, b, pair)}'
      )
      return
    margin = (
      model.geom_margin[a] + model.geom_margin[b]
      if pair == -1
      else model.pair_margin[pair]
    )
    if margin and any(kind in no_margin for kind in kinds):
      yield (
        f'contacts of {first} with {second} at a margin: set margin="0" at both'
      )
      return


def _other_shapes(
  name: str, kind: mujoco.mjtGeom, other: mujoco.mjtGeom
) -> str:
  """Returns advice such as `make geom 'x' a sphere or capsule, or `, or ''."""
  shapes = [
    shape.lower()
    for shape in _SHAPES
    if shape.lower() != _shape(kind)
    and _collide(getattr(mujoco.mjtGeom, f'mjGEOM_{shape}'), other)
  ]
  if not shapes or _shape(kind) in ('plane', 'hfield'):
    return ''
  return f'make {name.split(" (")[0]} a {" or ".join(shapes)}, or '


def _shape(kind: mujoco.mjtGeom) -> str:
  return kind.name.removeprefix('mjGEOM_').lower()


def _collide(a: mujoco.mjtGeom, b: mujoco.mjtGeom) -> bool:
  return collision_driver.has_collision_fn(*sorted((int(a), int(b))))


def _apart(model: mujoco.MjModel, a: int, b: int, pair: int) -> str:
  if pair != -1:
    return 'remove the <contact><pair/> of them'
  first, second = (
    model.body(int(model.geom_bodyid[i])).name or '(give it a name)'
    for i in (a, b)
  )
  return f'<contact><exclude body1="{first}" body2="{second}"/></contact>'
