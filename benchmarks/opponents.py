"""brax's trainers with the hyperparameters of this package's configurations.

If brax fixes a value, or has one value where this package has two, the
configuration is changed to match, so that both sides learn with the same
values. brax's episodes start from new initial states, as here
(`fresh_resets.py`). The remaining differences of brax: it recomputes advantages
for every minibatch, over sequences that may be shorter than an iteration's, and
it ignores transitions at a time limit.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from benchmarks import fresh_resets
from mbmpo_jax import config as config_lib
from mbmpo_jax import types
from mbmpo_jax.algorithms.ppo import config as ppo_config
from mbmpo_jax.algorithms.sac import config as sac_config
from mbmpo_jax.envs import base as envs  # first, because it silences brax
from mbmpo_jax.networks import mlp
from mbmpo_jax.policies import base as policies

# isort: split
from brax.training import types as brax_types
from brax.training.agents.ppo import networks as ppo_networks
from brax.training.agents.ppo import train as ppo_train
from brax.training.agents.sac import networks as sac_networks
from brax.training.agents.sac import train as sac_train

# brax's target entropy, in nats per action dimension.
_TARGET_ENTROPY = -0.5
_TEMPERATURE_RATE = 3e-4

# (env, num_timesteps=, num_evals=, seed=, progress_fn=) -> (make_policy,
# params, metrics)
Train = Callable[..., tuple[Any, Any, Any]]


class Opponent(NamedTuple):
  """A trainer of brax, and this package's configuration for the comparison."""

  config: config_lib.Experiment
  train: Train


def ppo(config: ppo_config.Config) -> Opponent:
  """Returns brax's PPO.

  Minibatches of brax consist of whole sequences. These are as long as the
  number of steps per iteration and the number of minibatches allow.
  """
  collect, learn = config.collect, config.learn
  length = sequence_length(
    collect.num_envs, collect.steps_per_env, learn.num_minibatches
  )
  sequences = collect.steps // length
  networks = functools.partial(
    ppo_networks.make_ppo_networks,
    policy_hidden_layer_sizes=config.policy.hidden_sizes,
    value_hidden_layer_sizes=config.value.hidden_sizes,
    activation=nn.tanh,
    distribution_type='normal',
    noise_std_type='log',
    init_noise_std=config.policy.init_std,
    policy_network_kernel_init_fn=jax.nn.initializers.xavier_uniform,
  )
  train = functools.partial(
    ppo_train.train,
    num_envs=collect.num_envs,
    episode_length=collect.episode_length,
    unroll_length=length,
    batch_size=sequences // learn.num_minibatches,
    num_minibatches=learn.num_minibatches,
    num_updates_per_batch=learn.num_epochs,
    learning_rate=learn.learning_rate,
    max_grad_norm=learn.max_grad_norm,
    clipping_epsilon=learn.clip_range,
    vf_loss_coefficient=learn.value_coef,
    entropy_cost=learn.entropy_coef,
    discounting=config.advantage.discount,
    gae_lambda=config.advantage.gae_lambda,
    normalize_observations=collect.normalize_observations,
    network_factory=networks,
    run_evals=False,
    max_devices_per_host=1,
    wrap_env_fn=fresh_resets.wrap,
  )
  return Opponent(config, train)


def sac(config: sac_config.Config) -> Opponent:
  """Returns brax's SAC.

  brax collects its first transitions with the initial policy, this package
  equally many with uniform actions.

  Raises:
    config.ConfigError: if there is not an update after every step.
  """
  learn, critic = config.learn, config.critic
  if learn.update_every > 1:
    raise config_lib.ConfigError(
      f'learn.update_every={learn.update_every}: must be 1, as in brax'
    )
  config = config_lib.replaced(
    config,
    {
      'policy.hidden_sizes': critic.hidden_sizes,
      'policy.activation': critic.activation,
      'policy.learning_rate': critic.learning_rate,
      'temperature.initial': 1.0,
      'temperature.learned': True,
      'temperature.target_entropy': _TARGET_ENTROPY,
      'temperature.learning_rate': _TEMPERATURE_RATE,
    },
  )
  networks = functools.partial(
    sac_networks.make_sac_networks,
    hidden_layer_sizes=critic.hidden_sizes,
    activation=mlp.ACTIVATIONS[critic.activation],
  )
  train = functools.partial(
    sac_train.train,
    num_envs=config.collect.num_envs,
    episode_length=config.collect.episode_length,
    min_replay_size=config.collect.start_steps,
    max_replay_size=config.collect.buffer_capacity,
    learning_rate=critic.learning_rate,
    discounting=learn.discount,
    batch_size=learn.batch_size,
    grad_updates_per_step=learn.num_updates,
    tau=learn.target_rate,
    network_factory=networks,
    num_eval_envs=1,
    max_devices_per_host=1,
    wrap_env_fn=fresh_resets.wrap,
  )
  return Opponent(config, train)


def sequence_length(
  num_envs: int, steps_per_env: int, num_minibatches: int
) -> int:
  """Returns the greatest sequence length that fits the minibatches.

  Args:
    num_envs: number of environments.
    steps_per_env: steps of each environment; the length must divide it.
    num_minibatches: must divide the number of sequences.

  Example:
    >>> sequence_length(20, 200, 16)
    50
  """
  return max(
    length
    for length in range(1, steps_per_env + 1)
    if steps_per_env % length == 0
    and num_envs * steps_per_env // length % num_minibatches == 0
  )


def as_policy(
  make_policy: Callable[[Any], brax_types.Policy], env: envs.Environment
) -> policies.Policy:
  """Converts a policy trained by brax for this package's evaluation.

  Args:
    make_policy: the first result of a trainer.
    env: gives the size of actions.
  """

  def start(params: types.Params, key: Any, context: Any, num: int) -> Any:
    del params, key, context, num
    return ()

  def act(
    params: types.Params, carry: Any, obs: jax.Array, noise: jax.Array
  ) -> tuple[Any, policies.Action]:
    # One key per environment.
    action = jax.vmap(lambda obs, key: make_policy(params)(obs, key)[0])(
      obs, noise
    )
    allowed = env.action_space.project(action)
    unknown = jnp.full(action.shape[:1], jnp.nan)
    return carry, policies.Action(action, allowed, unknown)

  def noise(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jax.random.split(key, shape)

  def init(key: jax.Array) -> types.Params:
    raise NotImplementedError("brax's trainers make the parameters")

  return policies.Policy(init=init, start=start, act=act, noise=noise)


OPPONENTS: dict[str, Callable[[Any], Opponent]] = {'ppo': ppo, 'sac': sac}
