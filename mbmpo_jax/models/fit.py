"""Fits a dynamics model to the buffer, for all model-based methods.

  state = fit.init(dynamics, optax.adam(1e-3), key)
  state, model, metrics = fit.fit_dynamics(
    state, dynamics, optax.adam(1e-3), data, stored, key,
    section=config.model, rolling_persistence=0.95,
    model_input=env.model_input,
  )

Inputs are `[model_input(obs), action]`. Targets are `next_obs - obs`, or the
environment's own `change`. Both are standardised by their moments over the
buffer (`models/statistics.py`). For a model that predicts rewards the targets
are [next_obs - obs, reward]; for one that predicts terminations these come
last, as 0 or 1. A model with a memory also reads the previous steps. Training
continues from the members' last parameters (`models/early_stopping.py`).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import config as config_lib
from mbmpo_jax import masking
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.models import base
from mbmpo_jax.models import early_stopping
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import permutations
from mbmpo_jax.models import starts as starts_lib
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets as targets_lib
from mbmpo_jax.rollouts import buffer as buffer_lib
from mbmpo_jax.rollouts import windows

# Constants that keep the keys of renewed members, perturbations and starts
# apart from the fit's own: `fold_in(key, i)` equals `split(key, n)[i]`.
_RENEWAL = 0x72656E65
_PERTURBATION = 0x70657274
_STARTS = 0x73746172


class FitState(NamedTuple):
  """The initial state of the next fit."""

  params: types.Params  # leaves [K, ...]
  optimizer: optax.OptState  # leaves [K, ...]


def init(
  dynamics: base.Dynamics,
  optimizer: optax.GradientTransformation,
  key: jax.Array,
) -> FitState:
  """New random members and an optimiser state for each; consumes `key`."""
  return _start(dynamics.init(key), optimizer)


def fit_dynamics(
  state: FitState,
  dynamics: base.Dynamics,
  optimizer: optax.GradientTransformation,
  data: types.Transition,
  stored: jax.Array,
  key: jax.Array,
  *,
  section: config_lib.Ensemble,
  rolling_persistence: jax.Array | float,
  model_input: Callable[[jax.Array], jax.Array],
  change: targets_lib.Change = targets_lib.difference,
  history: int = 0,
  num_envs: int = 1,
  predict_reward: bool = False,
  predict_done: bool = False,
  num_starts: int = 0,
  num_elites: int | None = None,
  segment: tuple[int, int] | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[FitState, Any, types.Metrics]:
  """Fits all members to the stored transitions.

  A transition with a number that is not finite, or larger than 1e10 in
  magnitude, is left out (`masking.sound_rows`). A member whose parameters,
  optimiser state or model contain such a number is replaced by a new random
  member.

  Args:
    state: of K members, from `init` or the last fit.
    dynamics: the model's functions.
    optimizer: the one that `state` was made for; it may close over a traced
      learning rate, such as `optax.adam(state.hyper['model.learning_rate'])`.
    data: `[C, ...]`, the buffer's data.
    stored: `[C]`, 1. where a slot holds a transition.
    key: consumed.
    section: batch size, limits, validation split and bounds. Its numbers that
      may be swept (`learning_rate`, `weight_decay`, `rolling_persistence`) are
      not used.
    rolling_persistence: rho of the early stop.
    model_input: the environment's `model_input`.
    change: the environment's `(obs, next_obs) -> change`.
    history: L. With L > 0 the loss gets pairs (inputs [B, I], (features
      [B, L, I + 1], mask [B, L])). The features are the standardised
      [inputs, reward] of the L previous steps of the same episode.
    num_envs: number of environments whose steps alternate in the data.
    predict_reward: whether the targets include the reward.
    predict_done: whether the last target is the termination, not standardised.
    num_starts: number of observations at episode starts to keep in the
      statistics, for `models/starts.py`.
    num_elites: E, if the returned model has only the members with the lowest
      validation losses; `None` for all.
    segment: (M, K), used in place of a history. A row then stands for the M + K
      steps that end with it. The loss gets pairs (inputs [B, I], (features
      [B, M + K, I + Y], mask [B, M + K])); the features are the standardised
      [inputs, targets] of these steps. Only rows whose last K steps belong to
      one episode are used; a missing step among the first M is masked, and so
      are those before it.
    mesh: devices over which the work is distributed.

  Returns:
    The new state; the model, from `dynamics.ready`, leaves `[K, ...]`, or
    `[E, ...]`; and metrics:

    - `model/val_loss`: validation loss, mean over members; NaN if a member has
      none.
    - `model/epochs`: epochs trained, mean over members.
    - `model/gradient_steps`: gradient steps in these, mean over members.
    - `model/rejected`: members that dropped an epoch, as its validation loss
      was not finite.
    - `nonfinite/stored`: transitions in the buffer left out.
    - `nonfinite/members`: members replaced by new ones.
  """
  chex.assert_rank([data.obs, data.action, data.next_obs, stored], [2, 2, 2, 1])
  chex.assert_equal_shape([data.obs, data.next_obs])
  chex.assert_equal_shape_prefix([data.obs, data.action, stored], 1)
  capacity = stored.shape[0]

  def prepare(size: int) -> _Prepared:
    return _prepare(
      jax.tree.map(lambda x: x[:size], data),
      stored[:size],
      jax.random.fold_in(key, _STARTS),
      capacity=capacity,
      model_input=model_input,
      change=change,
      clip_margin=section.clip_margin,
      with_reward=predict_reward or history > 0,
      num_starts=num_starts,
    )

  # Only the filled part of a large buffer is processed.
  filled = jnp.max(jnp.where(stored > 0, jnp.arange(1, capacity + 1), 0))
  prepared = permutations.by_size(prepare, filled, permutations.sizes(capacity))
  statistics, inputs, targets, reward, valid, unsound = prepared
  fresh = init(dynamics, optimizer, jax.random.fold_in(key, _RENEWAL))
  blank = statistics_lib.identity(
    inputs.shape[-1],
    targets.shape[-1],
    reward=statistics.reward is not None,
  )
  members, renewed = renew(state, fresh, dynamics.ready(state.params, blank))
  if predict_reward:
    targets = jnp.concatenate([targets, reward], -1)
  if predict_done:
    targets = jnp.concatenate([targets, data.terminated[:, None]], -1)
  histories: Callable[[jax.Array], Any] | None = None
  if history:
    histories = _histories(
      jnp.concatenate([inputs, reward], -1), data, valid, history, num_envs
    )
  if segment is not None:
    features = jnp.concatenate([inputs, targets], -1)
    histories, whole = _segments(features, data, valid, *segment)
    valid = valid * whole
  train = functools.partial(
    early_stopping.train,
    inputs=inputs,
    targets=targets,
    valid=valid,
    key=key,
    loss=dynamics.loss,
    optimizer=optimizer,
    batch_size=section.batch_size,
    validation_fraction=section.validation_fraction,
    max_epochs=section.max_epochs,
    max_gradient_steps=section.max_gradient_steps,
    early_stopping=section.early_stopping,
    rolling_persistence=rolling_persistence,
    patience=section.patience,
    bootstrap=section.bootstrap,
    histories=histories,
    validation_loss=None if section.patience is None else dynamics.error,
    mesh=mesh,
  )
  trained = parallel.share_out(
    train, mesh=mesh, in_specs=parallel.BY_MODEL, out_specs=parallel.BY_MODEL
  )(members.params, members.optimizer)
  # One gather per leaf here, instead of several in later computations.
  params, optimizer_state, info = parallel.replicate(mesh, trained)
  metrics = {
    'model/val_loss': jnp.mean(info.val_loss),
    'model/epochs': jnp.mean(info.epochs.astype(float)),
    'model/gradient_steps': jnp.mean(info.gradient_steps.astype(float)),
    'model/rejected': jnp.sum(info.rejected),
    'nonfinite/stored': unsound,
    'nonfinite/members': jnp.sum(renewed, dtype=float),
  }
  model = dynamics.ready(params, statistics)
  if dynamics.perturb is not None:
    model = dynamics.perturb(model, jax.random.fold_in(key, _PERTURBATION))
  if num_elites is not None:
    # NaN, of a member without a validation loss, is last.
    elites = jnp.argsort(info.val_loss)[:num_elites]
    model = jax.tree.map(lambda x: x[elites], model)
  return FitState(params, optimizer_state), model, metrics


class _Prepared(NamedTuple):
  """The data of a fit; [C] rows, many of which may be empty."""

  statistics: statistics_lib.Statistics
  inputs: jax.Array  # standardised, [C, I]
  targets: jax.Array  # standardised, [C, O]
  reward: jax.Array  # standardised if models predict it, [C, 1]
  valid: jax.Array  # [C]
  unsound: jax.Array  # number of stored rows left out


def _prepare(
  data: types.Transition,
  stored: jax.Array,
  key: jax.Array,
  *,
  capacity: int,
  model_input: Callable[[jax.Array], jax.Array],
  change: targets_lib.Change,
  clip_margin: float | None,
  with_reward: bool,
  num_starts: int,
) -> _Prepared:
  """Prepares the first rows of a buffer for `fit_dynamics`."""
  inputs = jnp.concatenate([model_input(data.obs), data.action], -1)
  deltas = change(data.obs, data.next_obs)
  # `buffer.add` keeps NaN out, but data may come from elsewhere.
  sound = masking.sound_rows((data, inputs, deltas))
  valid = jnp.where(sound, stored, 0.0)
  statistics = statistics_lib.fit(
    inputs,
    deltas,
    data.next_obs,
    valid,
    clip_margin=clip_margin,
    reward=data.reward if with_reward else None,
  )
  if num_starts:
    first = jnp.where(data.time == 0, valid, 0.0)
    statistics = statistics._replace(
      starts=starts_lib.choose(data.obs, first, key, count=num_starts)
    )
  reward = data.reward[:, None]
  if statistics.reward is not None:
    reward = normalizer.standardize(statistics.reward, reward)

  def whole(rows: jax.Array) -> jax.Array:
    more = [(0, capacity - rows.shape[0])] + [(0, 0)] * (rows.ndim - 1)
    return jnp.pad(rows, more)

  return _Prepared(
    statistics,
    whole(normalizer.standardize(statistics.inputs, inputs)),
    whole(normalizer.standardize(statistics.targets, deltas)),
    whole(reward),
    whole(valid),
    jnp.sum((stored > 0) & ~sound, dtype=float),
  )


def renew(
  state: FitState, fresh: FitState, model: Any
) -> tuple[FitState, jax.Array]:
  """Replaces members with non-finite numbers, which could not learn any more.

  Args:
    state: of K members.
    fresh: replaces members with a number that is not finite, or larger than
      1e10 in magnitude (`masking.sound_rows`), in `state` or in `model`.
    model: the members' model without data, leaves `[K, ...]`: `dynamics.ready`
      of the parameters and `statistics.identity`.

  Returns:
    The state, all finite, and which members were replaced, bool `[K]`.
  """
  broken = ~masking.sound_rows((state, model))
  return early_stopping.select(broken, fresh, state), broken


class _Steps(NamedTuple):
  """The rows of the ring from which windows are cut."""

  features: jax.Array  # [C, D]
  episode: jax.Array  # [C]
  time: jax.Array  # [C]


def _histories(
  features: jax.Array,
  data: types.Transition,
  valid: jax.Array,
  length: int,
  num_envs: int,
) -> Callable[[jax.Array], tuple[jax.Array, jax.Array]]:
  """A function: rows [B] -> features [B, L, D], mask [B, L] of past steps."""
  ring = _ring(features, data, valid)

  def histories(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    before, mask = windows.before(ring, rows, length=length, num_envs=num_envs)
    return before.features, mask

  return histories


def _segments(
  features: jax.Array,
  data: types.Transition,
  valid: jax.Array,
  adapt_steps: int,
  predict_steps: int,
) -> tuple[Callable[[jax.Array], tuple[jax.Array, jax.Array]], jax.Array]:
  """Rows [B] -> the M + K steps up to each; and rows with the last K, [C]."""
  ring = _ring(features, data, valid)

  def segments(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    steps, mask = windows.ending(ring, rows, length=adapt_steps + predict_steps)
    return steps.features, mask

  return segments, windows.whole(ring, length=predict_steps)


def _ring(
  features: jax.Array, data: types.Transition, valid: jax.Array
) -> buffer_lib.Buffer:
  """A ring from which windows are cut, without the rows that are left out."""
  live = valid > 0
  steps = _Steps(
    jnp.where(live[:, None], features, 0.0),
    jnp.where(live, data.episode, -1),
    data.time,
  )
  full = jnp.int32(features.shape[0])
  return buffer_lib.Buffer(steps, jnp.int32(0), full)


def _start(
  params: types.Params, optimizer: optax.GradientTransformation
) -> FitState:
  return FitState(params, jax.vmap(optimizer.init)(params))
