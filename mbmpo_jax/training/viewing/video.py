"""Writes a recording as an MP4, if there is a GL library.

MuJoCo draws with the backend of `MUJOCO_GL` (`egl`, `osmesa`, `glfw`, `cgl`),
or with any that exists. `imageio-ffmpeg`, of the extra `video`, encodes the
film.
"""

import contextlib
import copy
import ctypes.util
import importlib
import math
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np

from mbmpo_jax import errors
from mbmpo_jax.training.viewing import recording as recording_lib
from mbmpo_jax.training.viewing import scene as scene_lib

_LIBRARIES = {'egl': 'EGL', 'osmesa': 'OSMesa', 'cgl': 'OpenGL'}
_MAX_FPS, _MIN_FPS = 60.0, 5.0


class VideoError(errors.UserError, RuntimeError):
  """A video cannot be made; the message names what is missing."""


def write_video(
  recording: recording_lib.Recording,
  path: pathlib.Path,
  *,
  width: int = 640,
  height: int = 480,
) -> None:
  """Writes an MP4 in real time, with at most 60 frames per second.

  If a step of the environment is longer than a fifth of a second, the video
  shows five steps per second.

  Args:
    recording: the recording.
    path: the file to replace.
    width: of the picture, in pixels; a multiple of 16.
    height: of the picture, in pixels; a multiple of 16.

  Raises:
    VideoError: if there is no GL library, or no `imageio-ffmpeg`.
  """
  try:
    ffmpeg = importlib.import_module('imageio_ffmpeg')
  except ImportError as error:
    raise VideoError(
      "no video: needs imageio-ffmpeg, pip install 'mbmpo-jax[video]'"
    ) from error
  stride = math.ceil(1 / (_MAX_FPS * recording.dt) - 1e-9)
  fps = max(1 / (recording.dt * stride), _MIN_FPS)
  temporary = path.with_name(f'.{path.name}')
  with _gl(width, height):
    film = ffmpeg.write_frames(str(temporary), (width, height), fps=fps)
    with contextlib.closing(film), warnings.catch_warnings():
      # The fork starts another program; JAX warns about forks that continue in
      # Python.
      warnings.filterwarnings('ignore', r'os\.fork', RuntimeWarning)
      film.send(None)
      for picture in _pictures(recording, width, height, stride):
        film.send(picture)
  temporary.replace(path)


@contextlib.contextmanager
def _gl(width: int, height: int) -> Iterator[None]:
  """A context with a GL context to draw in."""
  wanted = os.environ.get('MUJOCO_GL', '').lower()
  found = [n for n, lib in _LIBRARIES.items() if ctypes.util.find_library(lib)]
  backend = wanted or next(iter(found), None)
  if backend is None:
    raise VideoError(
      'no video: needs a GL library, EGL or OSMesa (on Debian: apt-get install'
      ' libegl1 libgl1-mesa-dri)'
    )
  try:
    context = importlib.import_module(f'mujoco.{backend}').GLContext(
      width, height
    )
    context.make_current()
  except Exception as error:  # The libraries may raise anything.
    others = [name for name in found if name != backend]
    hint = f'; try MUJOCO_GL={others[0]}' if others else ''
    raise VideoError(
      f'no video: MUJOCO_GL={backend} does not work here'
      f' ({type(error).__name__}: {error}){hint}'
    ) from error
  try:
    yield
  finally:
    context.free()


def _pictures(
  recording: recording_lib.Recording, width: int, height: int, stride: int
) -> Iterator[np.ndarray]:
  """Yields every `stride`-th frame, uint8 [height, width, 3]; needs GL."""
  model = copy.copy(recording.model)
  model.vis.global_.offwidth, model.vis.global_.offheight = width, height
  view = scene_lib.view(model, scene_lib.motion(recording))
  camera = mujoco.MjvCamera()
  camera.azimuth, camera.elevation = 110.0, -20.0
  camera.distance = view.radius / math.sin(
    math.radians(model.vis.global_.fovy / 2)
  )
  scene = mujoco.MjvScene(model, maxgeom=10_000)
  scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
  option = mujoco.MjvOption()
  rectangle = mujoco.MjrRect(0, 0, width, height)
  context: Any = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
  mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
  picture = np.empty((height, width, 3), np.uint8)
  for frame, data in enumerate(scene_lib.poses(recording)):
    if frame % stride:
      continue
    camera.lookat = view.center
    if view.follow is not None:
      camera.lookat[:2] += data.xpos[view.follow, :2]
    mujoco.mj_camlight(model, data)
    mujoco.mjv_updateScene(
      model, data, option, None, camera, mujoco.mjtCatBit.mjCAT_ALL, scene
    )
    mujoco.mjr_render(rectangle, scene, context)
    if recording.task:
      mujoco.mjr_overlay(
        mujoco.mjtFont.mjFONT_BIG,
        mujoco.mjtGridPos.mjGRID_TOPLEFT,
        rectangle,
        recording.task[frame],
        '',
        context,
      )
    mujoco.mjr_readPixels(picture, None, rectangle, context)
    yield np.ascontiguousarray(picture[::-1])  # GL's first row is the lowest
  context.free()
