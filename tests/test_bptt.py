"""Returns inside a model, differentiated through time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import envs
from mbmpo_jax import straight_through
from mbmpo_jax.models import base as models
from mbmpo_jax.objectives import bptt
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.policies import latent
from mbmpo_jax.policies import rbf
from tests import test_neural_process as tests

KEY = jax.random.PRNGKey(11)
HORIZON, PARTICLES = 5, 3


def doubled(tree):
  return jax.tree.map(lambda x: x.astype(float), tree)


def world(kind: str):
  """A model of the cart-pole, a policy in it, and where particles start."""
  made, params = tests.make(kind)
  model, context = tests.ready(made, params), tests.points(5, 7)
  features = tests.env().model_input
  if made.encode is None:
    policy, told = rbf.make(4, 1, num_units=4, features=features), ()
  else:
    inner = rbf.make(5 + 3, 1, num_units=4)
    policy = latent.conditioned(inner, 3, features=features)
    encode = jax.jit(made.encode)
    told = encode(model, context, jax.random.PRNGKey(3)).sample
  theta = doubled(jax.jit(policy.init)(jax.random.PRNGKey(4)))
  start = np.random.default_rng(5).normal(0, 0.3, (PARTICLES, 4))
  return made.dynamics, model, context, policy, theta, told, jnp.asarray(start)


def objective(kind: str, function=bptt.value):
  dynamics, model, context, policy, theta, told, start = world(kind)

  def value(theta, told):
    return function(
      policy,
      theta,
      dynamics,
      model,
      KEY,
      start,
      horizon=HORIZON,
      reward_fn=tests.env().reward,
      discount=0.9,
      context=context,
      policy_context=told,
    )

  return value, theta, told


_GRAPH = pytest.param('graph', marks=pytest.mark.slow)


@pytest.mark.parametrize('kind', [_GRAPH, 'attentive', 'dropout'])
def test_the_gradient_is_that_of_finite_differences(kind, x64):
  """Through 5 imagined steps: policy, model, latents and reward."""
  value, theta, told = objective(kind)
  value = jax.jit(value)
  grads = jax.jit(jax.grad(value, argnums=(0, 1)))(theta, told)
  leaves, tree = jax.tree.flatten((theta, told))
  rng, h = np.random.default_rng(6), 1e-5
  for _ in range(2):
    way = [rng.normal(size=leaf.shape) for leaf in leaves]
    slope = sum(
      np.vdot(g, w) for g, w in zip(jax.tree.leaves(grads), way, strict=True)
    )
    ahead, behind = (
      value(
        *tree.unflatten([x + s * w for x, w in zip(leaves, way, strict=True)])
      )
      for s in (h, -h)
    )
    assert abs(slope) > 1e-3
    np.testing.assert_allclose(slope, (ahead - behind) / (2 * h), rtol=1e-5)


@pytest.mark.parametrize('kind', [_GRAPH, 'attentive'])
def test_particles_on_their_own_have_the_same_gradient(kind, x64):
  value, theta, told = objective(kind)
  expected, slope = jax.jit(jax.value_and_grad(value))(theta, told)
  each, *_ = objective(kind, bptt.gradient)
  grads, info = jax.jit(each)(theta, told)
  np.testing.assert_allclose(info.value, expected, rtol=1e-10)
  assert info.rejected == 0
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12),
    grads,
    slope,
  )


# A world of one number that an action moves: s' = s + a.


def shift(next_obs=lambda obs, action: obs + action) -> models.Dynamics:
  return models.Dynamics(
    init=lambda key: (),
    ready=lambda params, statistics: (),
    start=lambda model, key, context, num: (),
    predict=lambda model, carry, obs, action, key: (
      carry,
      models.Prediction(next_obs(obs, action)),
    ),
    loss=lambda params, inputs, targets, weight, key: jnp.zeros(()),
  )


def constant(kind: str) -> policies.Policy:
  """One action, whatever is observed: the parameter."""

  def distribution(theta, obs):
    mean = jnp.broadcast_to(theta, obs.shape)
    if kind == 'deterministic':
      return distributions.Deterministic(mean)
    if kind == 'categorical':
      return distributions.Categorical(mean)
    make = dict(
      gaussian=distributions.Gaussian, tanh=distributions.TanhGaussian
    )[kind]
    return make(mean, jnp.full_like(mean, -20.0))

  return policies.memoryless(
    lambda key: jnp.zeros(1),
    distribution,
    noise=functools.partial(distributions.normal_noise, action_size=1),
  )


def shifted(kind, theta, start, function=bptt.value, **kwargs):
  fields = dict(
    horizon=3, reward_fn=lambda obs, action, next_obs: next_obs[..., 0]
  )
  return function(
    constant(kind),
    theta,
    kwargs.pop('dynamics', shift()),
    (),
    KEY,
    jnp.asarray(start),
    **(fields | kwargs),
  )


START = np.asarray([[0.0], [10.0]])


@pytest.mark.parametrize(
  ('kind', 'slope'),
  [('gaussian', 1.0), ('deterministic', 1.0), ('tanh', 1 - np.tanh(3.0) ** 2)],
)
def test_clips_of_actions_let_gradients_through(kind, slope, x64):
  """3 is clipped to 1; sum of gamma^t (s_0 + (t + 1) a), and its slope."""
  theta = jnp.asarray([3.0])
  value, grad = jax.value_and_grad(
    lambda theta: shifted(kind, theta, START, discount=0.5)
  )(theta)
  weight = 1 + 0.5 * 2 + 0.25 * 3
  action = np.tanh(3.0) if kind == 'tanh' else 1.0
  np.testing.assert_allclose(value, 5 * 1.75 + weight * action, rtol=1e-6)
  np.testing.assert_allclose(grad, [weight * slope], rtol=1e-6)


def test_the_clip_itself():
  x = jnp.asarray([-3.0, 0.5, 3.0])
  low = jnp.asarray([-1.0, -1, -1])
  value, (by_x, by_low) = jax.value_and_grad(
    lambda x, low: jnp.sum(straight_through.clip(x, low, 1.0) ** 2), (0, 1)
  )(x, low)
  np.testing.assert_allclose(value, 2.25)
  np.testing.assert_allclose(by_x, [-2, 1, 2])
  np.testing.assert_array_equal(by_low, np.zeros(3))


@pytest.mark.parametrize(
  ('name', 'variant', 'beyond'),
  [
    ('hopper', None, 10.5),
    ('walker2d', None, -10.5),
    ('acrobot', None, 40.0),
    ('pendulum', 'benchmark', 9.0),
  ],
)
def test_projections_let_gradients_through_what_they_clip(
  name, variant, beyond
):
  """A velocity, last in the observation, beyond its limit."""
  env = envs.make(name, variant)
  obs = jax.random.normal(KEY, (env.observation_size,)).at[-1].set(beyond)
  value, slope = jax.jvp(
    env.project, (obs,), (jnp.zeros_like(obs).at[-1].set(1.0),)
  )
  assert abs(float(value[-1])) < abs(beyond)
  np.testing.assert_allclose(slope[-1], 1.0)


def test_nothing_is_earned_after_an_end():
  """The first particle ends at 2, which still counts."""
  each = shifted(
    'deterministic',
    jnp.asarray([1.0]),
    START,
    function=bptt.returns,
    done_fn=lambda next_obs: (next_obs[..., 0] == 2).astype(float),
  )
  np.testing.assert_allclose(each, [1 + 2, 11 + 12 + 13])


def test_a_particle_that_diverges_is_left_out():
  """Its value, and its gradient where only that is not finite."""

  def step(obs, action):
    # At 0 a root has an infinite slope.
    return obs + action + 0 * jnp.sqrt(jnp.abs(obs))

  @jax.jit
  def outcome(start):
    return shifted(
      'deterministic',
      jnp.asarray([0.5]),
      start,
      function=bptt.gradient,
      dynamics=shift(step),
    )

  start = np.asarray([[4.0], [np.nan], [-0.5], [6.0]])
  grads, info = outcome(start)
  assert info.rejected == 2
  np.testing.assert_allclose(info.value, 5 * 3 + 0.5 * 6)
  np.testing.assert_allclose(grads, [6.0])
  grads, info = outcome(start[1:3])
  assert info.rejected == 2 and info.value == 0 and grads == 0


def test_choices_and_planners_are_refused():
  with pytest.raises(ValueError, match='its actions are discrete'):
    shifted('categorical', jnp.asarray([1.0]), START)
  planner = constant('gaussian')._replace(distribution=None)
  with pytest.raises(ValueError, match='has no distribution'):
    bptt.passing(planner, jnp.zeros(1), START, ())
