"""Simulates an environment with MuJoCo Warp instead of MJX, for a GPU."""

import copy
import functools

from mujoco import mjx as mujoco_mjx
from mujoco.mjx import warp as mjx_warp

from mbmpo_jax import errors
from mbmpo_jax.envs import base
from mbmpo_jax.envs import mjx

# MuJoCo's default. The MJCF files set fewer for MJX, which always runs all of
# them.
_LINE_SEARCH_ITERATIONS = 50


class WarpError(errors.UserError, RuntimeError):
  """Warp cannot simulate an environment, or is not installed."""


def on_warp(env: base.Environment, *, num_envs: int) -> mjx.MjxEnvironment:
  """Returns `env` simulated by MuJoCo Warp; all else is unchanged.

  The physics runs in single precision. All environments of a batch share one
  contact array, so its size must be given; device memory is allocated for
  `num_envs` environments.

  Args:
    env: an environment from an MJCF file.
    num_envs: the largest number of environments stepped at once.

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
      "env.physics='warp': needs warp-lang: pip install 'mujoco-mjx[warp]'"
    )
  mjx_warp.warp.config.quiet = True  # Otherwise it prints a line per kernel.
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
  # Overrides the method for this instance only.
  setattr(warped, 'make_data', make_data)  # noqa: B010
  warped.engine = 'warp'
  return warped
