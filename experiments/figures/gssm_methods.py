"""The methods that GSSM's paper compares, each at the sizes of a figure.

`tiny` is everything cut to a few, on the cart-pole; `quick` is the two
classical worlds, for a CPU; `full` has the MuJoCo worlds, too. All are the
presets of `experiments/configs/`, whose sizes are the paper's.
"""

import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from experiments.figures import methods as methods_lib
from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training.figures import costs
from mbmpo_jax.training.figures import curves
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.launch import tiny
from mbmpo_jax.training.reporting import plot

CARTPOLE, ACROBOT = 'cartpole_swingup', 'acrobot'
SEEDS = {'tiny': 2, 'quick': 3, 'full': 5}
WORLDS = {
  'tiny': (CARTPOLE,),
  'quick': (CARTPOLE, ACROBOT),
  'full': (CARTPOLE, ACROBOT, 'half_cheetah_mass_damping', 'slim_humanoid'),
}
# Whose returns the paper divides by the horizon.
PER_STEP = (CARTPOLE, ACROBOT)
# Transitions of a test task that a model or policy is told; episodes then.
CONTEXT = {'tiny': 5, CARTPOLE: 50, ACROBOT: 50}
LONG_CONTEXT, EPISODES = 500, 50


class Look(NamedTuple):
  """A method: its algorithm, its model if it is a variant of GSSM, its look."""

  algorithm: str
  label: str
  color: str
  kind: str = ''


_COLORS = appearance.PALETTE
MODEL_BASED = {
  'gssm': Look('gssm', 'GSSM', appearance.of('gssm').color, 'graph'),
  'm_dpilco': Look('gssm', 'M-DPILCO', _COLORS[1], 'dropout'),
  'mlsm_v0': Look('gssm', 'MLSM-v0', _COLORS[0], 'mean'),
  'mlsm_v1': Look('gssm', 'MLSM-v1', _COLORS[4], 'attentive'),
  'l2a': Look('l2a', 'L2A', appearance.of('l2a').color),
}
MODEL_FREE = {
  'dr_ppo': Look('ppo', 'DR-PPO', appearance.of('ppo').color),
  'pe_ppo': Look('pe_ppo', 'PE-PPO', appearance.of('pe_ppo').color),
}
METHODS = MODEL_BASED | MODEL_FREE
# The paper compares these in the cart-pole in words alone.
_NOT_IN = {(CARTPOLE, 'dr_ppo'), (CARTPOLE, 'pe_ppo')}
# Of the quick sizes; the acrobot's decoder is half as wide, and not as deep.
_QUICK: dict[tuple[str, str], dict[str, Any]] = {
  ('gssm', CARTPOLE): {'run.num_iterations': 60},
  ('gssm', ACROBOT): {
    'model.decoder_sizes': (200,) * 3,
    'model.gradient_steps': 300,
    'run.num_iterations': 60,
  },
  ('l2a', ACROBOT): {'run.num_iterations': 30},
}
# Of methods without a model, in the MuJoCo worlds: 5,000 episodes.
_LONG = {'collect.num_envs': 5, 'run.num_iterations': 1000}
# Matrix products on one core, FLOP/s; a gradient step, and an update of the
# policy, besides, s; a compiled program, s.
_RATE, _PER_GRADIENT_STEP, _PER_UPDATE, _COMPILING = 30e9, 2e-3, 0.01, 60.0


def compared(world: str, methods: tuple[str, ...]) -> tuple[str, ...]:
  """Those of the methods that a world is for."""
  return tuple(name for name in methods if (world, name) not in _NOT_IN)


def config(
  method: str,
  world: str,
  size: str,
  values: Mapping[str, Any] | None = None,
) -> config_lib.Experiment:
  """A method in a world, at one of the sizes `command.SIZES`.

  Args:
    method: of `METHODS`.
    world: of `WORLDS`.
    size: `tiny`, `quick` or `full`.
    values: further fields, by dotted name; sizes of `tiny` win.
  """
  look = METHODS[method]
  known: Any = methods_lib.preset(look.algorithm, world, like=ACROBOT)
  given = dict(values or {})
  if size == 'quick':
    given = _QUICK.get((look.algorithm, world), {}) | given
  if not (methods_lib.CONFIGS / look.algorithm / f'{world}.py').is_file():
    # The world of that name, in episodes as long as GSSM's.
    gssm: Any = methods_lib.preset('gssm', world)
    length = gssm.collect.episode_length
    given |= {
      'env.name': gssm.env.name,
      'env.variant': gssm.env.variant,
      'collect.episode_length': length,
    }
    if look.algorithm in ('ppo', 'pe_ppo'):
      given |= {'collect.steps_per_env': length} | _LONG
  if look.algorithm == 'pe_ppo' and size == 'full':
    # What its policy remembers is as long as what it is told of a test task.
    given['context.window'] = context(world, size)
  if look.kind:
    # Only GSSM's policy is told the task.
    given = {
      'model.kind': look.kind,
      'policy.amortised': look.kind == 'graph',
    } | given
  made = config_lib.replaced(known, given)
  last: dict[str, Any] = {
    'run.keep_checkpoints': 1,
    'run.render': False,
    'run.checkpoint_every': max(1, made.run.num_iterations // 20),
  }
  if size == 'tiny':
    made = tiny.shrink(made)
    last |= {'run.num_iterations': 2, 'run.checkpoint_every': 1}
  return config_lib.replaced(made, last)


def group(
  world: str,
  method: str,
  size: str,
  *,
  key: str | None = None,
  label: str | None = None,
  color: str | None = None,
  values: Mapping[str, Any] | None = None,
  panel: str | None = None,
) -> study.Group:
  """The seeds of a method in a world.

  Args:
    world: of `WORLDS`.
    method: of `METHODS`.
    size: `tiny`, `quick` or `full`.
    key: by default the method's.
    label: by default the method's.
    color: by default the method's.
    values: as for `config`.
    panel: of the picture, by default the world; runs are in the world's folder.
  """
  look = METHODS[method]
  made = study.seeds(
    world,
    config(method, world, size, values),
    SEEDS[size],
    key=key or method,
    label=label or look.label,
    color=color or look.color,
  )
  return made._replace(panel=panel or world)


def context(world: str, size: str) -> int:
  """Transitions of a test task that are told, as in the paper."""
  return CONTEXT.get('tiny' if size == 'tiny' else world, LONG_CONTEXT)


def unit(world: str, run: study.Run) -> float:
  """What a return is divided by: the horizon, where the paper does so."""
  config: Any = run.config
  return config.collect.episode_length if world in PER_STEP else 1


def world_of(found: study.Found) -> str:
  """The world of a group, whatever panel it is in."""
  return found.group.runs[0].name.split('/', maxsplit=1)[0]


def ends(found: study.Found, world: str) -> list[float]:
  """What the runs that are done earned at their end, each one's last mean."""
  return [
    float(curve.returns[-1])
    for curve, run, rows in zip(
      collected(found, world), found.group.runs, found.rows, strict=True
    )
    if study.is_done(run, rows) and curve.returns.size
  ]


def collected(
  found: study.Found, world: str, window: int = 10
) -> list[curves.Curve]:
  """Of every run, what the episodes that it learned from have earned.

  They are of the task of the moment, which is drawn anew all the time, and the
  policy is told what it has shown so far: so the paper's figure 2 has it. Each
  value is the mean of up to `window` iterations.

  Args:
    found: the runs.
    world: whose.
    window: iterations.
  """
  made = []
  for run, rows in zip(found.group.runs, found.rows, strict=True):
    returns = plot.column(rows, 'real/return') / unit(world, run)
    shown = np.isfinite(returns)
    steps = plot.column(rows, 'env_steps')[shown]
    curve = curves.Curve(steps, returns[shown], steps)
    made.append(curves.smoothed(curve, window))
  return made


def seconds(config: Any) -> float:
  """Of a whole run, on one core; arithmetic on what was measured."""
  if config.algorithm not in ('gssm', 'pe_ppo'):
    return costs.seconds(config)
  steps = config.collect.steps * config.run.num_iterations
  if config.algorithm == 'pe_ppo':
    # Every policy update reads windows of the episode.
    return _COMPILING + 1e-3 * steps
  model, rollouts, improve = config.model, config.model_rollouts, config.improve
  sizes = (model.latent_size + 8, *model.decoder_sizes, 8)
  flop = 2 * sum(a * b for a, b in itertools.pairwise(sizes))
  fit = 3 * flop * model.tasks_per_step * model.target_size
  fit = model.gradient_steps * (_PER_GRADIENT_STEP + fit / _RATE)
  imagined = rollouts.num_contexts * rollouts.num_rollouts * rollouts.horizon
  derivatives = 3 if improve.kind == 'bptt' else 1
  update = _PER_UPDATE + derivatives * flop * imagined / _RATE
  if improve.kind == 'ppo':
    update += config.learn.num_epochs * imagined * 1e-6
  updates = improve.num_updates * improve.num_learners
  each = fit + updates * update + config.collect.steps * 1e-4
  return _COMPILING + config.run.num_iterations * each
