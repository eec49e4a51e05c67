"""MuJoCo Warp in place of MJX's own physics, for a GPU."""

import copy
import functools

from mujoco import mjx as mujoco_mjx
from mujoco.mjx import warp as mjx_warp

from mbmpo_jax import errors
from mbmpo_jax.envs import base
from mbmpo_jax.envs import mjx

# MuJoCo's own default. MJX's is few because all of them always run.
_LINE_SEARCH_ITERATIONS = 50


class WarpError(errors.UserError, RuntimeError):
  """An environment cannot be simulated by Warp, here or at all."""


def on_warp(env: base.Environment, *, num_envs: int) -> mjx.MjxEnvironment:
  """`env` with its physics by MuJoCo Warp; all else stays.

  Single precision. One contact array serves all environments that step at
  once, hence their number; a device's memory is used for that many.

  Args:
    env: from an MJCF file.
    num_envs: the most that will ever step at once.

  Raises:
    WarpError: if `env` has no MJCF file, or warp-lang is not installed.
  """
  if not isinstance(env, mjx.MjxEnvironment):
    raise WarpError(
      f"env.physics='warp': must be 'mjx' for {type(env).__name__}, which has"
      ' no MJCF file'
    )
  if not mjx_warp.WARP_INSTALLED:
    raise WarpError(
      "env.physics='warp': needs warp-lang, pip install 'mujoco-mjx[warp]'"
    )
  mjx_warp.warp.config.quiet = True  # Else it tells of every kernel.
  most = mujoco_mjx.make_data(env.model)._impl
  mj_model = copy.copy(env.mj_model)
  mj_model.opt.ls_iterations = _LINE_SEARCH_ITERATIONS
  warped = copy.copy(env)
  warped.model = mujoco_mjx.put_model(mj_model, impl='warp')
  sizes = {
    'naconmax': num_envs * most.contact.dist.shape[0],
    'njmax': most.efc_J.shape[0],
  }
  make_data = functools.partial(
    mujoco_mjx.make_data, mj_model, impl='warp', **sizes
  )
  # A method of this one environment.
  setattr(warped, 'make_data', make_data)  # noqa: B010
  warped.engine = 'warp'
  return warped
