"""A policy that plans: at each step it searches for the best actions.

The model's return of an action sequence a_1..a_H from the current state is

  R(a) = sum_t discount^(t-1) r(s_t, a_t, s_{t+1}),  s_{t+1} = f_k(s_t, a_t),

with no rewards after a termination. A search (`random_shooting`, `cem`, `mppi`)
finds a sequence with a high R. The policy takes its first action and plans
again at the next step: a receding horizon (Nagabandi et al. 2017, section
IV.C). With an `Adaptation`, the model is first fitted to the last steps of the
episode, separately at every step (Nagabandi et al. 2019, algorithm 2).

Searches and scores are for one environment, with axes: candidates `C`, horizon
`H`, features. The policy maps them over its N environments. Only the memory of
the search, and the window of an adaptation, are kept from step to step.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as envs
from mbmpo_jax.models import base as models
from mbmpo_jax.policies import base
from mbmpo_jax.rollouts import history

# (action sequences [C, H, A], key) -> returns [C]; NaN counts as the worst.
ScoreFn = Callable[[jax.Array, jax.Array], jax.Array]


class Numbers(NamedTuple):
  """Numeric settings of a planner that may differ between runs of a sweep.

  `algorithms/mb_mpc/config.py` describes them, and which search uses them.
  """

  discount: jax.Array | float = 1.0
  disagreement_coef: jax.Array | float = 0.0
  init_std: jax.Array | float = 0.5
  min_std: jax.Array | float = 0.05
  smoothing: jax.Array | float = 0.1
  temperature: jax.Array | float = 1.0


class Params(NamedTuple):
  """The parameters of a planner."""

  model: Any  # of all members, leaves [K, ...]
  numbers: Numbers


class Search(NamedTuple):
  """A method that finds a sequence with a high return, in one environment.

  Attributes:
    start: () -> the memory at the start of an episode.
    plan: `(score, memory, key, numbers) -> (memory, sequence [H, A])`; consumes
      the key. The returned memory is for the next step.
  """

  start: Callable[[], Any]
  plan: Callable[[ScoreFn, Any, jax.Array, Numbers], tuple[Any, jax.Array]]


class Adaptation(NamedTuple):
  """Adaptation of the model before each planning step, in one environment.

  Attributes:
    length: M, the number of remembered steps of the episode.
    adapt: `(model, window, obs) -> model`, for all members, leaves `[K, ...]`.
      The `history.Window` [M] holds the last steps, the newest last, with a
      mask; `obs` [O] is the observation after the newest step.
  """

  length: int
  adapt: Callable[[Any, history.Window, jax.Array], Any]


class Carry(NamedTuple):
  """The memory of a policy that adapts, for N environments."""

  window: history.Window  # [N, M]
  memory: Any  # the memory of the search, leaves [N, ...]


def make(
  env: envs.Environment,
  dynamics: models.Dynamics,
  search: Search,
  *,
  init: Callable[[jax.Array], Params],
  members: str = 'one',
  adaptation: Adaptation | None = None,
) -> base.Policy:
  """The policy that takes the first action of the best sequence found.

  Its noise is one key per environment. A greedy action (without noise) uses the
  same constant key at every step and in every environment, and so depends only
  on the observation and the carry.

  Args:
    env: its reward and termination functions are used where the model predicts
      none.
    dynamics: the functions of the model in `Params.model`.
    search: from `random_shooting.make`, `cem.make` or `mppi.make`.
    init: key -> params, with a model that has seen no data.
    members: which members score a candidate, see `imagined_returns`.
    adaptation: of the model, at every step from `Params.model`. The carry is
      then a `Carry`; otherwise it is the memory of the search.
  """
  score = functools.partial(
    imagined_returns, env=env, dynamics=dynamics, members=members
  )

  def start(params: Params, key: Any, context: Any, num: int) -> Any:
    del params, key, context
    memory = jax.tree.map(
      lambda x: jnp.broadcast_to(x[None], (num, *x.shape)), search.start()
    )
    if adaptation is None:
      return memory
    window = history.empty(
      num, env.observation_size, env.action_size, length=adaptation.length
    )
    return Carry(window, memory)

  def act(
    params: Params, carry: Any, obs: jax.Array, noise: jax.Array | None
  ) -> tuple[Any, base.Action]:
    chex.assert_rank(obs, 2)
    if noise is None:
      noise = jnp.broadcast_to(jax.random.PRNGKey(0)[None], (obs.shape[0], 2))

    def one(carry: Any, obs: jax.Array, key: jax.Array) -> Any:
      model, memory = params.model, carry
      if adaptation is not None:
        memory = carry.memory
        model = adaptation.adapt(model, carry.window, obs)
      memory, sequence = search.plan(
        lambda sequences, key: score(
          model,
          obs,
          sequences,
          key,
          discount=params.numbers.discount,
          disagreement_coef=params.numbers.disagreement_coef,
        ),
        memory,
        key,
        params.numbers,
      )
      if adaptation is not None:
        memory = carry._replace(memory=memory)
      return memory, sequence

    carry, sequences = jax.vmap(one)(carry, obs, noise)
    action = sequences[:, 0]
    return carry, base.Action(
      raw=action,
      env=action,
      log_prob=jnp.full(action.shape[0], jnp.nan, action.dtype),
    )

  def observe(params: Params, carry: Carry, step: base.Experience) -> Carry:
    del params
    window = history.push(carry.window, step.obs, step.action, step.reward)
    return carry._replace(window=window)

  return base.Policy(
    init=init,
    start=start,
    act=act,
    noise=keys,
    observe=None if adaptation is None else observe,
  )


def keys(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """A planner's noise: keys `[*shape, 2]`; consumes `key`."""
  return jax.random.split(key, shape)


def imagined_returns(
  model: Any,
  obs: jax.Array,
  sequences: jax.Array,
  key: jax.Array,
  *,
  env: envs.Environment,
  dynamics: models.Dynamics,
  members: str = 'one',
  discount: jax.Array | float = 1.0,
  disagreement_coef: jax.Array | float = 0.0,
) -> jax.Array:
  """The returns of action sequences, as predicted by the ensemble.

  Every imagined step evaluates all candidates of a member as one batch.

  Args:
    model: of K members, leaves `[K, ...]`.
    obs: the initial observation, `[O]`.
    sequences: `[C, H, A]`, environment actions.
    key: consumed.
    env: gives rewards and terminations that the model does not predict.
    dynamics: the model's functions.
    members: with `one`, each member scores C / K candidates, in order. With
      `all`, every member scores every candidate, and the result is the mean
      over members less `disagreement_coef` times their standard deviation.
    discount: per step.
    disagreement_coef: see `members`.

  Returns:
    The returns [C]; NaN where a prediction is not finite.

  Raises:
    ValueError: if C is not a multiple of K, with `members='one'`.
  """
  chex.assert_rank([obs, sequences], [1, 3])
  num_members = jax.tree.leaves(model)[0].shape[0]
  count, horizon, action_size = sequences.shape
  weights = jnp.asarray(discount, obs.dtype) ** jnp.arange(horizon)
  imagine = functools.partial(
    _imagine, env=env, dynamics=dynamics, obs=obs, weights=weights
  )
  member_keys = jax.random.split(key, num_members)
  if members == 'one':
    if count % num_members:
      raise ValueError(
        f'{count} candidates: must be a multiple of {num_members} members'
      )
    shares = sequences.reshape(num_members, -1, horizon, action_size)
    return jax.vmap(imagine)(model, shares, member_keys).reshape(count)
  returns = jax.vmap(imagine, (0, None, 0))(model, sequences, member_keys)
  spread = jnp.std(returns, axis=0)
  return jnp.mean(returns, axis=0) - disagreement_coef * spread


def worst_if_nan(returns: jax.Array) -> jax.Array:
  """Returns [C] with NaN replaced by -inf, so that no NaN is the largest."""
  return jnp.where(jnp.isnan(returns), -jnp.inf, returns)


def _imagine(
  model: Any,
  sequences: jax.Array,
  key: jax.Array,
  *,
  env: envs.Environment,
  dynamics: models.Dynamics,
  obs: jax.Array,
  weights: jax.Array,
) -> jax.Array:
  """One member's returns [B] of `sequences` [B, H, A], weighted by [H]."""
  count = sequences.shape[0]
  start_key, steps_key = jax.random.split(key)

  def step(state: Any, xs: Any) -> tuple[Any, None]:
    carry, obs, alive, total = state
    action, weight, step_key = xs
    carry, prediction = dynamics.predict(model, carry, obs, action, step_key)
    next_obs = prediction.next_obs
    reward = prediction.reward
    if reward is None:
      reward = env.reward(obs, action, next_obs)
    # The reward may ignore dimensions of a prediction that are not finite.
    sound = jnp.all(jnp.isfinite(next_obs), -1)
    reward = jnp.where(sound, weight * reward, jnp.nan)
    total = total + jnp.where(alive > 0, reward, 0.0)
    ended = prediction.terminated
    if ended is None and env.can_terminate:
      ended = env.done(next_obs)
    if ended is not None:
      alive = alive * (1 - ended)
    return (carry, next_obs, alive, total), None

  start = (
    dynamics.start(model, start_key, (), count),
    jnp.broadcast_to(obs[None], (count, *obs.shape)),
    jnp.ones(count, obs.dtype),
    jnp.zeros(count, obs.dtype),
  )
  (*_, total), _ = jax.lax.scan(
    step,
    start,
    (
      jnp.swapaxes(sequences, 0, 1),
      weights,
      jax.random.split(steps_key, sequences.shape[1]),
    ),
  )
  return total
