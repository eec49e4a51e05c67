"""The methods that GSSM's paper compares, at each size of a figure.

`tiny` reduces everything to a minimum, on the cart-pole. `quick` has the two
classical environments, for a CPU. `full` adds the MuJoCo environments. All use
the presets of `experiments/configs/`, which have the paper's sizes.
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
# Environments whose returns the paper divides by the horizon.
PER_STEP = (CARTPOLE, ACROBOT)
# Transitions of a test task to which a model or policy adapts; episodes after
# that.
CONTEXT = {'tiny': 5, CARTPOLE: 50, ACROBOT: 50}
LONG_CONTEXT, EPISODES = 500, 50
# Training episodes over which returns are averaged.
SMOOTHED = 10


class Look(NamedTuple):
  """A method: algorithm, label, colour, and model kind for variants of GSSM."""

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
# The paper compares these in the cart-pole in its text only.
_NOT_IN = {(CARTPOLE, 'dr_ppo'), (CARTPOLE, 'pe_ppo')}
# Fields of the quick sizes.
_QUICK: dict[tuple[str, str], dict[str, Any]] = {
  ('gssm', CARTPOLE): {'run.num_iterations': 60},
  ('gssm', ACROBOT): {'run.num_iterations': 60},
  ('l2a', ACROBOT): {'run.num_iterations': 30},
}
# GSSM's presets have 120,000 transitions of the acrobot and 150,000 of the
# MuJoCo environments, and so has L2A; PPO has five times as many.
_FULL: dict[tuple[str, str], dict[str, Any]] = {
  ('l2a', CARTPOLE): {'run.num_iterations': 90},
  ('l2a', ACROBOT): {'run.num_iterations': 600},
  ('l2a', 'half_cheetah_mass_damping'): {'run.num_iterations': 75},
  ('l2a', 'slim_humanoid'): {'run.num_iterations': 75},
  ('ppo', ACROBOT): {'run.num_iterations': 300},
  ('pe_ppo', ACROBOT): {'run.num_iterations': 300},
}
# Fields of the model-free methods in the MuJoCo environments: 5,000 episodes.
_LONG = {'collect.num_envs': 5, 'run.num_iterations': 1000}
# For the cost estimate, on one core: rate of matrix products in FLOP/s; further
# seconds per gradient step and per policy update; seconds to compile.
_RATE, _PER_GRADIENT_STEP, _PER_UPDATE, _COMPILING = 30e9, 2e-3, 0.01, 60.0


def compared(world: str, methods: tuple[str, ...]) -> tuple[str, ...]:
  """Returns the methods that the paper compares in an environment."""
  return tuple(name for name in methods if (world, name) not in _NOT_IN)


def config(
  method: str,
  world: str,
  size: str,
  values: Mapping[str, Any] | None = None,
) -> config_lib.Experiment:
  """Returns the configuration of a method in an environment.

  Args:
    method: of `METHODS`.
    world: of `WORLDS`.
    size: one of `command.SIZES`: `tiny`, `quick` or `full`.
    values: further fields by dotted name; `tiny` overrides them.
  """
  look = METHODS[method]
  like = ACROBOT
  if look.algorithm == 'l2a' and world not in PER_STEP:
    like = 'half_cheetah_fwd_bwd'
  known: Any = methods_lib.preset(look.algorithm, world, like=like)
  given = dict(values or {})
  sizes = {'quick': _QUICK, 'full': _FULL}.get(size, {})
  given = sizes.get((look.algorithm, world), {}) | given
  if not (methods_lib.CONFIGS / look.algorithm / f'{world}.py').is_file():
    # The environment with that name, and GSSM's episode length.
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
    # The policy's memory has the length of the context of a test task.
    given['context.window'] = context(world, size)
  if look.kind:
    # Only GSSM's policy receives the task's latent.
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
  """Returns the runs of a method in an environment, one per seed.

  Args:
    world: of `WORLDS`.
    method: of `METHODS`.
    size: `tiny`, `quick` or `full`.
    key: by default the method's.
    label: by default the method's.
    color: by default the method's.
    values: as for `config`.
    panel: the panel of the plot, by default the environment; the folder of the
      runs is always that of the environment.
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
  """Returns the number of transitions of a test task to adapt to.

  It is the paper's number, except for the size `tiny`.
  """
  return CONTEXT.get('tiny' if size == 'tiny' else world, LONG_CONTEXT)


def unit(world: str, run: study.Run) -> float:
  """Returns the divisor of returns: the horizon if the paper's is, else 1."""
  config: Any = run.config
  return config.collect.episode_length if world in PER_STEP else 1


def world_of(found: study.Found) -> str:
  """Returns the environment of a group, whatever its panel."""
  return found.group.runs[0].name.split('/', maxsplit=1)[0]


def ends(found: study.Found, world: str) -> list[float]:
  """Returns the last smoothed return of each finished run."""
  return [float(curve.returns[-1]) for curve in finished(found, world)]


def collected(found: study.Found, world: str) -> list[curves.Curve]:
  """Returns for every run the curve of returns of its training episodes.

  The episodes are of the current task, which changes throughout training, and
  the policy receives the transitions of that task seen so far, as in the
  paper's figure 2. Each value is the mean of the last `SMOOTHED` episodes,
  whatever the number of episodes per iteration.

  Args:
    found: the runs.
    world: their environment.
  """
  made = []
  for run, rows in zip(found.group.runs, found.rows, strict=True):
    returns = plot.column(rows, 'real/return') / unit(world, run)
    shown = np.isfinite(returns)
    steps = plot.column(rows, 'env_steps')[shown]
    curve = curves.Curve(steps, returns[shown], steps)
    made.append(curves.smoothed(curve, _window(run.config)))
  return made


def finished(found: study.Found, world: str) -> list[curves.Curve]:
  """Returns `collected` of the finished runs."""
  return [
    curve
    for curve, run, rows in zip(
      collected(found, world), found.group.runs, found.rows, strict=True
    )
    if study.is_done(run, rows) and curve.returns.size
  ]


def _window(config: Any) -> int:
  """Returns the number of iterations that have `SMOOTHED` episodes."""
  collect = config.collect
  episodes = collect.steps // collect.episode_length
  # Returns are those of the policy, without episodes of uniform actions.
  episodes -= getattr(collect, 'random_trajectories', 0)
  return max(1, SMOOTHED // max(1, episodes))


def seconds(config: Any) -> float:
  """Estimates the seconds of a whole run on one core from measured rates."""
  if config.algorithm not in ('gssm', 'pe_ppo'):
    return costs.seconds(config)
  steps = config.collect.steps * config.run.num_iterations
  if config.algorithm == 'pe_ppo':
    # Every policy update processes windows of the episode.
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
