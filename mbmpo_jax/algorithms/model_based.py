"""Shared parts of algorithms with an ensemble: data, and fit.

The states of these algorithms have, beside `counters` and `hyper`, the fields
`ensemble` (`fit.FitState`, K members and their optimisers' states), `model`
(the members after the last fit, for imagination, leaves [K, ...]) and `buffer`.
"""

import functools
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax import validation
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms import policy_check
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.envs import check as check_lib
from mbmpo_jax.envs import seen
from mbmpo_jax.envs import spaces
from mbmpo_jax.models import base as models
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import starts
from mbmpo_jax.models import statistics
from mbmpo_jax.models import terminations
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import categorical
from mbmpo_jax.policies import gaussian
from mbmpo_jax.policies import normalized
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import episodes as episodes_lib
from mbmpo_jax.rollouts import real

_State = TypeVar('_State', bound=Any)

check_policy = policy_check.check_policy


class World(NamedTuple):
  """Fields of the state before any data."""

  ensemble: fit_lib.FitState
  model: Any
  buffer: buffer_lib.Buffer


def check(
  env: envs_base.Environment,
  config: config_lib.Experiment,
  prove: bool | None,
) -> None:
  """Checks environment and configuration.

  Args:
    env: the real environment.
    config: of the experiment.
    prove: whether to check `env` against its contract, which runs a few steps.
      With `None` this is done only if `env` is not from this package
      (`envs.is_own`). Sizes, limits and methods are checked in any case.

  Raises:
    config.ConfigError: if a value is not allowed.
    envs.ContractError: if the environment violates its contract.
  """
  check_lib.check_attributes(env)
  validation.validate(config, env_max_episode_steps=env.max_episode_steps)
  if prove or (prove is None and not envs.is_own(env)):
    check_lib.check_environment(env)


def check_imagined(
  env: envs_base.Environment,
  section: config_lib.Ensemble,
  needed_by: str,
) -> None:
  """Checks that reward and termination are known, or predicted by members.

  Args:
    env: the real environment.
    section: selects what members predict.
    needed_by: the algorithm's name, for the message.

  Raises:
    envs.TaskError: if one of them is neither known nor predicted.
    envs.ContractError: if the reward depends on inputs that no member observes.
  """
  envs.require_known(
    env,
    needed_by,
    predicted={
      'reward': section.predict_reward,
      'done': section.predict_done,
    },
  )
  if not section.predict_reward and not envs.is_own(env):
    seen.check_reward(env)


def make_dynamics(
  env: envs_base.Environment, section: config_lib.Ensemble
) -> models.Dynamics:
  """The ensemble; it stores starts of episodes if `env` does not give them."""
  dynamics = ensemble.make(env, section)
  if env.starts_are_known:
    return dynamics
  return starts.remembering(
    dynamics,
    num_models=section.num_models,
    observation_size=env.observation_size,
  )


def make_policy(
  env: envs_base.Environment, section: config_lib.GaussianPolicy
) -> policies.Policy:
  """A configuration's policy: Gaussian, or softmax for discrete actions."""
  if isinstance(env.action_space, spaces.Discrete):
    return categorical.make(
      env.observation_size, env.action_size, section.hidden_sizes
    )
  return gaussian_policy(env, section)


def reading(
  policy: policies.Policy,
  env: envs_base.Environment,
  section: model_based_config.Collect,
) -> policies.Policy:
  """The policy as it reads observations: as they are, or normalised.

  A policy that normalises has `normalized.Params`. `fit` sets the moments in
  the state's `policy`, and learning leaves them as they are.
  """
  if not section.normalize_observations:
    return policy
  return normalized.make(policy, env.observation_size)


def metrics(
  declared: dict[str, base.Metric], section: config_lib.Ensemble
) -> dict[str, base.Metric]:
  """The declared metrics, and those that the fit of this section adds."""
  return declared | shared_metrics.DONE if section.predict_done else declared


def gaussian_policy(
  env: envs_base.Environment, section: config_lib.GaussianPolicy
) -> policies.Policy:
  """The tanh network of a configuration, for an environment.

  Raises:
    config.ConfigError: if the environment has discrete actions.
  """
  if isinstance(env.action_space, spaces.Discrete):
    raise config_lib.ConfigError(
      f'env: {type(env).__name__} has {env.action_size} discrete actions: must'
      ' have continuous actions, unless a `policy` with a distribution over'
      ' discrete actions is given'
    )
  return gaussian.make(env.observation_size, env.action_size, section)


def optimizer(hyper: base.Hyper) -> optax.GradientTransformation:
  """AdamW with the learning rate and the weight decay from `hyper`."""
  return optax.adamw(
    hyper['model.learning_rate'], weight_decay=hyper['model.weight_decay']
  )


def init(
  env: envs_base.Environment,
  dynamics: models.Dynamics,
  hyper: base.Hyper,
  key: jax.Array,
  *,
  buffer_capacity: int,
  predict_reward: bool = False,
) -> World:
  """New members, their model before any data, and an empty buffer.

  Args:
    env: gives the sizes.
    dynamics: the model's functions.
    hyper: gives the optimiser's learning rate and weight decay.
    key: consumed.
    buffer_capacity: number of transitions.
    predict_reward: whether the members predict rewards.
  """
  fitted = fit_lib.init(dynamics, optimizer(hyper), key)
  inputs = jax.eval_shape(env.model_input, jnp.zeros(env.observation_size))
  blank = statistics.identity(
    inputs.shape[0] + env.action_size,
    env.observation_size,
    reward=predict_reward,
  )
  return World(
    ensemble=fitted,
    model=dynamics.ready(fitted.params, blank),
    buffer=buffer_lib.init_transitions(
      buffer_capacity, env.observation_size, env.action_size
    ),
  )


def store(
  state: _State, trajectory: types.Trajectory
) -> tuple[_State, types.Metrics]:
  """Adds whole episodes to the buffer.

  Args:
    state: with `counters` and `buffer`.
    trajectory: real, `[T, N, ...]`; all its episodes end with it.

  Returns:
    The new state and the metrics of the data.
  """
  counters = state.counters
  transitions, episodes, _ = real.to_transitions(trajectory, counters.episodes)
  steps = transitions.reward.shape[0]
  counters = counters._replace(
    env_steps=counters.env_steps + steps, episodes=episodes
  )
  episode_mean = functools.partial(
    episodes_lib.mean, terminated=trajectory.terminated
  )
  state = state._replace(
    counters=counters, buffer=buffer_lib.add(state.buffer, transitions)
  )
  return state, {
    'env_steps': counters.env_steps,
    'real_steps': jnp.asarray(steps, float),
    'real/return': episode_mean(trajectory.reward),
    'real/length': episode_mean(trajectory.mask),
    'policy/saturated': jnp.mean(abs(trajectory.action) > 1),
    'nonfinite/transitions': jnp.sum(
      ~masking.sound_rows(transitions), dtype=float
    ),
  }


def fit(
  state: _State,
  *,
  env: envs_base.Environment,
  section: config_lib.Ensemble,
  dynamics: models.Dynamics,
  history: int = 0,
  num_envs: int = 1,
  predict_reward: bool = False,
  num_elites: int | None = None,
  segment: tuple[int, int] | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[_State, types.Metrics]:
  """Fits the ensemble to the buffer.

  Args:
    state: with the fields above. A `policy` in it whose parameters are
      `normalized.Params` gets the moments of the buffer's observations.
    env: gives `model_input` and `change`.
    section: settings of the fit.
    dynamics: the model's functions.
    history: L, the number of past steps that members read.
    num_envs: number of environments whose steps alternate in the buffer.
    predict_reward: whether members predict rewards, even if the section does
      not select it.
    num_elites: as for `fit.fit_dynamics`.
    segment: (M, K), if members learn from segments, see `fit.fit_dynamics`.
    mesh: devices over which the work is distributed.
  """
  key, fit_key = jax.random.split(state.counters.key)
  fitted, model, metrics = fit_lib.fit_dynamics(
    state.ensemble,
    dynamics,
    optimizer(state.hyper),
    state.buffer.data,
    buffer_lib.mask(state.buffer),
    fit_key,
    section=section,
    rolling_persistence=state.hyper['model.rolling_persistence'],
    model_input=env.model_input,
    change=env.change,
    history=history,
    num_envs=num_envs,
    predict_reward=predict_reward or section.predict_reward,
    predict_done=section.predict_done,
    num_starts=0 if env.starts_are_known else starts.COUNT,
    num_elites=num_elites,
    segment=segment,
    mesh=mesh,
  )
  if section.predict_done:
    key, done_key = jax.random.split(key)
    metrics['model/done_accuracy'] = terminations.accuracy(
      dynamics, model, state.buffer, done_key
    )
  params = getattr(state, 'policy', None)
  if isinstance(params, normalized.Params) and isinstance(
    params.moments, normalized.Moments
  ):
    moments = _moments(state.buffer)
    state = state._replace(policy=params._replace(moments=moments))
  counters = state.counters._replace(key=key)
  return state._replace(
    counters=counters, ensemble=fitted, model=model
  ), metrics


def _moments(buffer: buffer_lib.Buffer) -> normalized.Moments:
  """The moments of the observations of all sound transitions."""
  sound = masking.sound_rows(buffer.data) & (buffer_lib.mask(buffer) > 0)
  obs = buffer.data.obs
  return normalized.update(
    normalized.start(obs.shape[-1]), obs, sound.astype(float)
  )
