"""The interface of policies: a policy is a named tuple of pure functions.

Axes: rollouts or environments `N`, then features (`O` observation, `A` action).
A policy acts in N environments at once, with one set of parameters for all of
them. `per_rollout` gives each rollout its own parameters.

A policy has two kinds of state. A `carry` lasts for one episode: it is empty, a
window of past steps, or the last plan. A `context` lasts longer, and is an
input of `start`: the data or the latent of a task.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.policies import distributions


class Action(NamedTuple):
  """The actions of a policy in N environments."""

  raw: jax.Array  # [N, A], as sampled; `log_prob` is its log-probability
  env: jax.Array  # [N, A], for environment, models, buffer and reward
  log_prob: jax.Array  # [N], NaN where there is no density, as for planners
  extras: Any = ()  # kept in the trajectory for the learner, leaves [N, ...]


class Experience(NamedTuple):
  """One step in N environments, as `Policy.observe` takes it."""

  obs: jax.Array  # [N, O]
  action: jax.Array  # [N, A], `Action.env`
  reward: jax.Array  # [N]
  next_obs: jax.Array  # [N, O]
  terminated: jax.Array  # [N]


class Policy(NamedTuple):
  """A policy; `memoryless` builds most policies from two functions.

  Attributes:
    init: key -> params; consumes the key.
    start: `(params, key, context, num) -> carry`, leaves `[num, ...]`: the
      carry at the start of `num` episodes; consumes the key.
    act: `(params, carry, obs [N, O], noise) -> (carry, Action)`. Without noise
      (`None`) it acts greedily.
    noise: `(key, shape) -> noise`; consumes the key. The shape (N,) gives the
      noise of one step, (T, N) that of T steps, on a leading axis. A policy
      that needs many random numbers per step takes one key per environment as
      its noise, `[*shape, 2]`.
    distribution: `(params, carry, obs [N, O]) -> Distribution`, the density of
      raw actions, differentiable in the parameters; `None` for planners.
    over: `(params, trajectory [T, N]) -> Distribution [T, N]`, the densities of
      all steps at once; the carry is recomputed from the trajectory. `None` if
      this is not possible, as for planners.
    observe: `(params, carry, Experience) -> carry`, updates the carry with the
      outcome of an action; `None` for policies that remember no outcomes.
    spread: `(params, shape [..., N], per_task) -> (params, axes)`, parameters
      in the layout that a scan over time reads fastest, and the axis of each
      leaf to map over, for each axis of `shape` but the last. `per_task` is
      whether the parameters already have these leading axes.
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
  """A policy whose density depends on the current observation only.

  Args:
    init: key -> params.
    distribution: `(params, obs [..., O]) -> Distribution [...]`.
    noise: `(key, shape) -> noise`, an input of the distribution's `sample`.

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
  """The action sampled with `noise`; the greedy action without noise."""
  if noise is None:
    raw = dist.mode()
    return Action(raw, dist.to_env(raw), dist.log_prob(raw))
  raw = dist.sample(noise)
  return Action(raw, dist.to_env(raw), dist.log_prob_of_noise(noise))


def mean_std(
  policy: Policy, params: types.Params, key: jax.Array, observation_size: int
) -> jax.Array:
  """The mean standard deviation of the policy's first action at zero.

  This is the mean over action dimensions, for a zero observation at the start
  of an episode. NaN if the distribution has no deviation.

  Args:
    policy: must have a density.
    params: its parameters.
    key: consumed, for the initial carry.
    observation_size: O.
  """
  assert policy.distribution is not None
  obs = jnp.zeros((1, observation_size))
  carry = policy.start(params, key, (), 1)
  dist = policy.distribution(params, carry, obs)
  return jnp.mean(jnp.exp(getattr(dist, 'log_std', jnp.nan)))


def per_rollout(policy: Policy) -> Policy:
  """The same policy with parameters `[N, ...]`, one set for each rollout.

  It has no densities; use those of `policy`.
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
