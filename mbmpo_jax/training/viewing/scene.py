"""Positions of bodies in a recording, and the camera.

Pages and videos share this module.
"""

from collections.abc import Iterator
from typing import NamedTuple

import mujoco
import numpy as np

from mbmpo_jax.training.viewing import recording as recording_lib

_VISIBLE_GROUPS = 3  # MuJoCo hides geoms of groups from 3 on.
_UNSET = (0.5, 0.5, 0.5, 1.0)  # a geom's colour if its file gives none


class Motion(NamedTuple):
  """Poses of B bodies and G geoms in F frames."""

  bodies: np.ndarray  # [F, B, 7], position and quaternion, w first
  geoms: np.ndarray  # [F, G, 3], position


class View(NamedTuple):
  """A ball that contains everything to be shown.

  Attributes:
    follow: the body that the ball follows in x and y, or `None`.
    center: centre of the ball, [3]; x and y are relative to that body.
    radius: radius of the ball in metres.
  """

  follow: int | None
  center: np.ndarray
  radius: float


def poses(recording: recording_lib.Recording) -> Iterator[mujoco.MjData]:
  """Yields the frames one after the other, in the same `MjData`."""
  data = mujoco.MjData(recording.model)
  pose = recording.pose
  for frame, qpos in enumerate(pose.qpos):
    data.qpos[:] = qpos
    if pose.mocap_pos.size:
      data.mocap_pos[:] = pose.mocap_pos[frame]
      data.mocap_quat[:] = pose.mocap_quat[frame]
    mujoco.mj_kinematics(recording.model, data)
    yield data


def motion(recording: recording_lib.Recording) -> Motion:
  """Returns the poses of bodies and geoms in every frame."""
  frames = [
    (np.concatenate([data.xpos, data.xquat], -1), data.geom_xpos.copy())
    for data in poses(recording)
  ]
  return Motion(*(np.stack(parts) for parts in zip(*frames, strict=True)))


def visible(model: mujoco.MjModel) -> np.ndarray:
  """Returns the indices of the geoms that MuJoCo shows by default."""
  alpha = [color(model, geom)[3] for geom in range(model.ngeom)]
  shown = (model.geom_group < _VISIBLE_GROUPS) & (np.asarray(alpha) > 0)
  return np.flatnonzero(shown)


def color(model: mujoco.MjModel, geom: int) -> np.ndarray:
  """Returns red, green, blue and opacity of a geom, [4] in [0, 1].

  It is the geom's own colour, or that of its material if the geom has none.
  """
  own, material = model.geom_rgba[geom], model.geom_matid[geom]
  unset = np.allclose(own, _UNSET)
  return model.mat_rgba[material] if material >= 0 and unset else own


def view(model: mujoco.MjModel, motion: Motion) -> View:
  """Returns the camera's view of a motion.

  The camera follows the first body that can move freely, if the scene then
  appears larger than from a fixed place.
  """
  # A plane has no radius; it is visible everywhere.
  solid = [geom for geom in visible(model) if model.geom_rbound[geom] > 0]
  if not solid:
    return View(None, np.zeros(3), 1.0)
  places, sizes = motion.geoms[:, solid], model.geom_rbound[solid]
  best = View(None, *_ball(places, sizes))
  for body in _movers(model)[:1]:
    shift = motion.bodies[:, [body], :3] * [1, 1, 0]
    along = View(int(body), *_ball(places - shift, sizes))
    best = min(best, along, key=lambda view: view.radius)
  return best


def _movers(model: mujoco.MjModel) -> np.ndarray:
  """Returns the children of the world body that slide or move freely."""
  kinds = (mujoco.mjtJoint.mjJNT_FREE, mujoco.mjtJoint.mjJNT_SLIDE)
  bodies = model.jnt_bodyid[np.isin(model.jnt_type, kinds)]
  return bodies[model.body_parentid[bodies] == 0]


def _ball(places: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, float]:
  """Returns centre and radius of a ball around balls [F, G, 3] of sizes [G]."""
  low = (places - sizes[:, None]).min((0, 1))
  high = (places + sizes[:, None]).max((0, 1))
  center = (low + high) / 2
  reach = np.linalg.norm(places - center, axis=-1) + sizes
  return center, float(reach.max())
