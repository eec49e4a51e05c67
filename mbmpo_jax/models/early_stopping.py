"""Trains all members of an ensemble at once, each with its own early stop.

Every member has its own random split into training and validation rows. It
takes minibatch steps of an optimiser on a loss. After every epoch, it compares
the validation loss v with its rolling mean (Clavera et al. 2018, A.3):

  roll <- 1.5 v                       after the first epoch
  roll <- rho roll + (1 - rho) v      rho = rolling_persistence
  stop when v > roll.

With a `patience` it stops after that many epochs in a row in which v did not
fall by 1% below its lowest value so far, and the parameters of the lowest value
are kept (as in Janner et al. 2019). Otherwise the last parameters are kept. v
may be another function than the loss (`validation_loss`).

An epoch is one pass over the training rows. With `max_gradient_steps`, the last
epoch is cut to the steps that are left; a limit below one pass gives a single
short epoch. Validation is limited as well, so that the cost of a fit does not
grow with the data. An epoch reads at most

  max_gradient_steps * batch_size * f / (1 - f)      f = validation_fraction

of the validation rows: the ratio of validated rows to trained rows is then that
of the split.

The epochs are one XLA while-loop over all members at once, which ends when all
have stopped. On a CPU the members are trained one after the other.
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

# Keep the keys of losses and of bootstrap samples apart from those of the
# epochs and of the splits.
_LOSS = 0x6C6F7373
_DRAW = 0x64726177
# Share by which the validation loss must fall to count as lower.
_LOWER = 0.01


class Info(NamedTuple):
  """Statistics of a member's training; [K] for all members."""

  val_loss: jax.Array  # of the kept parameters; NaN if none was finite
  epochs: jax.Array  # int32, number of epochs with a finite loss
  gradient_steps: jax.Array  # int32, number of steps in these epochs
  rejected: jax.Array  # bool, whether an epoch gave a non-finite loss


class _Best(NamedTuple):
  """The lowest validation loss of a member so far."""

  params: types.Params
  optimizer: optax.OptState
  loss: jax.Array
  age: jax.Array  # int32, number of epochs since then


class _Member(NamedTuple):
  """The state of a member between two epochs."""

  params: types.Params
  optimizer: optax.OptState
  rolling: jax.Array
  best: Any  # `_Best`, or () without a `patience`
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
  patience: int | None = None,
  bootstrap: bool = False,
  histories: Callable[[jax.Array], Any] | None = None,
  validation_loss: Callable[..., jax.Array] | None = None,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[types.Params, optax.OptState, Info]:
  """Trains every member, starting from the given parameters.

  Args:
    params: of K members, leaves `[K, ...]` (warm start).
    optimizer_state: of K members, leaves `[K, ...]`.
    inputs: standardised, `[C, I]`.
    targets: standardised, `[C, O]`.
    valid: 1. for the rows [C] to learn from; other rows may hold anything.
    key: consumed.
    loss: of one member, see `models.base.Dynamics.loss`.
    optimizer: of one member; it may close over a learning rate in the state.
    batch_size: rows per gradient step and member.
    validation_fraction: share of the valid rows used for validation.
    max_epochs: greatest number of epochs of a member.
    max_gradient_steps: greatest number of gradient steps of a member; `None`
      for no limit.
    early_stopping: False trains all members up to the limits.
    rolling_persistence: rho.
    patience: epochs without a lower validation loss after which a member stops,
      in place of the rule with rho; the parameters of the lowest loss are kept,
      with or without `early_stopping`.
    bootstrap: whether every member draws its training rows with replacement
      from those that it does not hold out.
    histories: rows [B] -> additional inputs of the loss, leaves `[B, ...]`. The
      loss then gets the pair of a batch's inputs and these.
    validation_loss: v, with the arguments of `loss`; by default the loss.
    mesh: devices over which members and rows are distributed. Each device has
      its part of the members and all rows, and computes its part of every
      batch. Devices communicate once per gradient step and once per epoch; on
      a CPU, for each member.

  Returns:
    The new parameters and optimiser states, and statistics. If an epoch of a
    member gives a non-finite validation loss, this epoch is undone and the
    member stops. With fewer than two valid rows there is no epoch.
  """
  chex.assert_rank([inputs, targets, valid], [2, 2, 1])
  chex.assert_equal_shape_prefix([inputs, targets, valid], 1)
  chex.assert_tree_shape_prefix(
    (params, optimizer_state), jax.tree.leaves(params)[0].shape[:1]
  )
  capacity = inputs.shape[0]
  num_samples = jnp.sum(valid > 0, dtype=jnp.int32)
  # All valid rows are before this index.
  filled = jnp.max(jnp.where(valid > 0, jnp.arange(1, capacity + 1), 0))
  # In one table, so that a minibatch is one gather.
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
    """This device's part of a batch: slots, their validity, the batch's size.

    Slots index `count` rows. The size is the whole batch's number of rows.
    """
    rows = jnp.arange(-(-batch_size // num_shares) * num_shares)
    rows = parallel.own(mesh, rows, parallel.BY_ROW)
    slots = batch * batch_size + rows
    # Excess slots of the last batch repeat row 0 with weight zero.
    valid = (rows < batch_size) & (slots < count)
    own = jnp.clip(count - batch * batch_size, 1, batch_size)
    return jnp.where(valid, slots, 0), valid, own

  def batch_loss(
    params: types.Params,
    rows: jax.Array,
    weight: jax.Array,
    key: jax.Array,
    loss: Callable[..., jax.Array] = loss,
  ) -> jax.Array:
    """The loss at `rows` [B] of the table, a sum weighted by `weight` [B]."""
    batch: Any
    batch, target = jnp.split(table[rows], [inputs.shape[1]], -1)
    if histories is not None:
      batch = (batch, histories(rows))
    if num_shares > 1:  # rows on different devices need different noise
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
      # The same noise after every epoch, so that losses are comparable.
      key = jax.random.fold_in(validation_key, batch)
      value = batch_loss(
        params, rows, valid / own, key, validation_loss or loss
      )
      return total + value * own

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
    params, state = select(
      finite, (params, state), (member.params, member.optimizer)
    )
    info, best = member.info, member.best
    rising, kept = value > rolling, jnp.where(finite, value, info.val_loss)
    if patience is not None:
      lower = finite & ((index == 0) | (value < (1 - _LOWER) * best.loss))
      best = select(lower, _Best(params, state, value, jnp.int32(-1)), best)
      best = best._replace(age=best.age + 1)
      rising, kept = best.age >= patience, best.loss
    return _Member(
      params,
      state,
      rolling=rolling,
      best=best,
      active=finite & ~(rising & early_stopping),
      info=Info(
        val_loss=kept,
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
    """Trains members mapped by `over_members`, or a single member."""

    def start(
      params: types.Params, optimizer_state: optax.OptState, key: jax.Array
    ) -> tuple[_Member, jax.Array]:
      # A random order of the valid rows; the first `num_train` are trained on.
      order = permutations.by_size(
        lambda size: jnp.pad(
          permutations.permutation(key, valid[:size] > 0),
          (0, capacity - size),
        ),
        filled,
        permutations.sizes(capacity),
      )
      if bootstrap:
        places = jnp.arange(capacity)
        drawn = jax.random.randint(
          jax.random.fold_in(key, _DRAW), (capacity,), 0, num_train
        )
        order = order[jnp.where(places < num_train, drawn, places)]
      info = Info(
        val_loss=jnp.full((), jnp.nan, table.dtype),
        epochs=jnp.int32(0),
        gradient_steps=jnp.int32(0),
        rejected=jnp.zeros((), bool),
      )
      zero = jnp.zeros((), table.dtype)
      best: Any = ()
      if patience is not None:
        best = _Best(params, optimizer_state, info.val_loss, jnp.int32(0))
      active = num_samples > 1
      return _Member(params, optimizer_state, zero, best, active, info), order

    members, order = over_members(start)(params, optimizer_state, split_key)

    def epoch(loop: tuple[jax.Array, _Member]) -> tuple[jax.Array, _Member]:
      index, members = loop
      # Members have independent orders, so the shuffle of places can be shared.
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
    if patience is not None:
      return members.best.params, members.best.optimizer, members.info
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

  # When trained in turn, a member that has stopped costs nothing more.
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
    old: a tree with the same shapes.
  """

  def select_leaf(new: jax.Array, old: jax.Array) -> jax.Array:
    return jnp.where(broadcasting.trailing(flags, new.ndim), new, old)

  return jax.tree.map(select_leaf, new, old)
