"""Writes a self-contained HTML page that plays a policy without a network.

`viewer/` contains the parts of the page: a template, the script that plays the
recording, and three.js, which draws it.
"""

import base64
import html
import json
import pathlib
import string
import warnings
from typing import Any

import jax
import mujoco
import numpy as np

from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.viewing import recording as recording_lib
from mbmpo_jax.training.viewing import scene

_VIEWER = pathlib.Path(__file__).parent / 'viewer'
_TYPES = {
  mujoco.mjtGeom.mjGEOM_PLANE: 'plane',
  mujoco.mjtGeom.mjGEOM_SPHERE: 'sphere',
  mujoco.mjtGeom.mjGEOM_CAPSULE: 'capsule',
  mujoco.mjtGeom.mjGEOM_ELLIPSOID: 'ellipsoid',
  mujoco.mjtGeom.mjGEOM_CYLINDER: 'cylinder',
  mujoco.mjtGeom.mjGEOM_BOX: 'box',
  mujoco.mjtGeom.mjGEOM_MESH: 'mesh',
}


def record_policy(
  policy: saved_policy.SavedPolicy,
  *,
  seed: int = 0,
  num_steps: int | None = None,
) -> recording_lib.Recording:
  """Records a policy in the environment in which it was trained.

  Args:
    policy: the result of `load_policy`.
    seed: seed of initial states and actions.
    num_steps: by default the episode length of the run.

  Raises:
    RecordingError: if the environment has no scene, or the rollout is not
      finite.
  """
  return recording_lib.record(
    policy.make_env(),
    policy.policy,
    policy.params,
    jax.random.PRNGKey(seed),
    num_steps=num_steps or policy.config.collect.episode_length,
  )


def title(policy: saved_policy.SavedPolicy, which: str) -> str:
  """Describes a policy for a title."""
  config = policy.config
  variant = f' ({config.env.variant})' if config.env.variant else ''
  return (
    f'{config.algorithm} on {config.env.name}{variant}, seed {config.seed}:'
    f' {policy.describe(which)}'
  )


def page(recording: recording_lib.Recording, *, title: str) -> str:
  """Returns the page, HTML.

  Args:
    recording: the recording to play.
    title: a title above the picture.
  """
  # Only numbers and type names: nothing that could close the script element.
  data = json.dumps(_data(recording), allow_nan=False)
  template = string.Template(_read('viewer.html'))
  return template.substitute(
    title=html.escape(title),
    recording=data,
    three=_read('three.min.js'),
    viewer=_read('viewer.js'),
  )


def write_page(
  recording: recording_lib.Recording, path: pathlib.Path, *, title: str
) -> None:
  """Writes the page; an existing one is replaced atomically.

  Raises:
    WriteError: if the file system does not allow it.
  """
  atomic.write_output(path, page(recording, title=title).encode())


def _read(name: str) -> str:
  return (_VIEWER / name).read_text(encoding='utf-8')


def _data(recording: recording_lib.Recording) -> dict[str, Any]:
  """Returns the data for viewer.js."""
  model = recording.model
  motion = scene.motion(recording)
  view = scene.view(model, motion)
  geoms = _geoms(model)
  meshes = {geom['mesh'] for geom in geoms if 'mesh' in geom}
  return {
    'dt': recording.dt,
    'time': np.round(recording.time, 6).tolist(),
    'episode': recording.episode.tolist(),
    'reward_so_far': np.round(recording.reward_so_far, 4).tolist(),
    'terminated': recording.terminated.tolist(),
    'task': list(recording.task),
    'num_bodies': model.nbody,
    'poses': _base64(motion.bodies, '<f4'),
    'geoms': geoms,
    'meshes': {mesh: _mesh(model, mesh) for mesh in sorted(meshes)},
    'view': {
      'follow': view.follow,
      'center': view.center.tolist(),
      'radius': view.radius,
    },
  }


def _geoms(model: mujoco.MjModel) -> list[dict[str, Any]]:
  """Returns the geoms that MuJoCo shows by default."""
  geoms = []
  for index in scene.visible(model):
    kind = mujoco.mjtGeom(model.geom_type[index])
    if kind not in _TYPES:
      warnings.warn(
        f'geom {model.geom(index).name!r} is not drawn: its type,'
        f' {kind.name.removeprefix("mjGEOM_").lower()}, is not supported',
        stacklevel=2,
      )
      continue
    geom = {
      'type': _TYPES[kind],
      'size': model.geom_size[index].tolist(),
      'position': model.geom_pos[index].tolist(),
      'quaternion': model.geom_quat[index].tolist(),
      'color': np.round(scene.color(model, index), 4).tolist(),
      'body': int(model.geom_bodyid[index]),
    }
    if geom['type'] == 'mesh':
      geom['mesh'] = int(model.geom_dataid[index])
    geoms.append(geom)
  return geoms


def _mesh(model: mujoco.MjModel, mesh: int) -> dict[str, str]:
  """Returns vertices [V, 3] and triangles [F, 3] of a mesh."""
  points = model.mesh_vert[model.mesh_vertadr[mesh] :]
  faces = model.mesh_face[model.mesh_faceadr[mesh] :]
  return {
    'points': _base64(points[: model.mesh_vertnum[mesh]], '<f4'),
    'faces': _base64(faces[: model.mesh_facenum[mesh]], '<u4'),
  }


def _base64(array: np.ndarray, dtype: str) -> str:
  return base64.b64encode(array.astype(dtype).tobytes()).decode('ascii')
