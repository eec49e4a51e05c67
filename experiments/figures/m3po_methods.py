"""The methods that M3PO's paper compares, each at the sizes of a figure.

`tiny` is everything cut to a few, on the point; `quick` is smaller networks and
fewer updates, for a CPU; `full` is the presets of `experiments/configs/` to the
paper's number of steps.
"""

from typing import Any

from experiments.figures import methods as methods_lib
from mbmpo_jax import config as config_lib
from mbmpo_jax.training.launch import tiny

SEEDS = {'tiny': 2, 'quick': 3, 'full': 6}
ENVS = {
  'tiny': ('point_direc',),
  'quick': ('point_direc', 'half_cheetah_fwd_bwd'),
  'full': (
    'half_cheetah_fwd_bwd',
    'half_cheetah_pier',
    'ant_fwd_bwd',
    'ant_crippled_leg',
    'walker2d_randparams',
    'humanoid_direc',
  ),
}
# Real steps: of short-term training, and of long-term training.
_SHORT = {'point_direc': 7_200, 'half_cheetah_fwd_bwd': 20_000}
_LONG = {'point_direc': 14_400, 'half_cheetah_fwd_bwd': 30_000}
_FULL, _FULL_LONG = 200_000, 2_500_000
_EVALUATIONS = 30  # Of short-term training.
# What a CPU can do in a night, for those that learn at every step.
_QUICK = {
  'policy.hidden_sizes': (128, 128),
  'critic.hidden_sizes': (128, 128),
  'model.hidden_sizes': (128, 128),
  'model_rollouts.num_rollouts': 200,
  'learn.batch_size': 128,
  'learn.num_updates': 4,
  # What ends with short-term training is compared at equal steps.
  'run.eval_every': 1,
}
# Evaluations of a planner cost as much as its episodes.
_QUICK_PLANNER = {'run.eval_episodes': 2}


def config(
  algorithm: str,
  env: str,
  size: str,
  *,
  long: bool = False,
  values: dict[str, Any] | None = None,
) -> config_lib.Experiment:
  """A method in a world, at one of the sizes `command.SIZES`.

  Args:
    algorithm: its name.
    env: the name of a world that has tasks.
    size: `tiny`, `quick` or `full`.
    long: whether it is trained for longer than the methods are compared.
    values: further fields, by dotted name; sizes of `tiny` win.
  """
  made = methods_lib.preset(algorithm, env, like='half_cheetah_fwd_bwd')
  if size == 'quick' and env != 'point_direc':
    known = config_lib.flatten(made)
    sizes = _QUICK | (_QUICK_PLANNER if algorithm == 'l2a' else {})
    made = config_lib.replaced(
      made, {name: x for name, x in sizes.items() if name in known}
    )
  made = config_lib.replaced(made, values or {})
  if size == 'tiny':
    return methods_lib.lasting(tiny.shrink(made), 0)
  full = size == 'full'
  short_steps = _FULL if full else _SHORT[env]
  steps = (_FULL_LONG if full else _LONG[env]) if long else short_steps
  # Short-term training is the beginning of long-term training.
  return methods_lib.lasting(made, steps, _EVALUATIONS * steps // short_steps)
