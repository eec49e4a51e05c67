"""MB-MPO: model-based meta-policy optimisation (Clavera et al. 2018, alg. 1).

  algorithm = mbmpo.make(env, config)
  state = algorithm.init(jax.random.PRNGKey(0))
  state, metrics = jax.jit(algorithm.update)(state)

`update` is `improve . fit . collect`; each is pure, depends on nothing but the
state, and can be jitted, vmapped over states, or called alone: a user with an
own robot fills the buffer (`buffer.add`) instead of `collect`.

The state is in `algorithms/state.py`, a step of `improve` in
`algorithms/meta_step.py`, what its tasks do in `algorithms/imagination.py`;
every leaf that belongs to tasks leads with [K, P].
"""

import copy
import functools

import jax
import jax.numpy as jnp

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import masking
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax import validation
from mbmpo_jax.algorithms.mbmpo import meta_step
from mbmpo_jax.algorithms.mbmpo import state as state_lib
from mbmpo_jax.envs import base
from mbmpo_jax.envs import check as check_lib
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import normalizer
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import real as real_lib
from mbmpo_jax.rollouts import episodes as episodes_lib

# Keeps the keys of new members apart from the fit's own: `fold_in(key, i)`
# equals `split(key, n)[i]`.
_RENEWAL = 0x72656E65


def make(
  env: base.Environment,
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh | None = None,
  fit_on_one: bool = False,
  check: bool | None = None,
) -> state_lib.Algorithm:
  """Builds the algorithm for an environment.

  Args:
    env: the real world, whose reward, termination and resets are known.
    config: hyperparameters; copied.
    mesh: devices to share the work out over, from
      `training.devices.make_mesh`. States are replicated, and results are those
      of one device but for rounding.
    fit_on_one: whether `fit` is for one of these devices, on which its state
      then lies; see `training.devices.fits_on_one`. `update` is for the mesh
      all the same.
    check: whether to prove `env` against the contract, which runs a few steps;
      by default unless it is this package's own (`envs.is_own`). Its sizes,
      limits and methods are checked in any case.

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment breaks its contract.
  """
  config = copy.deepcopy(config)
  check_lib.check_attributes(env)
  validation.validate(config, env_max_episode_steps=env.max_episode_steps)
  if check or (check is None and not envs.is_own(env)):
    check_lib.check_environment(env)

  if mesh is not None:
    parallel.check(
      mesh,
      num_models=config.model.num_models,
      tasks_per_model=config.imagine.tasks_per_model,
    )
  num_models = config.model.num_models
  num_tasks = num_models * config.imagine.tasks_per_model
  meta = meta_step.make(env, config, mesh=mesh)
  share_out = functools.partial(parallel.share_out, mesh=mesh)
  model_input_size = jax.eval_shape(
    env.model_input, jnp.zeros(env.observation_size)
  ).shape[0]

  def init_members(key: jax.Array) -> types.Params:
    return ensemble.init(
      key,
      model_input_size + env.action_size,
      env.observation_size,
      hidden_sizes=config.model.hidden_sizes,
      num_models=num_models,
    )

  def init(key: jax.Array) -> state_lib.TrainState:
    """A state before any data, which may be donated; `key` is consumed."""
    key, policy_key, model_key = jax.random.split(key, 3)
    params = init_members(model_key)
    unbounded = jnp.full(env.observation_size, jnp.inf, float)
    state = state_lib.TrainState(
      key=key,
      iteration=jnp.int32(0),
      env_steps=jnp.int32(0),
      episodes=jnp.int32(0),
      hyper=state_lib.hyper(config),
      policy=gaussian.init(
        policy_key,
        env.observation_size,
        env.action_size,
        hidden_sizes=config.policy.hidden_sizes,
        init_std=config.policy.init_std,
      ),
      ensemble=fit_lib.init(params),
      model=ensemble.fold(
        params,
        normalizer.identity(model_input_size + env.action_size),
        normalizer.identity(env.observation_size),
        -unbounded,
        unbounded,
      ),
      buffer=buffer_lib.init(
        config.collect.buffer_capacity, env.observation_size, env.action_size
      ),
    )
    # No two leaves share memory: XLA refuses to be donated it twice.
    return jax.tree.map(jnp.copy, state)

  def collect(
    state: state_lib.TrainState,
  ) -> tuple[state_lib.TrainState, types.Metrics]:
    """Adds real trajectories of the adapted policies to the buffer."""
    key, imagine_key, rollout_key = jax.random.split(state.key, 3)
    rollout = functools.partial(
      real_lib.rollout_env,
      env,
      num_envs=config.collect.num_trajectories,
      horizon=config.collect.episode_length,
      policy_apply=meta.policy_apply,
      random_actions=state.iteration == 0,
      mesh=mesh,
    )
    if config.collect.collect_with == 'adapted':

      def imagine_and_adapt(
        policy: types.Params, model: ensemble.Model
      ) -> types.Params:
        imagined = meta.imagine(
          policy, model, state.hyper, imagine_key, policy_per_task=False
        )
        return meta.adapt(policy, imagined, state.hyper)[0]

      adapted = share_out(
        imagine_and_adapt,
        in_specs=(parallel.REPLICATED, parallel.BY_MODEL),
        out_specs=parallel.BY_TASK,
      )(state.policy, state.model)
      share = config.collect.num_trajectories // num_tasks
      per_env = jax.tree.map(
        lambda x: jnp.repeat(x.reshape(num_tasks, *x.shape[2:]), share, axis=0),
        adapted,
      )
      trajectory = rollout(per_env, rollout_key, policy_per_env=True)
    else:
      trajectory = rollout(state.policy, rollout_key)
    transitions, episodes = real_lib.to_transitions(
      trajectory, state.episodes
    )
    episode_mean = functools.partial(
      episodes_lib.mean, terminated=trajectory.terminated
    )
    env_steps = state.env_steps + transitions.reward.shape[0]
    state = state._replace(
      key=key,
      env_steps=env_steps,
      episodes=episodes,
      buffer=buffer_lib.add(state.buffer, transitions),
    )
    return state, {
      'env_steps': env_steps,
      'real/return': episode_mean(trajectory.reward),
      'real/length': episode_mean(trajectory.mask),
      'policy/saturated': jnp.mean(abs(trajectory.action) > 1),
      'nonfinite/transitions': _count(~masking.sound_rows(transitions)),
    }

  def fit(
    state: state_lib.TrainState, mesh: jax.sharding.Mesh | None = mesh
  ) -> tuple[state_lib.TrainState, types.Metrics]:
    """Fits the ensemble to the buffer."""
    key, fit_key = jax.random.split(state.key)
    data, stored = state.buffer.data, buffer_lib.mask(state.buffer)
    inputs = jnp.concatenate([env.model_input(data.obs), data.action], -1)
    deltas = data.next_obs - data.obs
    # `buffer.add` keeps NaN out, but there are other ways in.
    sound = masking.sound_rows((data, inputs, deltas))
    valid = jnp.where(sound, stored, 0.0)
    input_moments = normalizer.fit(inputs, valid)
    delta_moments = normalizer.fit(deltas, valid)
    fit_members = functools.partial(
      fit_lib.fit_ensemble,
      inputs=normalizer.standardize(input_moments, inputs),
      targets=normalizer.standardize(delta_moments, deltas),
      valid=valid,
      key=fit_key,
      learning_rate=state.hyper.model_learning_rate,
      batch_size=config.model.batch_size,
      validation_fraction=config.model.validation_fraction,
      max_epochs=config.model.max_epochs,
      early_stopping=config.model.early_stopping,
      rolling_persistence=state.hyper.rolling_persistence,
      precision=config.model.precision,
      mesh=mesh,
    )
    members, renewed = fit_lib.renew(
      state.ensemble, init_members(jax.random.fold_in(fit_key, _RENEWAL))
    )
    fitted, info = parallel.share_out(
      fit_members,
      mesh=mesh,
      in_specs=parallel.BY_MODEL,
      out_specs=parallel.BY_MODEL,
    )(members)
    # One gather per leaf, rather than more in what follows.
    fitted, info = parallel.replicate(mesh, (fitted, info))
    low, high = _bounds(
      data.next_obs, valid, delta_moments, config.model.clip_margin
    )
    state = state._replace(
      key=key,
      ensemble=fitted,
      model=ensemble.fold(
        fitted.params, input_moments, delta_moments, low, high
      ),
    )
    return state, {
      'model/val_loss': jnp.mean(info.val_loss),
      'model/epochs': jnp.mean(info.epochs.astype(jnp.float32)),
      'model/rejected': jnp.sum(info.rejected),
      'nonfinite/stored': _count((stored > 0) & ~sound),
      'nonfinite/members': _count(renewed),
    }

  def improve(
    state: state_lib.TrainState,
  ) -> tuple[state_lib.TrainState, types.Metrics]:
    """All meta-steps of an iteration; metrics are means, counts are sums."""
    key, steps_key = jax.random.split(state.key)

    def meta_steps(
      policy: types.Params, model: ensemble.Model
    ) -> tuple[types.Params, types.Metrics]:
      return jax.lax.scan(
        lambda policy, key: meta.step(policy, model, state.hyper, key),
        policy,
        jax.random.split(steps_key, config.meta.num_meta_steps),
      )

    policy, metrics = share_out(
      meta_steps,
      in_specs=(parallel.REPLICATED, parallel.BY_MODEL),
      out_specs=parallel.REPLICATED,
    )(state.policy, state.model)
    state = state._replace(
      key=key, policy=policy, iteration=state.iteration + 1
    )
    return state, {
      name: (jnp.sum if name.startswith('nonfinite/') else jnp.nanmean)(values)
      for name, values in metrics.items()
    }

  def update(
    state: state_lib.TrainState,
  ) -> tuple[state_lib.TrainState, types.Metrics]:
    """One whole iteration."""
    state, collected = collect(state)
    state, fitted = fit(state)
    state, improved = improve(state)
    return state, {**collected, **fitted, **improved}

  def act(
    policy: types.Params, obs: jax.Array, key: jax.Array | None = None
  ) -> jax.Array:
    """An action in [-1, 1] at `obs` [..., O]; the mean one without a key."""
    return gaussian.act(meta.policy_apply(policy, obs), key)

  phases = {
    phase.__name__: _replicated(phase, mesh)
    for phase in (collect, fit, improve, update)
  }
  if fit_on_one:
    phases['fit'] = functools.partial(fit, mesh=None)
  return state_lib.Algorithm(init=init, act=act, **phases)


def _replicated(
  phase: state_lib.Phase, mesh: jax.sharding.Mesh | None
) -> state_lib.Phase:
  """The phase; a state comes out on the devices as it went in, replicated."""

  @functools.wraps(phase)
  def replicated(
    state: state_lib.TrainState,
  ) -> tuple[state_lib.TrainState, types.Metrics]:
    return parallel.replicate(mesh, phase(state))

  return replicated


def _bounds(
  obs: jax.Array,
  valid: jax.Array,
  deltas: normalizer.Moments,
  margin: float | None,
) -> tuple[jax.Array, jax.Array]:
  """The range [O] of the valid rows of `obs`, widened by `margin` of itself.

  Without bounds where a step never changes anything: a goal may be anywhere.
  NaN, so that nothing can be imagined, where there is nothing to learn from.
  """
  known = jnp.sum(valid) > 1
  unbounded = jnp.where(known, jnp.inf, jnp.nan).astype(obs.dtype)
  infinite = jnp.full(obs.shape[-1], unbounded)
  if margin is None:
    return -infinite, infinite
  live = valid[:, None] > 0
  low = jnp.min(jnp.where(live, obs, jnp.inf), 0)
  high = jnp.max(jnp.where(live, obs, -jnp.inf), 0)
  steady = deltas.std == 0
  return (
    jnp.where(steady, -infinite, low - margin * (high - low)),
    jnp.where(steady, infinite, high + margin * (high - low)),
  )


def _count(flags: jax.Array) -> jax.Array:
  """How many are true, a float as all metrics."""
  return jnp.sum(flags, dtype=float)
