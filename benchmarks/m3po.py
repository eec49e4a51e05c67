"""Times M3PO's rounds: gradient updates, model rollouts, and whole rounds.

  python benchmarks/m3po.py --scale=paper

On `half_cheetah_fwd_bwd`, without a history (MBPO) and with a history of 10
steps, which a GRU encodes. Measured are G updates of SAC, M model rollouts of
one step, whole rounds of one real step, M rollouts and G updates, and a fit.
An epoch is its rounds and a fit of `model.max_gradient_steps`. Scale `paper`
has networks of 2x256 units, minibatches of 256, M = 400 and G = 10; `quick` has
2x64, 64, M = 100 and G = 5. M3PO has five members; MBPO has seven, of which
five imagine. `--env` is ignored.
"""

import dataclasses
import functools
import resource
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import flops as counting
from benchmarks import off_policy
from benchmarks import options
from benchmarks import reports
from benchmarks import timing
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import inputs
from mbmpo_jax.algorithms.m3po import algorithm as m3po
from mbmpo_jax.algorithms.m3po import batches as batches_lib
from mbmpo_jax.algorithms.m3po import config as m3po_config
from mbmpo_jax.algorithms.m3po import imagination
from mbmpo_jax.algorithms.m3po import networks as networks_lib
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.models import mixture
from mbmpo_jax.models import recurrent
from mbmpo_jax.rollouts import real

_WORLDS = {'tiny': 'point_direc'}
_SIZES = {'paper': (256, 256), 'quick': (64, 64), 'tiny': (8, 8)}
_ROLLOUTS = {'paper': 400, 'quick': 100, 'tiny': 10}
_UPDATES = {'paper': 10, 'quick': 5, 'tiny': 2}
_ROUNDS = {'paper': 20, 'quick': 50, 'tiny': 5}
# Real transitions with random actions that are added for the fit.
_ADDED = {'paper': 4000, 'quick': 4000, 'tiny': 60}
_LENGTHS = {'paper': (0, 10), 'quick': (0, 10), 'tiny': (0, 3)}
# The gradient steps that are timed.
_FITTED = {'paper': 200, 'quick': 200, 'tiny': 4}
_AT_LEAST_S = 0.5


def make_config(scale: str, length: int) -> m3po_config.Config:
  """Returns the configuration of a scale, with a history of `length` steps.

  Without a history it is MBPO.
  """
  hidden, steps = _SIZES[scale], _ROUNDS[scale]
  episode = 60 if scale == 'tiny' else 1000
  values = {
    'env.name': _WORLDS.get(scale, 'half_cheetah_fwd_bwd'),
    'history.length': length,
    'policy.hidden_sizes': hidden,
    'critic.hidden_sizes': hidden,
    'model.hidden_sizes': hidden,
    'model.max_gradient_steps': _FITTED[scale],
    'model_rollouts.num_rollouts': _ROLLOUTS[scale],
    'model_rollouts.buffer_capacity': 50 * _ROLLOUTS[scale],
    'learn.batch_size': hidden[0],
    'learn.num_updates': _UPDATES[scale],
    'collect.num_envs': 1,
    'collect.steps_per_env': 2 * steps,
    'collect.episode_length': episode,
    'collect.buffer_capacity': 20_000 if scale != 'tiny' else 100,
    'collect.start_steps': 2 * steps,
    'run.chunk': steps,
  }
  if not length:
    values |= m3po_config.MBPO
  return config_lib.replaced(m3po_config.Config(), values)


def programs(config: m3po_config.Config, added: int) -> list[timing.Program]:
  """Compiles updates, rollouts, rounds and a fit, on a state that has learned.

  Args:
    config: of `make_config`.
    added: further real transitions, for the fit.
  """
  env = envs.from_config(config.env)
  algorithm = m3po.make(env, config, check=False)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  phases = {name: jax.jit(x.function) for name, x in algorithm.phases.items()}
  for name in ('explore', 'fit'):
    state, _ = phases[name](state)
  for _ in range(algorithm.phases['learn'].repeats):  # exploration is done
    state, _ = phases['learn'](state)
  state, _ = phases['explore'](state)
  state, _ = phases['learn'](state)
  said = f'L={config.history.length}'
  rounds = timing.compile_program(
    f'rounds, {said}',
    algorithm.phases['learn'].function,
    state,
    work=config.run.chunk,
    unit='env steps',
  )
  return [
    _updates(env, config, state),
    _rollouts(env, config, state),
    rounds,
    _fit(env, config, algorithm, state, added),
  ]


def _fit(
  env: envs.Environment,
  config: m3po_config.Config,
  algorithm: base.Algorithm,
  state: m3po.State,
  added: int,
) -> timing.Program:
  """A fit of all members; its work is the gradient steps that each takes."""
  length = config.collect.episode_length
  steps, _ = real.rollout(
    env,
    algorithm.policy,
    algorithm.policy_params(state),
    jax.random.PRNGKey(2),
    num_envs=max(1, added // length),
    horizon=min(added, length),
    random_actions=True,
  )
  state = algorithm.add(state, steps._replace(extras=()))
  fit = algorithm.phases[base.FIT].function
  _, metrics = jax.jit(fit)(state)
  return timing.compile_program(
    f'fit, L={config.history.length}',
    fit,
    state,
    work=int(metrics['model/gradient_steps']),
    unit='gradient steps',
  )


def _epoch(timings: list[timing.Timing]) -> float:
  """Returns real steps per second: rounds and a fit of the defaults' sizes."""
  defaults = m3po_config.Config()
  rate = {
    timed.name.split(',')[0]: timed.work / timed.median_s for timed in timings
  }
  limit = defaults.model.max_gradient_steps
  assert limit is not None
  fit = limit / rate['fit']
  steps = defaults.collect.steps_per_env
  return steps / (steps / rate['rounds'] + fit)


def _updates(
  env: envs.Environment, config: m3po_config.Config, state: m3po.State
) -> timing.Program:
  """The G updates of a round, with their minimal FLOPs without a history."""
  policy = networks_lib.make_policy(env, config)
  networks = networks_lib.make(env, config, policy)
  step = functools.partial(
    learner_lib.update, networks=networks, learn_temperature=True
  )

  def run(learner: Any, hyper: Any, batches: Any, key: jax.Array) -> Any:
    def one(carry: Any, batch: Any) -> Any:
      learner, key = carry
      key, own = jax.random.split(key)
      after = step(learner, hyper, batch, own)
      return (after.learner, key), after.metrics

    return jax.lax.scan(one, (learner, key), batches)

  share, key = jnp.ones(()), jax.random.PRNGKey(1)
  sample = functools.partial(batches_lib.sample, env, config)
  batches = jax.jit(sample)(
    state.buffer, state.imagined, share, state.moments, key
  )
  count, length = config.learn.num_updates, config.history.length
  args = (state.learner, state.hyper, batches, key)
  flops = counting.matmul_flops(run, *args)
  if not length:
    flops = count * off_policy.must_flops(config, env)
  return timing.compile_program(
    f'updates, L={length}', run, *args, work=count, unit='updates', flops=flops
  )


def _rollouts(
  env: envs.Environment, config: m3po_config.Config, state: m3po.State
) -> timing.Program:
  """The M rollouts of a round, from histories in the real data."""
  length = config.history.length
  policy, acting_params = inputs.acting(
    networks_lib.make_policy(env, config), env, config.collect
  )
  member = recurrent.make(
    env, config.model, length=length, units=config.history.units
  )
  rollouts = config.model_rollouts

  def run(params: Any, model: Any, buffer: Any, key: jax.Array) -> Any:
    return imagination.branched(
      env,
      policy,
      params,
      mixture.redrawn(member, config.model.num_imagining),
      model,
      buffer,
      key,
      num_rollouts=rollouts.num_rollouts,
      horizon=rollouts.horizon,
      length=length,
    ).rows

  args = (
    acting_params(state.learner.policy, state.moments),
    state.model,
    state.buffer,
    state.counters.key,
  )
  return timing.compile_program(
    f'rollouts, L={length}',
    run,
    *args,
    work=rollouts.steps,
    unit='model steps',
    flops=counting.matmul_flops(run, *args),
  )


def run(scale: str, repeats: int) -> dict[str, Any]:
  """Measures everything and prints a line for each program."""
  configs = [make_config(scale, length) for length in _LENGTHS[scale]]
  rate = timing.MatmulRate('default')
  timings = timing.alternate(
    [
      program
      for config in configs
      for program in programs(config, _ADDED[scale])
    ],
    rate=rate,
    repeats=repeats,
    at_least_s=0.0 if scale == 'tiny' else _AT_LEAST_S,
  )
  print(timing.HEADER)
  for timed in timings:
    print(timed.row(), flush=True)
  epochs = {}
  for length in _LENGTHS[scale]:
    own = [x for x in timings if x.name.endswith(f'L={length}')]
    epochs[f'L={length}'] = _epoch(own)
    print(f'epochs, L={length}: {epochs[f"L={length}"]:.3g} env steps/s')
  matmul = statistics.median(rate.history)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  print(f'memory of this process at its peak: {peak / 2**20:,.0f} MiB')
  return reports.make(
    'm3po',
    env=configs[0].env.name,
    scale=scale,
    precision='default',
    config=config_lib.flatten(configs[-1]),
    matmul_flops_per_s=matmul,
    peak_rss_bytes=peak,
    epoch_env_steps_per_s=epochs,
    results=[
      dataclasses.asdict(timed) | {'median_s': timed.median_s}
      for timed in timings
    ],
  )


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  report = run(options.SCALE.value, options.REPEATS.value)
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
