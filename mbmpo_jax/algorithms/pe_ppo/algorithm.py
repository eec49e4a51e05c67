"""PE-PPO: PPO whose policy infers the task (Wang & van Hoof 2022, table 2).

  algorithm = algorithms.make('pe_ppo', env, config)
  state = algorithm.init(jax.random.PRNGKey(0), base.hyper(config))
  state, metrics = jax.jit(algorithm.update)(state)

Policy and critic get [s, z], with z sampled from q(z | the last transitions of
the episode). Each has its own encoder, that of MLSM-v0. The loss is PPO's plus,
as in PEARL (Rakelly et al. 2019), kl_coef KL(q(z) || N(0, I)) of both encoders.

`adapt` gives the transitions of a new task to the policy, as a context.
"""

import copy
from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax import config as shared_config
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import on_policy
from mbmpo_jax.algorithms.pe_ppo import config as config_lib
from mbmpo_jax.algorithms.pe_ppo import networks
from mbmpo_jax.algorithms.ppo import algorithm as ppo
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import spaces
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.networks import critics
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import categorical
from mbmpo_jax.policies import context as context_lib
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import mean_network
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import real

METRICS = {
  **ppo.METRICS,
  'encoder/kl': base.Metric(
    "KL divergence of the latent variable's posterior from N(0, I), mean over"
    ' steps and both encoders after the update, in nats',
    label='KL of z',
  ),
}
State = on_policy.State


def make(
  env: envs_base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  check: bool | None = None,
) -> base.Algorithm:
  """Builds the algorithm for an environment.

  Args:
    env: the real environment, usually of a task family.
    config: hyperparameters; copied.
    mesh: devices on which the state is replicated; each does all the work.
    check: whether to check `env` against its contract, which runs a few steps;
      by default only if `env` is not from this package (`envs.is_own`).

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  config = copy.deepcopy(config)
  model_based.check(env, config, check)
  nets = _networks(env, config)
  made = _parts(env, config, nets)

  def divergence(
    params: tuple[types.Params, types.Params], batch: on_policy.Batch
  ) -> jax.Array:
    """The sum over both encoders, mean over steps."""
    steps = batch.trajectory
    total = jnp.zeros(())
    for net, theta in zip(nets, params, strict=True):
      each = jnp.asarray(net.apply(theta, steps.obs, method='divergence'))
      total += masking.mean(each, steps.mask)
    return total

  def loss(
    params: tuple[types.Params, types.Params],
    batch: on_policy.Batch,
    *,
    made: on_policy.Parts,
    hyper: base.Hyper,
  ) -> jax.Array:
    surrogate = ppo.loss(params, batch, made=made, hyper=hyper)
    return surrogate + hyper['learn.kl_coef'] * divergence(params, batch)

  def measure(
    params: tuple[types.Params, types.Params], batch: on_policy.Batch
  ) -> types.Metrics:
    return {'encoder/kl': divergence(params, batch) / len(nets)}

  def adapt(
    state: State, trajectory: types.Trajectory, key: jax.Array
  ) -> tuple[types.Params, sets.Points]:
    """The unchanged parameters, and the policy's context from the data.

    Transitions are left out if a number in them is not finite or beyond 1e10,
    the limit of `masking.sound_rows`. More than `context.window`
    raise a `ConfigError`.
    """
    del key
    params: Any = state.policy
    if config.collect.normalize_observations:
      params = normalized.Params(state.policy, state.moments)
    rows, _, _ = real.to_transitions(
      trajectory._replace(extras=()), jnp.zeros((), jnp.int32)
    )
    points = _reading(env, config).point(
      state.moments, rows.obs, rows.action, rows.reward, rows.next_obs
    )
    raw = (rows.obs, rows.action, rows.reward, rows.next_obs)
    # Normalised observations are clipped, so that they are always sound.
    sound = masking.sound_rows((raw, points.x, points.y))
    points = sets.live(points._replace(mask=sound.astype(points.mask.dtype)))
    count, room = rows.reward.shape[0], config.context.window
    if count > room:
      raise shared_config.ConfigError(
        f'context={count} transitions: must be <= {room}, context.window'
      )
    # The newest transitions are last; the oldest ones are dropped first.
    return params, jax.tree.map(
      lambda x: jnp.pad(x, [(room - count, 0)] + [(0, 0)] * (x.ndim - 1)),
      points,
    )

  algorithm = ppo.build(
    env, config, made, loss, METRICS, measure=measure, mesh=mesh
  )
  return algorithm._replace(adapt=adapt)


def _reading(
  env: envs_base.Environment, config: config_lib.Config
) -> context_lib.Reading:
  return context_lib.Reading(env.change, config.collect.normalize_observations)


def _networks(
  env: envs_base.Environment, config: config_lib.Config
) -> tuple[networks.WithLatent, networks.WithLatent]:
  """The networks of policy and critic."""
  section, context = config.policy, config.context
  head: Any
  if isinstance(env.action_space, spaces.Discrete):
    head = categorical.Network(env.action_size, section.hidden_sizes)
  else:
    head = mean_network.Gaussian(
      env.action_size,
      section.hidden_sizes,
      section.init_std,
      'tanh',
      section.min_std,
      section.learn_std,
      section.bound_mean,
    )

  def with_latent(head: Any) -> networks.WithLatent:
    return networks.WithLatent(
      head, context.encoder_sizes, context.latent_size, context.min_latent_std
    )

  return with_latent(head), with_latent(
    critics.Value(config.value.hidden_sizes)
  )


def _parts(
  env: envs_base.Environment,
  config: config_lib.Config,
  nets: tuple[networks.WithLatent, networks.WithLatent],
) -> on_policy.Parts:
  """The networks in the form of `on_policy.Parts`."""
  actor, critic = nets
  observation_size, action_size = env.observation_size, env.action_size
  context = config.context
  noise = distributions.normal_noise
  if isinstance(env.action_space, spaces.Discrete):
    noise = distributions.gumbel_noise
  blank = context_lib.Seen(
    jnp.zeros((1, observation_size)),
    context_lib.Memory(
      context_lib.empty(1, observation_size, action_size, context.window),
      jnp.zeros((1, context.latent_size)),
    ),
  )

  def value(params: types.Params, seen: Any) -> jax.Array:
    return jnp.asarray(critic.apply(params, seen))

  seeing = policies.memoryless(
    lambda key: actor.init(key, blank),
    actor.apply,
    noise=lambda key, shape: noise(key, shape, action_size),
  )
  reading = _reading(env, config)
  acting = context_lib.remembering(
    seeing,
    reading,
    observation_size,
    action_size,
    window=context.window,
    latent_size=context.latent_size,
  )
  return on_policy.Parts(
    seeing,
    acting,
    lambda key: critic.init(key, blank),
    value,
    reading.seen,
  )
