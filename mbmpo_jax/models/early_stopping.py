"""Trains all members of an ensemble at once, each to its own early stop.

Per member: its own random split into training and validation rows, minibatch
steps of an optimiser on a loss, and after every epoch the validation loss v
against its rolling mean (Clavera et al. 2018, A.3):

  roll <- 1.5 v                       after the first epoch
  roll <- rho roll + (1 - rho) v      rho = rolling_persistence
  stop when v > roll.

An epoch is one pass over the training rows. With `max_gradient_steps` it never
exceeds the steps that are left: the last epoch is cut short, and a limit below
one pass makes a fit of one short epoch. Validation is limited too, so that the
matrix products of a fit do not grow with the data: an epoch reads at most

  max_gradient_steps * batch_size * f / (1 - f)      f = validation_fraction

of the rows held out, which is to the rows trained on as the split has it.

The epochs are one XLA while-loop, for all members at once, which ends when all
have stopped, or on a CPU for one member after the other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import backend
from mbmpo_jax import broadcasting
from mbmpo_jax import parallel
from mbmpo_jax import types
from mbmpo_jax.models import permutations

# Keeps the losses' keys apart from those of the epochs, which are below.
_LOSS = 0x6C6F7373


class Info(NamedTuple):
  """How the training of a member went; [K] of all."""

  val_loss: jax.Array  # of the parameters kept; NaN if none was finite
  epochs: jax.Array  # int32, epochs trained and kept
  gradient_steps: jax.Array  # int32, in these epochs
  rejected: jax.Array  # bool, an epoch gave a non-finite loss


class _Member(NamedTuple):
  """A member between two epochs."""

  params: types.Params
  optimizer: optax.OptState
  rolling: jax.Array
  active: jax.Array
  info: Info


def train(
  params: types.Params,
  optimizer_state: optax.OptState,
  inputs: jax.Array,
  targets: jax.Array,
  valid: jax.Array,
  key: jax.Array,
  *,
  loss: Callable[..., jax.Array],
  optimizer: optax.GradientTransformation,
  batch_size: int,
  validation_fraction: float,
  max_epochs: jax.Array | int,
  max_gradient_steps: int | None = None,
  early_stopping: bool = True,
  rolling_persistence: jax.Array | float = 0.95,
  histories: Callable[[jax.Array], Any] | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[types.Params, optax.OptState, Info]:
  """Trains every member from where it was left.

  Args:
    params: of K members, leaves `[K, ...]` (warm start).
    optimizer_state: theirs, leaves `[K, ...]`.
    inputs: standardised, `[C, I]`.
    targets: standardised, `[C, O]`.
    valid: 1. for the rows [C] to learn from; the others may hold anything.
    key: consumed.
    loss: of one member, as `models.base.Dynamics.loss`.
    optimizer: of one member; may close over a rate in the state.
    batch_size: rows per gradient step and member.
    validation_fraction: share of the valid rows held out.
    max_epochs: after which every member stops.
    max_gradient_steps: after which every member stops, exactly; `None` is no
      limit.
    early_stopping: False trains all members to the limits.
    rolling_persistence: rho.
    histories: rows [B] -> what else the loss sees of them, leaves `[B, ...]`;
      the inputs that it is given are then a pair, of a batch's and these.
    mesh: of the devices among which members and rows are shared out. Each has
      its share of the members, all rows, and takes its share of every batch's;
      they meet once per gradient step and once per epoch, on a CPU for each
      member.

  Returns:
    Parameters and optimiser states after, and how it went. A member whose epoch
    gives a non-finite validation loss drops that epoch and stops. With fewer
    than two rows to learn from there is no epoch.
  """
  chex.assert_rank([inputs, targets, valid], [2, 2, 1])
  chex.assert_equal_shape_prefix([inputs, targets, valid], 1)
  chex.assert_tree_shape_prefix(
    (params, optimizer_state), jax.tree.leaves(params)[0].shape[:1]
  )
  capacity = inputs.shape[0]
  num_samples = jnp.sum(valid > 0, dtype=jnp.int32)
  # All rows to learn from are before this one.
  filled = jnp.max(jnp.where(valid > 0, jnp.arange(1, capacity + 1), 0))
  # One table: a minibatch is then one gather.
  table = jnp.concatenate([inputs, targets], -1)
  num_held_out = jnp.clip(
    (num_samples * validation_fraction).astype(jnp.int32), 1, num_samples - 1
  )
  num_train = num_samples - num_held_out
  num_batches = -(-num_train // batch_size)
  if max_gradient_steps is not None:
    max_epochs = jnp.minimum(max_epochs, -(-max_gradient_steps // num_batches))
    share = validation_fraction / (1 - validation_fraction)
    most = int(max_gradient_steps * batch_size * share) + 1
    num_validated = jnp.minimum(num_held_out, min(most, capacity))
  else:
    num_validated = num_held_out
  split_key, key = jax.random.split(key)
  num_shares = parallel.size(mesh, parallel.TASKS)
  all_sum = parallel.all_sum(mesh, parallel.TASKS)

  def batch_slots(
    batch: jax.Array, count: jax.Array
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The batch's slots of `count`, which are its own, how many are.

    Of the slots, this device's share.
    """
    rows = jnp.arange(-(-batch_size // num_shares) * num_shares)
    rows = parallel.own(mesh, rows, parallel.BY_ROW)
    slots = batch * batch_size + rows
    # What the last batch has too many repeats a row, at weight zero.
    valid = (rows < batch_size) & (slots < count)
    own = jnp.clip(count - batch * batch_size, 1, batch_size)
    return jnp.where(valid, slots, 0), valid, own

  def batch_loss(
    params: types.Params, rows: jax.Array, weight: jax.Array, key: jax.Array
  ) -> jax.Array:
    """The loss at `rows` [B] of the table, summed by `weight` [B]."""
    batch: Any
    batch, target = jnp.split(table[rows], [inputs.shape[1]], -1)
    if histories is not None:
      batch = (batch, histories(rows))
    if num_shares > 1:  # every row of a batch has its own noise
      key = jax.random.fold_in(key, jax.lax.axis_index(parallel.TASKS))
    return loss(params, batch, target, weight, key)

  def epoch_of_member(
    member: _Member,
    order: jax.Array,
    loss_key: jax.Array,
    places: jax.Array,
    index: jax.Array,
    num_steps: jax.Array,
  ) -> _Member:
    """One epoch: `num_steps` gradient steps, then validation."""
    step_key, validation_key = jax.random.split(loss_key)
    step_key = jax.random.fold_in(step_key, index)

    def step(
      batch: jax.Array, trained: tuple[types.Params, optax.OptState]
    ) -> tuple[types.Params, optax.OptState]:
      params, state = trained
      slots, valid, own = batch_slots(batch, num_train)
      grads = jax.grad(batch_loss)(
        params,
        order[places[slots]],
        valid / own,
        jax.random.fold_in(step_key, batch),
      )
      updates, state = optimizer.update(all_sum(grads), state, params)
      return optax.apply_updates(params, updates), state

    params, state = jax.lax.fori_loop(
      0, num_steps, step, (member.params, member.optimizer)
    )

    def validate(batch: jax.Array, total: jax.Array) -> jax.Array:
      slots, valid, own = batch_slots(batch, num_validated)
      rows = order[num_train + slots]
      # The same noise after every epoch.
      key = jax.random.fold_in(validation_key, batch)
      return total + batch_loss(params, rows, valid / own, key) * own

    total = jax.lax.fori_loop(
      0,
      -(-num_validated // batch_size),
      validate,
      jnp.zeros((), table.dtype),
    )
    value = all_sum(total) / num_validated
    finite = jnp.isfinite(value)
    rolling = jnp.where(index == 0, 1.5 * value, member.rolling)
    rolling = rolling_persistence * rolling + (1 - rolling_persistence) * value
    rising = (value > rolling) & early_stopping
    params, state = select(
      finite, (params, state), (member.params, member.optimizer)
    )
    info = member.info
    return _Member(
      params,
      state,
      rolling=rolling,
      active=finite & ~rising,
      info=Info(
        val_loss=jnp.where(finite, value, info.val_loss),
        epochs=info.epochs + finite,
        gradient_steps=info.gradient_steps + num_steps * finite,
        rejected=~finite,
      ),
    )

  def train_members(
    over_members: Callable[[Callable], Callable],
    params: types.Params,
    optimizer_state: optax.OptState,
    split_key: jax.Array,
    loss_key: jax.Array,
  ) -> tuple[types.Params, optax.OptState, Info]:
    """Members on the axis of `over_members`; one alone, if it has none."""

    def start(
      params: types.Params, optimizer_state: optax.OptState, key: jax.Array
    ) -> tuple[_Member, jax.Array]:
      # An order of all valid rows: the first `num_train` train the member.
      order = permutations.by_size(
        lambda size: jnp.pad(
          permutations.permutation(key, valid[:size] > 0),
          (0, capacity - size),
        ),
        filled,
        permutations.sizes(capacity),
      )
      info = Info(
        val_loss=jnp.full((), jnp.nan, table.dtype),
        epochs=jnp.int32(0),
        gradient_steps=jnp.int32(0),
        rejected=jnp.zeros((), bool),
      )
      rolling = jnp.zeros((), table.dtype)
      active = num_samples > 1
      return _Member(params, optimizer_state, rolling, active, info), order

    members, order = over_members(start)(params, optimizer_state, split_key)

    def epoch(loop: tuple[jax.Array, _Member]) -> tuple[jax.Array, _Member]:
      index, members = loop
      # The members' orders are independent already: their shuffle is the same.
      places = permutations.prefix_permutation(
        jax.random.fold_in(key, index), num_train, capacity
      )
      num_steps = num_batches
      if max_gradient_steps is not None:
        left = max_gradient_steps - index * num_batches
        num_steps = jnp.minimum(num_batches, left)

      def run(member: _Member, order: jax.Array, key: jax.Array) -> _Member:
        return epoch_of_member(member, order, key, places, index, num_steps)

      after = over_members(run)(members, order, loss_key)
      return index + 1, select(members.active, after, members)

    _, members = jax.lax.while_loop(
      lambda loop: (loop[0] < max_epochs) & jnp.any(loop[1].active),
      epoch,
      (jnp.int32(0), members),
    )
    return members.params, members.optimizer, members.info

  def in_turn(*members: Any) -> tuple[types.Params, optax.OptState, Info]:
    return jax.lax.map(
      lambda member: train_members(lambda fn: fn, *member), members
    )

  def at_once(*members: Any) -> tuple[types.Params, optax.OptState, Info]:
    return train_members(jax.vmap, *members)

  def member_keys(key: jax.Array) -> jax.Array:
    num_models = jax.tree.leaves(params)[0].shape[0]
    num_models *= parallel.size(mesh, parallel.MODELS)
    keys = jax.random.split(key, num_models)
    return parallel.own(mesh, keys, parallel.BY_MODEL)

  # In turn, a member that has stopped costs nothing more.
  return backend.in_turn_or_at_once(
    in_turn,
    at_once,
    params,
    optimizer_state,
    member_keys(split_key),
    member_keys(jax.random.fold_in(key, _LOSS)),
  )


def select(flags: jax.Array, new: Any, old: Any) -> Any:
  """The tree `new` where `flags` is true, otherwise `old`.

  Args:
    flags: bool, `[K]` with leaves `[K, ...]`, or a scalar.
    new: a tree.
    old: another of the same shapes.
  """

  def select_leaf(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(broadcasting.trailing(flags, new.ndim), new, old)

  return jax.tree.map(select_leaf, new, old)
