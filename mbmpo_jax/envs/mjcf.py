"""Loads an MJCF file for MuJoCo's JAX engine, or explains why it cannot."""

import pathlib
import warnings

import mujoco
from mujoco import mjx

from mbmpo_jax import errors
from mbmpo_jax.envs import mjx_fields
from mbmpo_jax.envs import mjx_refusals

_MOST_TOLD = 3


class MjcfError(errors.UserError, ValueError):
  """A file cannot be simulated; the message names the file and the element."""


def load(path: str | pathlib.Path) -> tuple[mujoco.MjModel, mjx.Model]:
  """Compiles the MJCF file at `path` for the host and for the device.

  Some features that do not affect the motion are missing in MJX. They are left
  out: the flags `energy`, `fwdinv` and `invdiscrete` silently, and sensors with
  a warning that names them.

  Raises:
    MjcfError: if the file does not exist, MuJoCo cannot compile it, MJX cannot
      simulate it, or MJX would ignore something in it. The message is one line
      that names the element and how to replace it.
  """
  path = pathlib.Path(path)
  if not path.is_file():
    raise MjcfError(f'{path}: no such file')
  try:
    model = _without_odd_sensors(mujoco.MjModel.from_xml_path(str(path)), path)
  except ValueError as error:
    raise MjcfError(f'{path}: {" ".join(str(error).split())}') from error
  mjx_fields.switch_off(model)
  found = list(mjx_refusals.refusals(model))
  if found:
    more = len(found) - _MOST_TOLD
    told = '; '.join(found[:_MOST_TOLD])
    raise MjcfError(
      f'{path}: MJX cannot simulate {told}'
      + (f'; and {more} more' if more > 0 else '')
    )
  try:
    return model, mjx.put_model(model)
  except (NotImplementedError, ValueError) as error:
    raise MjcfError(
      f'{path}: MJX cannot simulate {" ".join(str(error).split())}'
    ) from error


def _without_odd_sensors(
  model: mujoco.MjModel, path: pathlib.Path
) -> mujoco.MjModel:
  """Returns the model, recompiled without sensors that MJX lacks."""
  odd = mjx_refusals.sensors(model)
  if not odd:
    return model
  names = [
    f'{mjx_fields.name_of(model, "sensor", i)}'
    f' ({mujoco.mjtSensor(model.sensor_type[i]).name[7:].lower()})'
    for i in odd
  ]
  warnings.warn(
    f'{path}: left out sensors that MJX does not compute as MuJoCo does:'
    f' {", ".join(names)}; `observe` cannot read them; the motion is the same',
    stacklevel=4,
  )
  spec = mujoco.MjSpec.from_file(str(path))
  sensors = list(spec.sensors)
  for index in odd:
    spec.delete(sensors[index])
  return spec.compile()
