"""Loads an MJCF file for MuJoCo's JAX engine, or says what is in its way."""

import itertools
import pathlib
import re

import mujoco
from mujoco import mjx

from mbmpo_jax import errors

# What MJX's refusals contain, and the way out.
_WAYS_OUT = {
  'mjtSolver.': 'set <option solver="Newton"/> or "CG"',
  'mjtIntegrator.': 'set <option integrator="Euler"/>, "RK4" or "implicitfast"',
}


class MjcfError(errors.UserError, ValueError):
  """A file that cannot be simulated; the message names file and element."""


def load(path: str | pathlib.Path) -> tuple[mujoco.MjModel, mjx.Model]:
  """Compiles the MJCF file at `path`, for the host and for the device.

  Raises:
    MjcfError: if there is no such file, MuJoCo cannot compile it, or MJX cannot
      simulate it: one line naming the element and the way out.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise MjcfError(f'{path}: no such file')
  try:
    model = mujoco.MjModel.from_xml_path(str(path))
  except ValueError as error:
    raise MjcfError(f'{path}: {" ".join(str(error).split())}') from error
  try:
    return model, mjx.put_model(model)
  except NotImplementedError as error:
    raise MjcfError(
      f'{path}: MJX cannot simulate {_explain(model, str(error))}'
    ) from error


def _explain(model: mujoco.MjModel, refusal: str) -> str:
  """The element that MJX refuses, and what to do about it."""
  kinds = re.findall(r'mjGEOM_(\w+)', refusal)
  if len(kinds) == 2:
    first, second = _colliding_pair(model, *kinds)
    return (
      f'contacts of geom {first!r} ({kinds[0].lower()}) with geom {second!r}'
      f' ({kinds[1].lower()}): make one a capsule, a sphere or a mesh, or keep'
      ' the two apart by contype and conaffinity or <contact><exclude/>'
    )
  for part, way_out in _WAYS_OUT.items():
    if part in refusal:
      return f'{refusal}: {way_out}'
  return refusal


def _colliding_pair(
  model: mujoco.MjModel, kind: str, other_kind: str
) -> tuple[str, str]:
  """The names of the first geoms of two types that may touch each other."""
  types = [mujoco.mjtGeom(geom_type).name for geom_type in model.geom_type]
  wanted = sorted((f'mjGEOM_{kind}', f'mjGEOM_{other_kind}'))
  names = [
    model.geom(index).name or f'#{index}' for index in range(model.ngeom)
  ]
  for a, b in itertools.combinations(range(model.ngeom), 2):
    touch = (model.geom_contype[a] & model.geom_conaffinity[b]) or (
      model.geom_contype[b] & model.geom_conaffinity[a]
    )
    apart = model.geom_bodyid[a] != model.geom_bodyid[b]
    if touch and apart and sorted((types[a], types[b])) == wanted:
      in_order = types[a] == f'mjGEOM_{kind}'
      return (names[a], names[b]) if in_order else (names[b], names[a])
  return '?', '?'  # An explicit <contact><pair/> of masked geoms.
