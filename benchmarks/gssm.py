"""Times GSSM: fit steps, imagined steps, and adaptation to a new task.

  python benchmarks/gssm.py --scale=paper

Scale `paper` uses the acrobot with decoders of 5x400 units, `quick` the
cart-pole with 2x200; `--env` is ignored. The memory of a context is reported
too: C points have C^2 similarities.
"""

import dataclasses
import pathlib
import runpy
import statistics
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import flops as counting
from benchmarks import options
from benchmarks import reports
from benchmarks import timing
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms.gssm import algorithm as gssm
from mbmpo_jax.algorithms.gssm import config as gssm_config
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.rollouts import imagined
from mbmpo_jax.rollouts import real
from mbmpo_jax.training.launch import tiny as tiny_lib

_PRESETS = pathlib.Path(__file__).parents[1] / 'experiments/configs/gssm'
_WORLDS = {'paper': 'acrobot', 'quick': 'cartpole_swingup'}
_CONTEXTS = {'paper': (50, 500, 2000), 'quick': (50, 500), 'tiny': (2, 5)}
_GRADIENT_STEPS = {'paper': 20, 'quick': 50, 'tiny': 2}
_EPISODES = 5
_AT_LEAST_S = 0.5


def make_config(scale: str) -> gssm_config.Config:
  """Returns the preset of a scale, with fewer gradient steps."""
  world = _WORLDS.get(scale, 'cartpole_swingup')
  config = runpy.run_path(str(_PRESETS / f'{world}.py'))['get_config']()
  if scale == 'tiny':
    config = tiny_lib.shrink(config)
  config.model.gradient_steps = _GRADIENT_STEPS[scale]
  return config


def programs(
  config: gssm_config.Config,
) -> tuple[list[timing.Program], Any]:
  """Compiles the three programs for a model fitted to a few episodes.

  Returns:
    The programs and the model.
  """
  env = envs.from_config(config.env)
  algorithm = gssm.make(env, config)
  surrogate = surrogate_lib.make(env, config.model)
  key = jax.random.PRNGKey(0)
  state = jax.jit(algorithm.init)(key, base.hyper(config))
  collect = jax.jit(algorithm.phases['collect'].function)
  for _ in range(_EPISODES):
    state, _ = collect(state)
  fit = algorithm.phases['fit'].function
  fitting = timing.compile_program(
    'fit',
    fit,
    state,
    work=config.model.gradient_steps,
    unit='gradient steps',
    flops=counting.matmul_flops(fit, state),
  )
  state, _ = fitting.compiled(state)
  model = jax.tree.map(lambda x: x[0], state.model)
  known, _ = real.rollout(
    env,
    algorithm.policy,
    algorithm.policy_params(state),
    key,
    num_envs=1,
    horizon=config.model.context_size,
    time_limit=config.collect.episode_length,
  )

  def adapt(state: Any, key: jax.Array) -> Any:
    assert algorithm.adapt is not None
    return algorithm.adapt(state, known, key)

  rollouts = config.model_rollouts
  num = rollouts.num_contexts * rollouts.num_rollouts
  each = jax.tree.map(
    lambda x: jnp.broadcast_to(x[None], (rollouts.num_contexts, *x.shape)),
    points(env, config, config.model.context_size),
  )

  def imagine(model: Any, params: Any, contexts: Any, key: jax.Array) -> Any:
    def of_context(context: Any, key: jax.Array) -> jax.Array:
      assert surrogate.encode is not None
      starts = jax.random.split(key, rollouts.num_rollouts)
      return imagined.rollout(
        algorithm.policy,
        params,
        surrogate.dynamics,
        model,
        key,
        jax.vmap(env.initial_obs)(starts),
        horizon=rollouts.horizon,
        reward_fn=env.reward,
        done_fn=env.done,
        context=context,
        policy_context=surrogate.encode(model, context, key).sample,
      ).reward

    keys = jax.random.split(key, rollouts.num_contexts)
    return jax.vmap(of_context)(contexts, keys)

  args = (model, algorithm.policy_params(state), each, key)
  compiled = [
    fitting,
    timing.compile_program(
      'imagine',
      imagine,
      *args,
      work=num * rollouts.horizon,
      unit='imagined steps',
      flops=counting.matmul_flops(imagine, *args),
    ),
    timing.compile_program(
      'adapt', adapt, state, key, work=1, unit='adaptations'
    ),
  ]
  return compiled, model


def points(
  env: envs.Environment, config: gssm_config.Config, count: int
) -> sets.Points:
  """Returns a context of `count` points with arbitrary numbers."""
  seen = jax.eval_shape(env.model_input, jnp.zeros(env.observation_size))
  blank = sets.empty(
    count, seen.shape[0] + env.action_size, env.observation_size
  )
  return blank._replace(mask=jnp.ones(count))


def context_bytes(
  config: gssm_config.Config, model: Any, sizes: tuple[int, ...]
) -> dict[int, int]:
  """Returns the memory of inferring z, beside its inputs, by context size."""
  env = envs.from_config(config.env)
  surrogate = surrogate_lib.make(env, config.model)
  assert surrogate.encode is not None
  key = jax.random.PRNGKey(0)
  found = {}
  for count in sizes:
    program: Any = timing.compiled(
      surrogate.encode, model, points(env, config, count), key
    )
    found[count] = int(program.memory_analysis().temp_size_in_bytes)
  return found


def gradient_bytes(
  config: gssm_config.Config, model: Any, sizes: tuple[int, ...]
) -> dict[int, int]:
  """Returns the memory of a gradient step's derivatives, by context size."""
  env, section = envs.from_config(config.env), config.model
  surrogate = surrogate_lib.make(env, section)
  targets = points(env, config, section.target_size)
  keys = jax.random.split(jax.random.PRNGKey(0), section.tasks_per_step)

  def gradient(params: Any, contexts: sets.Points, keys: jax.Array) -> Any:
    def loss(params: Any) -> jax.Array:
      each = jax.vmap(lambda c, k: surrogate.loss(params, c, targets, k)[0])
      return jnp.mean(each(contexts, keys))

    return jax.grad(loss)(params)

  found = {}
  for count in sizes:
    contexts = jax.tree.map(
      lambda x: jnp.broadcast_to(x[None], (keys.shape[0], *x.shape)),
      points(env, config, count),
    )
    program: Any = timing.compiled(gradient, model.params, contexts, keys)
    found[count] = int(program.memory_analysis().temp_size_in_bytes)
  return found


def run(scale: str, repeats: int) -> dict[str, Any]:
  """Measures, and prints a line for each program and each context."""
  config = make_config(scale)
  rate = timing.MatmulRate(config.model.precision)
  compiled, model = programs(config)
  timings = timing.alternate(
    compiled,
    rate=rate,
    repeats=repeats,
    at_least_s=0.0 if scale == 'tiny' else _AT_LEAST_S,
  )
  print(timing.HEADER)
  for timed in timings:
    print(timed.row(), flush=True)
  matmul = statistics.median(rate.history)
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  taken = context_bytes(config, model, _CONTEXTS[scale])
  learned = gradient_bytes(config, model, _CONTEXTS[scale])
  for count in _CONTEXTS[scale]:
    print(
      f'a context of {count}: {taken[count] / 2**20:.3g} MiB to infer z,'
      f' {learned[count] / 2**20:.3g} MiB in a gradient step'
    )
  return reports.make(
    'gssm',
    env=config.env.name,
    scale=scale,
    precision=config.model.precision,
    config=dataclasses.asdict(config),
    matmul_flops_per_s=matmul,
    results=[
      dataclasses.asdict(timed) | {'median_s': timed.median_s}
      for timed in timings
    ],
    context_bytes=taken,
    gradient_bytes=learned,
  )


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  report = run(options.SCALE.value, options.REPEATS.value)
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
