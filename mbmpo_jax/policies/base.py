"""What can act: a policy as a named tuple of pure functions.

Axes: rollouts or environments `N`, then features (`O` observation, `A` action).
A policy acts in N worlds side by side, with one set of parameters for all of
them; `per_rollout` gives each its own.

Two lifetimes are kept apart. A `carry` lives for an episode: nothing, a window
of past steps, the last plan. A `context` outlives it: the data or the latent of
a task, handed to `start`.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.policies import distributions


class Action(NamedTuple):
  """What a policy does in N worlds."""

  raw: jax.Array  # [N, A], as sampled; what `log_prob` is of
  env: jax.Array  # [N, A], what reaches environment, models, buffer and reward
  log_prob: jax.Array  # [N], NaN where there is no density, as for planners
  extras: Any = ()  # what the learner wants back, leaves [N, ...]


class Experience(NamedTuple):
  """One step in N worlds, as a policy with a memory sees it afterwards."""

  obs: jax.Array  # [N, O]
  action: jax.Array  # [N, A], `Action.env`
  reward: jax.Array  # [N]
  next_obs: jax.Array  # [N, O]
  terminated: jax.Array  # [N]


class Policy(NamedTuple):
  """A policy; `memoryless` builds most of them from two functions.

  Attributes:
    init: key -> params; consumes the key.
    start: `(params, key, context, num) -> carry`, leaves `[num, ...]`: the
      memory at the start of `num` episodes; consumes the key.
    act: `(params, carry, obs [N, O], noise) -> (carry, Action)`. Without noise
      (`None`) it acts greedily.
    noise: `(key, shape) -> noise`, for one step where `shape` is (N,), for T of
      them, on a leading axis, where it is (T, N); consumes the key. Where much
      is drawn per step, the noise is a key for each world, `[*shape, 2]`.
    distribution: `(params, carry, obs [N, O]) -> Distribution`, the density of
      raw actions, differentiable in the parameters; `None` for planners.
    over: `(params, trajectory [T, N]) -> Distribution [T, N]`, of all steps at
      once, memory replayed; `None` for planners.
    observe: `(params, carry, Experience) -> carry`, what came of an action;
      `None` where nothing is remembered, and nothing needs to be told.
    spread: `(params, shape [..., N], per_task) -> (params, axes)`, parameters
      in the form in which a scan over time reads them fastest, and the axis
      of each leaf to map over, for each of the axes of `shape` but the last.
      `per_task` says whether the parameters lead with these axes already.
  """

  init: Callable[[jax.Array], types.Params]
  start: Callable[..., Any]
  act: Callable[..., tuple[Any, Action]]
  noise: Callable[[jax.Array, tuple[int, ...]], Any]
  distribution: Callable[..., distributions.Distribution] | None = None
  over: Callable[..., distributions.Distribution] | None = None
  observe: Callable[..., Any] | None = None
  spread: Callable[..., tuple[types.Params, Any]] = (
    lambda params, shape, per_task: (params, 0 if per_task else None)
  )


def memoryless(
  init: Callable[[jax.Array], types.Params],
  distribution: Callable[[types.Params, jax.Array], Any],
  *,
  noise: Callable[[jax.Array, tuple[int, ...]], Any],
) -> Policy:
  """A policy whose density depends on the observation alone.

  Args:
    init: key -> params.
    distribution: `(params, obs [..., O]) -> Distribution [...]`.
    noise: `(key, shape) -> noise`, what the distribution's samples are made of.

  Example:
    A random walk in the plane:

    >>> import functools
    >>> policy = memoryless(
    ...   lambda key: (),
    ...   lambda params, obs: distributions.Gaussian(0 * obs, 0 * obs),
    ...   noise=functools.partial(distributions.normal_noise, action_size=2),
    ... )
    >>> noise = policy.noise(jax.random.PRNGKey(0), (3,))
    >>> _, action = policy.act((), (), jnp.zeros((3, 2)), noise)
    >>> action.env.shape, action.log_prob.shape
    ((3, 2), (3,))
  """

  def start(params: types.Params, key: Any, context: Any, num: int) -> Any:
    del params, key, context, num
    return ()

  def of_step(params: types.Params, carry: Any, obs: jax.Array) -> Any:
    del carry
    return distribution(params, obs)

  def act(
    params: types.Params, carry: Any, obs: jax.Array, noise: Any
  ) -> tuple[Any, Action]:
    return carry, take(distribution(params, obs), noise)

  def over(params: types.Params, trajectory: types.Trajectory) -> Any:
    return distribution(params, trajectory.obs)

  return Policy(
    init=init,
    start=start,
    act=act,
    noise=noise,
    distribution=of_step,
    over=over,
  )


def take(dist: distributions.Distribution, noise: Any) -> Action:
  """The action that a distribution and its noise make; greedy without noise."""
  if noise is None:
    raw = dist.mode()
    return Action(raw, dist.to_env(raw), dist.log_prob(raw))
  raw = dist.sample(noise)
  return Action(raw, dist.to_env(raw), dist.log_prob_of_noise(noise))


def mean_std(
  policy: Policy, params: types.Params, key: jax.Array, observation_size: int
) -> jax.Array:
  """The mean deviation of the policy's first action where all is zero.

  NaN where its distribution has no deviation.

  Args:
    policy: with a density.
    params: its parameters.
    key: consumed, for a memory to begin with.
    observation_size: O.
  """
  assert policy.distribution is not None
  obs = jnp.zeros((1, observation_size))
  carry = policy.start(params, key, (), 1)
  dist = policy.distribution(params, carry, obs)
  return jnp.mean(jnp.exp(getattr(dist, 'log_std', jnp.nan)))


def per_rollout(policy: Policy) -> Policy:
  """The same policy with parameters `[N, ...]`, one set for each of N worlds.

  It acts and remembers; its densities are those of `policy`.
  """

  def alone(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[None], tree)

  def first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)

  def start(params: types.Params, key: Any, context: Any, num: int) -> Any:
    def one(params: types.Params, key: jax.Array) -> Any:
      return first(policy.start(params, key, context, 1))

    return jax.vmap(one)(params, jax.random.split(key, num))

  def act(
    params: types.Params, carry: Any, obs: jax.Array, noise: Any
  ) -> tuple[Any, Action]:
    def one(params: types.Params, *rest: Any) -> tuple[Any, Action]:
      return first(policy.act(params, *alone(rest)))

    return jax.vmap(one)(params, carry, obs, noise)

  def observe(params: types.Params, carry: Any, step: Experience) -> Any:
    def one(params: types.Params, *rest: Any) -> Any:
      assert policy.observe is not None
      return first(policy.observe(params, *alone(rest)))

    return jax.vmap(one)(params, carry, step)

  return Policy(
    init=policy.init,
    start=start,
    act=act,
    noise=policy.noise,
    observe=None if policy.observe is None else observe,
  )
