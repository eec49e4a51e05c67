"""Times a step of a planner: observations in, actions out, in one program.

  python benchmarks/planner.py --scale=paper

Random shooting and CEM plan with an ensemble of MB-MPC, for several
environments in parallel. Scale `paper` has members of 2x512 units, with 1,000
candidates of 10 steps for random shooting, and 500 of 25 steps in 5 rounds for
CEM. Scale `quick` has the sizes of the HalfCheetah preset, and equally many
predictions for random shooting.
"""

import dataclasses
import pathlib
import runpy
import statistics
from typing import Any

import jax
from absl import flags

from benchmarks import flops as counting
from benchmarks import options
from benchmarks import reports
from benchmarks import timing
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms.mb_mpc import algorithm as mb_mpc
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc_config
from mbmpo_jax.envs import base
from mbmpo_jax.models import ensemble

_NUM_ENVS = flags.DEFINE_integer(
  'num_envs', 10, 'Number of environments in parallel.', lower_bound=1
)
_ROOT = pathlib.Path(__file__).parents[1]
_PRESET = _ROOT / 'experiments' / 'configs' / 'mb_mpc' / 'half_cheetah.py'
_AT_LEAST_S = 1.0


def make_configs(env_name: str, scale: str) -> dict[str, mb_mpc_config.Config]:
  """Returns the configurations of a scale, by name."""
  shooting = mb_mpc_config.Planner()
  cem = mb_mpc_config.Planner(kind='cem', num_candidates=500, horizon=25)
  model = config_lib.Ensemble()
  if scale != 'paper':
    preset = runpy.run_path(str(_PRESET))['get_config']()
    model, cem = preset.model, preset.planner
    shooting = mb_mpc_config.Planner(
      num_candidates=cem.num_candidates * cem.num_iterations,
      horizon=cem.horizon,
    )
  configs = {
    planner.kind: mb_mpc_config.Config(
      env=config_lib.Env(name=env_name), model=model, planner=planner
    )
    for planner in (shooting, cem)
  }
  if scale == 'tiny':
    small = {'model.hidden_sizes': (16,), 'planner.num_candidates': 50}
    configs = {
      name: config_lib.replaced(config, small)
      for name, config in configs.items()
    }
  return configs


def compile_step(
  env: base.Environment, config: mb_mpc_config.Config, num_envs: int
) -> timing.Program:
  """Compiles a planner's sampled step, with an untrained model."""
  dynamics = ensemble.make(env, config.model)
  policy = mb_mpc.make_planner(env, dynamics, config)
  params_key, reset_key, key = jax.random.split(jax.random.PRNGKey(0), 3)
  params = jax.jit(policy.init)(params_key)
  obs = jax.vmap(env.initial_obs)(jax.random.split(reset_key, num_envs))
  args = (
    params,
    policy.start(params, key, (), num_envs),
    obs,
    policy.noise(key, (num_envs,)),
  )
  return timing.compile_program(
    config.planner.kind,
    policy.act,
    *args,
    work=num_envs,
    unit='actions',
    flops=counting.matmul_flops(policy.act, *args),
  )


def run(
  env_name: str, scale: str, repeats: int, num_envs: int
) -> dict[str, Any]:
  """Measures both planners and prints a line for each."""
  env = envs.make(env_name)
  configs = make_configs(env_name, scale)
  precision = next(iter(configs.values())).model.precision
  rate = timing.MatmulRate(precision)
  programs = [
    compile_step(env, config, num_envs) for config in configs.values()
  ]
  timings = timing.alternate(
    programs,
    rate=rate,
    repeats=repeats,
    at_least_s=0.0 if scale == 'tiny' else _AT_LEAST_S,
  )
  print(timing.HEADER)
  for timed in timings:
    print(timed.row(), flush=True)
  matmul = statistics.median(rate.history)
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  return reports.make(
    'planner',
    env=env_name,
    scale=scale,
    precision=precision,
    num_envs=num_envs,
    configs={
      name: {
        'model': dataclasses.asdict(config.model),
        'planner': dataclasses.asdict(config.planner),
      }
      for name, config in configs.items()
    },
    matmul_flops_per_s=matmul,
    results=[
      dataclasses.asdict(timed) | {'median_s': timed.median_s}
      for timed in timings
    ],
  )


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  scale = options.SCALE.value
  report = run(options.ENV.value, scale, options.REPEATS.value, _NUM_ENVS.value)
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
