"""Fits all members of an ensemble at once, each to its own early stop.

Per member: an own random split into training and validation set, minibatch
Adam on the mean squared error of standardised deltas, and after every epoch the
validation loss v against its rolling mean (Clavera et al. 2018, A.3):

  roll <- 1.5 v                       after the first epoch
  roll <- rho roll + (1 - rho) v      rho = rolling_persistence
  stop when v > roll.

A member's fit is one XLA while-loop over epochs, and its members are mapped:
all at once, the loop ending when all have stopped, or on a CPU in turn.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import broadcasting
from mbmpo_jax import masking
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import permutations


class FitState(NamedTuple):
  """What the next fit starts from."""

  params: types.Params  # leading member axis [K]
  adam: optax.OptState  # leading member axis [K]


class FitInfo(NamedTuple):
  """How a fit went, per member."""

  val_loss: jax.Array  # [K], of the parameters kept; NaN if none was finite
  epochs: jax.Array  # [K] int32, epochs trained
  rejected: jax.Array  # [K] bool, an epoch gave a non-finite loss


class _Loop(NamedTuple):
  """Of one member."""

  epoch: jax.Array
  state: FitState
  rolling: jax.Array
  active: jax.Array
  info: FitInfo


def init(params: types.Params) -> FitState:
  """Adam's moments at zero, one set per member."""
  return FitState(params, jax.vmap(optax.scale_by_adam().init)(params))


def renew(state: FitState, fresh: types.Params) -> tuple[FitState, jax.Array]:
  """Starts members anew that could not learn: nothing finite comes of NaN.

  Args:
    state: of K members.
    fresh: parameters `[K, ...]` for those with a number that is not finite, or
      beyond +-1e10 (`masking.sound_rows`): among their parameters, the weights
      these stand for, or Adam's moments.

  Returns:
    The state, all finite, and which members are new, bool `[K]`.
  """
  weights = ensemble.plain_layers(state.params)
  broken = ~masking.sound_rows((state, weights))
  return _where(broken, init(fresh), state), broken


def fit_ensemble(
  state: FitState,
  inputs: jax.Array,
  targets: jax.Array,
  valid: jax.Array,
  key: jax.Array,
  *,
  learning_rate: jax.Array | float,
  batch_size: int,
  validation_fraction: float,
  max_epochs: int,
  early_stopping: bool = True,
  rolling_persistence: jax.Array | float = 0.95,
  precision: str = 'highest',
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[FitState, FitInfo]:
  """Trains every member from where `state` left it.

  Args:
    state: parameters and moments of K members (warm start).
    inputs: standardised, `[C, I]`.
    targets: standardised, `[C, O]`.
    valid: 1. for the rows [C] to learn from; the others may hold anything.
    key: consumed.
    learning_rate: Adam's.
    batch_size: rows per gradient step and member.
    validation_fraction: share of the valid rows held out.
    max_epochs: after which every member stops.
    early_stopping: False trains all members for `max_epochs`.
    rolling_persistence: rho.
    precision: of the matrix products.
    mesh: of the devices among which members and rows are shared out. Each has
      its share of the members in `state`, all rows, and takes its share of
      every batch's; they meet once per gradient step and once per epoch, on a
      CPU for each member.

  Returns:
    The state after, and how it went. A member whose epoch gives a non-finite
    validation loss drops that epoch and stops. With fewer than two rows to
    learn from there is no epoch.
  """
  capacity = inputs.shape[0]
  num_samples = jnp.sum(valid > 0, dtype=jnp.int32)
  num_models = jax.tree.leaves(state.params)[0].shape[0]
  # One table: a minibatch is then one gather.
  table = jnp.concatenate([inputs, targets], -1)
  num_held_out = jnp.clip(
    (num_samples * validation_fraction).astype(jnp.int32), 1, num_samples - 1
  )
  num_train = num_samples - num_held_out
  split_key, key = jax.random.split(key)
  adam = optax.scale_by_adam()
  num_shares = parallel.size(mesh, parallel.TASKS)
  all_sum = parallel.all_sum(mesh, parallel.TASKS)

  def batch_slots(
    batch: jax.Array, size: int, count: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The batch's slots [size] of `count`, which are its own, how many are.

    Of the slots, this device's share.
    """
    rows = jnp.arange(-(-size // num_shares) * num_shares)
    rows = parallel.own(mesh, rows, parallel.BY_ROW)
    slots = batch * size + rows
    # What the last batch has too many repeats a row, at weight zero.
    valid = (rows < size) & (slots < count)
    own = jnp.clip(count - batch * size, 1, size)
    return jnp.where(valid, slots, 0), valid, own

  def batch_loss(
    params: types.Params, rows: jax.Array, weight: jax.Array
  ) -> jax.Array:
    """Squared errors at `rows` [B] of the table, summed by `weight` [B]."""
    batch, target = jnp.split(table[rows], [inputs.shape[1]], -1)
    *hidden, (output, bias) = ensemble.plain_layers(params)
    # On a CPU XLA computes the gradient of a weight [in, few] about eight times
    # slower than its transpose's; without the barrier it undoes the transposes.
    layers = (*hidden, (jax.lax.optimization_barrier(output.T).T, bias))
    error = ensemble.forward(layers, batch, precision=precision) - target
    return jnp.sum(jnp.mean(jnp.square(error), -1) * weight)

  def fit_member(
    state: FitState, split_key: jax.Array
  ) -> tuple[FitState, FitInfo]:
    """One member, its leaves without [K]; the split's key is its own."""
    # An own order of all valid rows: the first `num_train` train the member.
    order = permutations.permutation(split_key, valid > 0)

    def train_epoch(state: FitState, key: jax.Array) -> FitState:
      places = permutations.prefix_permutation(key, num_train, capacity)

      def step(batch: jax.Array, state: FitState) -> FitState:
        slots, valid, own = batch_slots(batch, batch_size, num_train)
        grads = jax.grad(batch_loss)(
          state.params, order[places[slots]], valid / own
        )
        updates, adam_state = adam.update(all_sum(grads), state.adam)
        params = jax.tree.map(
          lambda p, u: p - learning_rate * u, state.params, updates
        )
        return FitState(params, adam_state)

      num_batches = -(-num_train // batch_size)
      return jax.lax.fori_loop(0, num_batches, step, state)

    def validation_loss(params: types.Params) -> jax.Array:
      def step(batch: jax.Array, total: jax.Array) -> jax.Array:
        slots, valid, own = batch_slots(batch, batch_size, num_held_out)
        rows = order[num_train + slots]
        return total + batch_loss(params, rows, valid / own) * own

      num_batches = -(-num_held_out // batch_size)
      zero = jnp.zeros((), table.dtype)
      total = jax.lax.fori_loop(0, num_batches, step, zero)
      return all_sum(total) / num_held_out

    def epoch(loop: _Loop) -> _Loop:
      # The members' orders are independent already: their shuffle is the same.
      trained = train_epoch(loop.state, jax.random.fold_in(key, loop.epoch))
      loss = validation_loss(trained.params)
      finite = jnp.isfinite(loss)
      rolling = jnp.where(loop.epoch == 0, 1.5 * loss, loop.rolling)
      rolling = rolling_persistence * rolling + (1 - rolling_persistence) * loss
      rising = (loss > rolling) & early_stopping
      return _Loop(
        epoch=loop.epoch + 1,
        state=_where(finite, trained, loop.state),
        rolling=rolling,
        active=finite & ~rising,
        info=FitInfo(
          val_loss=jnp.where(finite, loss, loop.info.val_loss),
          epochs=loop.info.epochs + finite,
          rejected=~finite,
        ),
      )

    start = _Loop(
      epoch=jnp.int32(0),
      state=state,
      rolling=jnp.zeros((), table.dtype),
      active=num_samples > 1,
      info=FitInfo(
        val_loss=jnp.full((), jnp.nan, table.dtype),
        epochs=jnp.int32(0),
        rejected=jnp.zeros((), bool),
      ),
    )
    end = jax.lax.while_loop(
      lambda loop: (loop.epoch < max_epochs) & loop.active, epoch, start
    )
    return end.state, end.info

  def in_turn(*members: Any) -> tuple[FitState, FitInfo]:
    return jax.lax.map(lambda member: fit_member(*member), members)

  split_keys = jax.random.split(
    split_key, num_models * parallel.size(mesh, parallel.MODELS)
  )
  split_keys = parallel.own(mesh, split_keys, parallel.BY_MODEL)
  # On a CPU one after the other: what a step reads is still in the cache, and
  # a member that has stopped costs nothing more.
  return jax.lax.platform_dependent(
    state, split_keys, cpu=in_turn, default=jax.vmap(fit_member)
  )


def _where(member: jax.Array, new: FitState, old: FitState) -> FitState:
  """`new` where `member` is true: [K] with leaves [K, ...], or of one."""

  def select(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(broadcasting.trailing(member, new.ndim), new, old)

  return jax.tree.map(select, new, old)
