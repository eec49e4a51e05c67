"""The methods that M3PO's paper compares, at each size of a figure.

`tiny` reduces everything to a minimum, on the point. `quick` has smaller
networks and fewer updates, for a CPU. `full` runs the presets of
`experiments/configs/` for the paper's number of steps. PEARL's inputs are
normalised at every size, as M3PO's are.
"""

from typing import Any

from experiments.figures import methods as methods_lib
from mbmpo_jax import config as config_lib
from mbmpo_jax.training.launch import tiny

SEEDS = {'tiny': 2, 'quick': 3, 'full': 6}
# Environments in which the methods are compared.
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
# Environments in which a size has one curve of M3PO, of one seed.
ALONE: dict[str, tuple[str, ...]] = {
  'tiny': (),
  'quick': tuple(x for x in ENVS['full'] if x not in ENVS['quick']),
  'full': (),
}
# Environments whose bodies change within an episode, too, as in the paper.
_SWITCHED = ('ant_crippled_leg', 'walker2d_randparams')
# Real steps of short-term and of long-term training.
_SHORT = {
  'point_direc': 20_160,
  'half_cheetah_fwd_bwd': 20_000,
  'half_cheetah_mass_damping': 20_000,
  'half_cheetah_pier': 20_000,
}
_LONG = {'point_direc': 40_320, 'half_cheetah_fwd_bwd': 30_000}
_SHORT_ALONE = 10_000
_FULL, _FULL_LONG = 200_000, 2_500_000
_EVALUATIONS = 30  # In short-term training.
# For methods that learn at every step: sizes that a CPU can run in a night.
# They have fewer updates than the presets, and therefore larger steps.
_QUICK = {
  'policy.hidden_sizes': (128, 128),
  'critic.hidden_sizes': (128, 128),
  'model.hidden_sizes': (128, 128),
  'context.hidden_sizes': (128, 128),  # PEARL's encoder of transitions
  'model_rollouts.num_rollouts': 200,
  'learn.batch_size': 128,
  'learn.num_updates': 4,
  'policy.learning_rate': 1e-3,
  'critic.learning_rate': 1e-3,
  'context.learning_rate': 1e-3,
  'temperature.learning_rate': 1e-3,
  'temperature.initial': 0.1,
  # Methods are compared at the number of steps of short-term training.
  'run.eval_every': 1,
  'run.eval_episodes': 5,
}
_QUICK_OF = {
  'm3po': {'model.max_gradient_steps': 1_000},
  # An evaluation episode of a planner costs as much as a training episode.
  'l2a': {'run.eval_episodes': 2},
}


def config(
  algorithm: str,
  env: str,
  size: str,
  *,
  long: bool = False,
  values: dict[str, Any] | None = None,
) -> config_lib.Experiment:
  """Returns the configuration of a method in an environment.

  Args:
    algorithm: the algorithm's name.
    env: the name of an environment with tasks.
    size: one of `command.SIZES`: `tiny`, `quick` or `full`.
    long: whether it is the long-term training.
    values: further fields by dotted name; `tiny` overrides them.
  """
  made = methods_lib.preset(algorithm, env, like='half_cheetah_fwd_bwd')
  if env in _SWITCHED:
    made = config_lib.replaced(made, {'env.tasks': 'switch'})
  if algorithm == 'pearl':
    # As for M3PO: the figures compare methods, not the scales of their inputs.
    made = config_lib.replaced(made, {'collect.normalize_observations': True})
  if size == 'quick' and env != 'point_direc':
    known = config_lib.flatten(made)
    sizes = _QUICK | _QUICK_OF.get(algorithm, {})
    made = config_lib.replaced(
      made, {name: x for name, x in sizes.items() if name in known}
    )
  made = config_lib.replaced(made, values or {})
  if size == 'tiny':
    return methods_lib.lasting(tiny.shrink(made), 0)
  full = size == 'full'
  short_steps = _FULL if full else _SHORT.get(env, _SHORT_ALONE)
  long_steps = _FULL_LONG if full else _LONG.get(env, short_steps)
  if made.collect.buffer_capacity < long_steps:
    # D_env keeps all steps, as in algorithm 2.
    made = config_lib.replaced(made, {'collect.buffer_capacity': long_steps})
  steps = long_steps if long else short_steps
  # Long-term training starts like short-term training and evaluates as often.
  return methods_lib.lasting(made, steps, _EVALUATIONS * steps // short_steps)
