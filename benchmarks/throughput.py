"""Times each phase of an iteration, apart from its compilation.

  python benchmarks/throughput.py --scale=paper

collect in environment steps/s, fit in member-sample-epochs/s, imagine in
imagined steps/s, one meta-step, and the whole `update`. The data is real: the
buffer is filled by MJX.

  python benchmarks/throughput.py --env=all

times the steps of every environment and variant instead.
"""

import dataclasses
import functools
import itertools
import json
import pathlib

import jax
from absl import app
from absl import flags

from benchmarks import flops as counting
from benchmarks import stepping
from benchmarks import timing
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import quiet
from mbmpo_jax import types
from mbmpo_jax.algorithms import imagination
from mbmpo_jax.algorithms import mbmpo
from mbmpo_jax.algorithms import state as state_lib
from mbmpo_jax.policies import gaussian

_SCALE = flags.DEFINE_enum(
  'scale', 'quick', ['paper', 'quick', 'tiny'],
  'paper: 5 members of 2x512, 100,000 imagined transitions per phase, horizon'
  ' 200; quick: a fifth of it; tiny: a smoke test.',
)  # fmt: skip
_ENV = flags.DEFINE_string(
  'env', 'half_cheetah', 'Environment to measure in, or `all`.'
)
_NUM_ENVS = flags.DEFINE_integer(
  'num_envs', 20, 'Environments side by side, with --env=all.', lower_bound=1
)
_REPEATS = flags.DEFINE_integer(
  'repeats', 7, 'Repetitions of each phase.', lower_bound=1
)
_UPDATE_REPEATS = flags.DEFINE_integer(
  'update_repeats', 3, 'Repetitions of the whole update.', lower_bound=1
)
_OUT = flags.DEFINE_string(
  'out', '', 'JSON file; by default one in benchmarks/results/ named after'
  ' platform, environment and scale.',
)  # fmt: skip

_RESULTS = pathlib.Path(__file__).parent / 'results'


def make_config(env_name: str, scale: str) -> config_lib.Config:
  """The configuration measured at a scale, with a fixed number of epochs."""
  config = config_lib.Config()
  config.env.name = env_name
  config.model.early_stopping = False
  config.model.max_epochs = 20
  config.collect.buffer_capacity = 20_000
  if scale in ('quick', 'tiny'):
    config.imagine.rollouts_per_task = 5
    config.meta.num_meta_steps = 6
    config.collect.buffer_capacity = 4_000
  if scale == 'tiny':
    config.model.hidden_sizes = (16, 16)
    config.model.max_epochs = 2
    config.imagine.horizon = config.collect.episode_length = 10
    config.meta.num_meta_steps = 1
    config.collect.buffer_capacity = 400
  limit = envs.make(env_name).max_episode_steps
  config.imagine.horizon = min(config.imagine.horizon, limit)
  config.collect.episode_length = min(config.collect.episode_length, limit)
  return config


def forward_flops(sizes: tuple[int, ...]) -> int:
  """Multiply-adds, counted twice, of one sample through an MLP."""
  return sum(2 * a * b for a, b in itertools.pairwise(sizes))


def run(env_name: str, scale: str, repeats: int, update_repeats: int) -> dict:
  """Measures every phase and prints a line for each."""
  config = make_config(env_name, scale)
  env = envs.make(env_name)
  single_step = dataclasses.replace(
    config, meta=dataclasses.replace(config.meta, num_meta_steps=1)
  )
  algorithm = mbmpo.make(env, config)
  one_step = mbmpo.make(env, single_step, check=False)
  rate = timing.MatmulRate(config.model.precision)

  model, sizes = config.model, config.imagine
  layers = (
    env.observation_size + env.action_size,
    *model.hidden_sizes,
    env.observation_size,
  )
  model_flops = forward_flops(layers)
  # Backward is twice forward, but nobody asks for the inputs' gradient.
  training_flops = 3 * model_flops - forward_flops(layers[:2])
  policy_flops = forward_flops(
    (env.observation_size, *config.policy.hidden_sizes, env.action_size)
  )
  num_tasks = model.num_models * sizes.tasks_per_model
  imagined = num_tasks * sizes.rollouts_per_task * sizes.horizon
  real = config.collect.num_trajectories * config.collect.episode_length
  stored = config.collect.buffer_capacity
  held_out = int(stored * model.validation_fraction)
  epochs = model.num_models * model.max_epochs

  print(timing.HEADER)
  results: list[timing.Timing] = []

  def measure(name: str, *args, repeats: int = repeats, **kwargs) -> None:
    results.append(
      timing.measure(name, *args, rate=rate, repeats=repeats, **kwargs)
    )
    print(results[-1].row(), flush=True)

  state = jax.jit(algorithm.init)(jax.random.PRNGKey(config.seed))
  # Measured first: filling the buffer would compile it unmeasured.
  collect_flops = counting.matmul_flops(algorithm.collect, state)
  measure(
    'collect', algorithm.collect, state, work=real, unit='env steps',
    flops=collect_flops,
  )  # fmt: skip
  collect = jax.jit(algorithm.collect)
  for _ in range(-(-stored // real)):
    state = collect(state)[0]
  fit_flops = epochs * (
    training_flops * (stored - held_out) + model_flops * held_out
  )
  measure(
    'fit', algorithm.fit, state,
    work=epochs * (stored - held_out), unit='member-sample-epochs',
    flops=fit_flops,
  )  # fmt: skip
  state = jax.jit(algorithm.fit)(state)[0]
  state = state._replace(iteration=state.iteration + 1)
  measure(
    'imagine', functools.partial(_imagine, env, config), state, work=imagined,
    unit='imagined steps', flops=imagined * (model_flops + policy_flops),
  )  # fmt: skip
  step_flops = counting.matmul_flops(one_step.improve, state)
  measure(
    'meta-step', one_step.improve, state, work=1, unit='meta-steps',
    flops=step_flops,
  )  # fmt: skip
  measure(
    'update', algorithm.update, state, work=1, unit='iterations',
    flops=collect_flops + fit_flops + config.meta.num_meta_steps * step_flops,
    repeats=update_repeats,
  )  # fmt: skip

  matmul = sorted(rate.history)[len(rate.history) // 2]
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  return {
    'scale': scale,
    'env': env_name,
    'environment': timing.environment(),
    'precision': model.precision,
    'matmul_flops_per_s': matmul,
    'config': dataclasses.asdict(config),
    'results': _as_dicts(results),
  }


def run_all(num_envs: int, horizon: int, repeats: int) -> dict:
  """Measures the steps of every environment."""
  results = stepping.run(num_envs, horizon, repeats)
  return {
    'env': 'all',
    'environment': timing.environment(),
    'num_envs': num_envs,
    'horizon': horizon,
    'results': _as_dicts(results),
  }


def _as_dicts(results: list[timing.Timing]) -> list[dict]:
  return [
    dataclasses.asdict(result) | {'median_s': result.median_s}
    for result in results
  ]


def _imagine(
  env: envs.Environment, config: config_lib.Config, state: state_lib.TrainState
) -> types.Trajectory:
  """One sampling phase of the meta-policy over all tasks.

  Jitted, it computes no advantages: they are not returned.
  """
  imagined = imagination.rollout_tasks(
    state.policy,
    state.model,
    state.hyper,
    state.key,
    env=env,
    config=config,
    policy_apply=gaussian.apply,
    policy_per_task=False,
  )
  return imagined.trajectory


def main(argv: list[str]) -> None:
  """Measures and writes the JSON."""
  del argv
  scale = _SCALE.value
  if _ENV.value == 'all':
    horizon = 10 if scale == 'tiny' else 200
    report = run_all(_NUM_ENVS.value, horizon, _REPEATS.value)
    scale = f'{_NUM_ENVS.value}x{horizon}'
  else:
    report = run(_ENV.value, scale, _REPEATS.value, _UPDATE_REPEATS.value)
  platform = report['environment']['platform']
  name = f'throughput_{platform}_{_ENV.value}_{scale}.json'
  path = pathlib.Path(_OUT.value) if _OUT.value else _RESULTS / name
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(json.dumps(report, indent=2) + '\n')
  print(f'written to {path}')


if __name__ == '__main__':
  quiet.quiet_logging(flags.FLAGS)  # Before absl raises it.
  app.run(main)
