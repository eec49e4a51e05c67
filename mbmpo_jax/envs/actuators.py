"""The range of controls to which an action in [-1, 1] is mapped.

An action is mapped affinely to the control range of each actuator. That range
is the actuator's `ctrlrange`. For an actuator without one, the limits of the
joint or force that it drives give a range, and a message describes the choice.
"""

import mujoco
import numpy as np

from mbmpo_jax.envs import mjx_fields

_ADVICE = 'give it a ctrlrange'


def control_ranges(model: mujoco.MjModel) -> tuple[np.ndarray, list[str]]:
  """Returns the smallest and the largest control of every actuator.

  The first of these that applies: the `ctrlrange`; [0, 1] for a muscle; an
  inactive `ctrlrange`; for a motor, the force range of the actuator divided by
  the gain, or the actuator force range of its joint divided by gain and gear;
  for a position servo, the range of its joint times the gear; [-1, 1].

  Args:
    model: the compiled model; each actuator has one control.

  Returns:
    The ranges `[nu, 2]`, and one message for each actuator without an active
    `ctrlrange`.
  """
  ranges, lines = np.zeros((model.nu, 2)), []
  for index in range(model.nu):
    if model.actuator_ctrllimited[index]:
      ranges[index] = model.actuator_ctrlrange[index]
      continue
    ranges[index], source = _without_range(model, index)
    low, high = ranges[index]
    name = mjx_fields.name_of(model, 'actuator', index)
    lines.append(
      f'actuator {name}: no ctrlrange: actions are mapped to controls in'
      f' [{low:.4g}, {high:.4g}]{source}; {_ADVICE}'
    )
  return ranges, lines


def _without_range(model: mujoco.MjModel, index: int) -> tuple[np.ndarray, str]:
  muscle = int(mujoco.mjtGain.mjGAIN_MUSCLE)
  if model.actuator_gaintype[index] == muscle:
    return np.array([0.0, 1.0]), ', as it is a muscle'
  written = model.actuator_ctrlrange[index]
  if written[0] < written[1]:
    return written, ', its ctrlrange, which ctrllimited="false" switches off'
  gain = float(model.actuator_gainprm[index, 0])
  fixed = model.actuator_gaintype[index] == mujoco.mjtGain.mjGAIN_FIXED
  direct = model.actuator_dyntype[index] in (
    int(mujoco.mjtDyn.mjDYN_NONE),
    int(mujoco.mjtDyn.mjDYN_FILTER),
    int(mujoco.mjtDyn.mjDYN_FILTEREXACT),
  )
  bias = model.actuator_biastype[index]
  if fixed and direct and gain and bias == mujoco.mjtBias.mjBIAS_NONE:
    return _of_motor(model, index, gain)
  affine = bias == mujoco.mjtBias.mjBIAS_AFFINE
  if fixed and affine and gain == -model.actuator_biasprm[index, 1] != 0:
    joint, gear = _joint(model, index)
    if joint is not None and model.jnt_limited[joint]:
      return np.sort(gear * model.jnt_range[joint]), ", its joint's range"
  return np.array([-1.0, 1.0]), ''


def _of_motor(
  model: mujoco.MjModel, index: int, gain: float
) -> tuple[np.ndarray, str]:
  if model.actuator_forcelimited[index]:
    forces = model.actuator_forcerange[index]
    return np.sort(forces / gain), ', its forcerange'
  joint, gear = _joint(model, index)
  if joint is not None and gear and model.jnt_actfrclimited[joint]:
    forces = model.jnt_actfrcrange[joint]
    return np.sort(forces / (gain * gear)), ", its joint's actuatorfrcrange"
  return np.array([-1.0, 1.0]), ''


def _joint(model: mujoco.MjModel, index: int) -> tuple[int | None, float]:
  """Returns the hinge or slide joint that an actuator moves, and its gear."""
  kinds = (mujoco.mjtTrn.mjTRN_JOINT, mujoco.mjtTrn.mjTRN_JOINTINPARENT)
  if model.actuator_trntype[index] not in [int(kind) for kind in kinds]:
    return None, 0.0
  joint = int(model.actuator_trnid[index, 0])
  if model.jnt_type[joint] < int(mujoco.mjtJoint.mjJNT_SLIDE):
    return None, 0.0
  return joint, float(model.actuator_gear[index, 0])
