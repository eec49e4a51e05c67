"""A policy that infers its task from recent transitions: pi(a | s, z).

z is sampled from q(z | c). The context c is the last W transitions of the
episode (`rollouts/history.py`), so it changes with every step (Rakelly et al.
2019, here for a task that may change within an episode). The noise eps of z =
mu(c) + sigma(c) eps is drawn once per episode. An episode therefore begins with
a sample of the prior, z = eps, which changes only as transitions come in.

  policy = inferring.make(
    flax_policy.make(network, observation_size + 5, action_size),
    context.Encoder(5), observation_size, action_size, length=10,
  )
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax import types
from mbmpo_jax.networks import context as networks
from mbmpo_jax.policies import base
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import latent
from mbmpo_jax.rollouts import history


class Params(NamedTuple):
  """Parameters of the encoder and of the wrapped policy."""

  encoder: types.Params
  policy: types.Params


class Carry(NamedTuple):
  """The memory of N episodes."""

  window: history.Window  # the last steps, [N, W]
  noise: jax.Array  # eps, [N, Z]


def encode(
  encoder: networks.Encoder, params: types.Params, seen: history.Seen
) -> distributions.Gaussian:
  """q(z | c) `[..., Z]`, where c is the window in `seen`."""
  found: Any = encoder.apply(params, *history.transitions(seen))
  return found


def init_encoder(
  encoder: networks.Encoder,
  key: jax.Array,
  observation_size: int,
  action_size: int,
) -> types.Params:
  """Initial parameters of the encoder; consumes the key."""
  window = history.empty(1, observation_size, action_size, length=1)
  seen = history.Seen(jnp.zeros((1, observation_size)), window)
  return encoder.init(key, *history.transitions(seen))


def make(
  policy: base.Policy,
  encoder: networks.Encoder,
  observation_size: int,
  action_size: int,
  *,
  length: int,
) -> base.Policy:
  """The policy with the inferred latent z as an additional input.

  z is inferred again at every step. A greedy action (without noise) uses the
  mean mu(c). `distribution` is the density given the z of the episode's eps.

  Args:
    policy: memoryless, for observations of size O + Z.
    encoder: computes q(z | c).
    observation_size: O.
    action_size: A.
    length: W > 0.

  Example:
    >>> from mbmpo_jax.policies import flax_policy
    >>> from mbmpo_jax.policies import squashed
    >>> inner = flax_policy.make(squashed.Gaussian(2, (8,)), 3 + 4, 2)
    >>> policy = make(inner, networks.Encoder(4, (8,)), 3, 2, length=5)
    >>> params = policy.init(jax.random.PRNGKey(0))
    >>> carry = policy.start(params, jax.random.PRNGKey(1), (), 6)
    >>> carry, action = policy.act(params, carry, jnp.zeros((6, 3)), None)
    >>> action.env.shape, carry.window.obs.shape, carry.noise.shape
    ((6, 2), (6, 5, 3), (6, 4))
  """
  assert policy.distribution is not None and policy.observe is None
  inner_distribution = policy.distribution
  empty = functools.partial(
    history.empty,
    observation_size=observation_size,
    action_size=action_size,
    length=length,
  )

  def init(key: jax.Array) -> Params:
    encoder_key, policy_key = jax.random.split(key)
    return Params(
      init_encoder(encoder, encoder_key, observation_size, action_size),
      policy.init(policy_key),
    )

  def start(params: Params, key: jax.Array, context: Any, num: int) -> Carry:
    del params, context
    noise = jax.random.normal(key, (num, encoder.latent_size), float)
    return Carry(empty(num), noise)

  def with_latent(
    params: Params, carry: Carry, obs: jax.Array, *, greedy: bool = False
  ) -> jax.Array:
    """[s, z], the input of the wrapped policy."""
    seen = history.Seen(obs, carry.window)
    posterior = encode(encoder, params.encoder, seen)
    z = posterior.mean if greedy else posterior.sample(carry.noise)
    return latent.append(obs, z)

  def act(
    params: Params, carry: Carry, obs: jax.Array, noise: Any
  ) -> tuple[Carry, base.Action]:
    seen = with_latent(params, carry, obs, greedy=noise is None)
    _, action = policy.act(params.policy, (), seen, noise)
    return carry, action

  def distribution(params: Params, carry: Carry, obs: jax.Array) -> Any:
    return inner_distribution(
      params.policy, (), with_latent(params, carry, obs)
    )

  def observe(params: Params, carry: Carry, step: base.Experience) -> Carry:
    del params
    window = history.push(carry.window, step.obs, step.action, step.reward)
    return carry._replace(window=window)

  return base.Policy(
    init=init,
    start=start,
    act=act,
    noise=policy.noise,
    distribution=distribution,
    observe=observe,
  )
