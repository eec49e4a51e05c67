"""Times SAC: gradient updates beside brax's, and steps with and without them.

  python benchmarks/off_policy.py --scale=paper

Measured are an update of all networks, alternating between this package and
brax at equal sizes; environment steps that are stored without learning; and
both together, with an update after each step, as in training. Scale `paper` has
minibatches of 256, networks of 2x256 units and one environment; `quick` has 64
and 2x64.
"""

import dataclasses
import functools
import itertools
import statistics
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from benchmarks import flops as counting
from benchmarks import options
from benchmarks import reports
from benchmarks import timing
from mbmpo_jax import algorithms
from mbmpo_jax import compat
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import off_policy
from mbmpo_jax.algorithms import tally
from mbmpo_jax.algorithms.m3po import config as m3po_config
from mbmpo_jax.algorithms.sac import config as sac_config
from mbmpo_jax.algorithms.sac import learner as learner_lib
from mbmpo_jax.algorithms.sac import networks as networks_lib

# isort: split
from brax.training import gradients as brax_gradients
from brax.training import types as brax_types
from brax.training.agents.sac import losses as brax_losses
from brax.training.agents.sac import networks as brax_networks

_SIZES = {'paper': (256, 256), 'quick': (64, 64), 'tiny': (8, 8)}
_UPDATES = {'paper': 50, 'quick': 50, 'tiny': 2}
_STEPS = {'paper': 100, 'quick': 100, 'tiny': 10}
_AT_LEAST_S = 0.5


def make_config(env_name: str, scale: str) -> sac_config.Config:
  """Returns the configuration of a scale."""
  hidden = _SIZES[scale]
  steps = _STEPS[scale]
  values = {
    'env.name': env_name,
    'policy.hidden_sizes': hidden,
    'critic.hidden_sizes': hidden,
    'learn.batch_size': hidden[0],
    'collect.steps_per_env': steps,
    'collect.episode_length': 5 * steps if scale != 'tiny' else steps,
    'collect.buffer_capacity': 100_000 if scale != 'tiny' else 100,
    'collect.start_steps': 0,
    'run.chunk': steps,
  }
  return config_lib.replaced(sac_config.Config(), values)


def must_flops(
  config: sac_config.Config | m3po_config.Config, env: envs.Environment
) -> int:
  """Returns the minimal FLOPs of the matrix products of an update.

  Targets: forward pass of policy and critics. Critics: forward pass, and
  backward pass to their weights. Policy: forward pass of policy and critics,
  backward pass through the critics to the action and to the policy's weights.

  Args:
    config: sizes of networks and minibatch.
    env: sizes of observations and actions.
  """
  observation_size, action_size = env.observation_size, env.action_size

  def layers(inputs: int, hidden: tuple[int, ...], outputs: int) -> list[int]:
    sizes = (inputs, *hidden, outputs)
    return [a * b for a, b in itertools.pairwise(sizes)]

  policy = layers(observation_size, config.policy.hidden_sizes, 2 * action_size)
  inputs = observation_size + action_size
  critic = layers(inputs, config.critic.hidden_sizes, 1)
  to_action = sum(critic[1:]) + action_size * critic[0] // inputs
  of_policy = 2 * sum(policy) + sum(policy) + sum(policy[1:])
  of_critics = 3 * sum(critic) + sum(critic) + sum(critic[1:]) + to_action
  return 2 * config.learn.batch_size * (of_policy + 2 * of_critics)


def compile_ours(
  config: sac_config.Config, env: envs.Environment, count: int
) -> tuple[timing.Program, float]:
  """Compiles `count` consecutive updates.

  Returns:
    The program, and the FLOPs of the products in one update.
  """
  policy = networks_lib.make_policy(env, config.policy)
  networks = networks_lib.make(env, config, policy)
  hyper = base.hyper(config)
  learner = learner_lib.init(networks, jax.random.PRNGKey(0), hyper)
  update = functools.partial(
    learner_lib.update, networks=networks, learn_temperature=True
  )

  def run(learner: Any, batches: Any, key: jax.Array) -> Any:
    names = ('updates', 'nonfinite/updates', *learner_lib.METRICS)
    counts = tally.start(names)
    # `ready` depends on an argument, so it is unknown at compile time, as in
    # training.
    return off_policy.learn(
      learner, counts, update, hyper, batches, key, ready=key[0] < 2**30
    )

  drawn = _batches(env, config.learn.batch_size, count)
  batches = learner_lib.Batch(
    drawn['obs'],
    drawn['action'],
    drawn['reward'],
    drawn['next_obs'],
    drawn['terminated'],
  )
  args = (learner, batches, jax.random.PRNGKey(1))
  does = counting.matmul_flops(
    lambda learner, batch, key: update(learner, hyper, batch, key),
    learner,
    jax.tree.map(lambda x: x[0], batches),
    args[2],
  )
  must = must_flops(config, env)
  program = timing.compile_program(
    'update', run, *args, work=count, unit='updates', flops=count * must
  )
  return program, does


def compile_brax(
  config: sac_config.Config, env: envs.Environment, count: int
) -> timing.Program:
  """Compiles `count` updates of brax, one after the other as in its trainer."""
  networks = brax_networks.make_sac_networks(
    env.observation_size,
    env.action_size,
    hidden_layer_sizes=config.critic.hidden_sizes,
    activation=nn.relu,
  )
  alpha_loss, critic_loss, actor_loss = brax_losses.make_losses(
    sac_network=networks,
    reward_scaling=1.0,
    discounting=config.learn.discount,
    action_size=env.action_size,
  )
  optimizer = optax.adam(config.critic.learning_rate)
  alpha_step, critic_step, actor_step = (
    brax_gradients.gradient_update_fn(loss, optimizer, pmap_axis_name=None)
    for loss in (alpha_loss, critic_loss, actor_loss)
  )
  tau = config.learn.target_rate

  def update(carry: Any, batch: Any) -> tuple[Any, Any]:
    (alpha, critic, policy, target), states, key = carry
    key, *keys = jax.random.split(key, 4)
    loss_a, new_alpha, state_a = alpha_step(
      alpha, policy, None, batch, keys[0], optimizer_state=states[0]
    )
    weight = jnp.exp(alpha)
    loss_q, new_critic, state_q = critic_step(
      critic,
      policy,
      None,
      target,
      weight,
      batch,
      keys[1],
      optimizer_state=states[1],
    )
    loss_p, new_policy, state_p = actor_step(
      policy, None, critic, weight, batch, keys[2], optimizer_state=states[2]
    )
    target = jax.tree.map(
      lambda x, y: x * (1 - tau) + y * tau, target, new_critic
    )
    nets = (new_alpha, new_critic, new_policy, target)
    return (nets, (state_a, state_q, state_p), key), (loss_a, loss_q, loss_p)

  policy_key, critic_key, key = jax.random.split(jax.random.PRNGKey(0), 3)
  critic = networks.q_network.init(critic_key)
  nets = (
    jnp.zeros(()),
    critic,
    networks.policy_network.init(policy_key),
    critic,
  )
  states = tuple(optimizer.init(x) for x in nets[:3])
  drawn = _batches(env, config.learn.batch_size, count)
  batches = brax_types.Transition(
    observation=drawn['obs'],
    action=drawn['action'],
    reward=drawn['reward'],
    discount=1 - drawn['terminated'],
    next_observation=drawn['next_obs'],
    extras={
      'state_extras': {'truncation': drawn['terminated']},
      'policy_extras': {},
    },
  )

  def run(nets: Any, states: Any, key: jax.Array, batches: Any) -> Any:
    carry, losses = jax.lax.scan(update, (nets, states, key), batches)
    return carry, jax.tree.map(jnp.mean, losses)

  args = (nets, states, key, batches)
  return timing.compile_program(
    "brax's update",
    run,
    *args,
    work=count,
    unit='updates',
    flops=counting.matmul_flops(run, *args),
  )


def compile_steps(
  config: sac_config.Config, env: envs.Environment, *, learning: bool
) -> timing.Program:
  """Compiles an iteration, with or without an update after each step."""
  if not learning:
    config = config_lib.replaced(config, {'collect.start_steps': 10**8})
  algorithm = algorithms.make('sac', env, config, check=False)
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0), base.hyper(config))
  program = timing.compile_program(
    'step and update' if learning else 'step',
    algorithm.phases['learn'].function,
    state,
    work=config.collect.steps,
    unit='env steps',
  )
  while int(state.buffer.size) < config.learn.batch_size:
    state, _ = program.compiled(state)
  program.args = (state,)
  return program


def run(env_name: str, scale: str, repeats: int) -> dict[str, Any]:
  """Measures everything and prints a line for each program."""
  env = envs.make(env_name)
  config = make_config(env_name, scale)
  count = _UPDATES[scale]
  rate = timing.MatmulRate('default')
  ours, does = compile_ours(config, env, count)
  must = must_flops(config, env)
  with compat.brax_trainers():
    programs = [
      ours,
      compile_brax(config, env, count),
      compile_steps(config, env, learning=False),
      compile_steps(config, env, learning=True),
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
  ratio = statistics.median(
    brax / own
    for own, brax in zip(timings[0].seconds, timings[1].seconds, strict=True)
  )
  matmul = statistics.median(rate.history)
  print(
    f'an update must do {must / 1e6:,.1f} MFLOP, does {does / must:.3f} of it;'
    f" brax's takes {ratio:.2f} times as long"
  )
  print(f'matmul rate, median: {matmul / 1e9:,.0f} GFLOP/s')
  return reports.make(
    'off_policy',
    env=env_name,
    scale=scale,
    precision='default',
    config=config_lib.flatten(config),
    matmul_flops_per_s=matmul,
    must_flops=must,
    does_flops=does,
    brax_over_ours=ratio,
    results=[
      dataclasses.asdict(timed) | {'median_s': timed.median_s}
      for timed in timings
    ],
  )


def _batches(
  env: envs.Environment, rows: int, count: int
) -> dict[str, jax.Array]:
  """Returns transitions, leaves `[count, rows, ...]`."""
  keys = jax.random.split(jax.random.PRNGKey(2), 4)
  draw: Callable[..., jax.Array] = jax.random.normal
  obs, next_obs = draw(keys[0], (2, count, rows, env.observation_size))
  return {
    'obs': obs,
    'next_obs': next_obs,
    'action': jnp.tanh(draw(keys[1], (count, rows, env.action_size))),
    'reward': draw(keys[2], (count, rows)),
    'terminated': jnp.zeros((count, rows)),
  }


def main(argv: list[str]) -> None:
  """Measures and writes the JSON file."""
  del argv
  report = run(options.ENV.value, options.SCALE.value, options.REPEATS.value)
  reports.write(report, options.OUT.value)


if __name__ == '__main__':
  options.run(main)
