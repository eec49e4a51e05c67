"""The models that infer a task, beside an independent NumPy version."""

import functools
import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.models import dropout
from mbmpo_jax.models import normalizer
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models import targets
from mbmpo_jax.models.neural_process import config
from mbmpo_jax.models.neural_process import graph
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate

_CONFIGS = pathlib.Path(__file__).parents[1] / 'experiments/configs/gssm'
ENCODERS = ('graph', 'mean', 'attentive')
OBS, ACT, IN, OUT = 4, 1, 6, 4  # of the cart-pole; its angle is two inputs


def section(kind: str = 'graph', **fields) -> config.Surrogate:
  small = dict(
    encoder_sizes=(6, 5),
    feature_size=4,
    latent_size=3,
    decoder_sizes=(8, 7),
    beta=3.0,
  )
  return config.Surrogate(kind=kind, **(small | fields))


@functools.cache
def env() -> envs.Environment:
  return envs.make('cartpole_swingup')


@functools.cache
def _made(kind: str, **fields) -> surrogate.Surrogate:
  return surrogate.make(env(), section(kind, **fields))


def make(kind: str, **fields):
  """A surrogate and a member's parameters, all of them random; biases too."""
  made = _made(kind, **fields)
  shapes = jax.eval_shape(made.dynamics.init, jax.random.PRNGKey(0))
  rng = np.random.default_rng(0)
  return made, jax.tree.map(
    lambda x: jnp.asarray(rng.normal(0, 0.5, x.shape[1:]), float), shapes
  )


@functools.partial(jax.jit, static_argnums=0, static_argnames='method')
def apply(net, params, *args, method):
  """A network's method, compiled once for all tests."""
  return net.apply(params, *args, method=method)


def start(made, model, context, num, key=None):
  """The memory of `num` rollouts."""
  key = jax.random.PRNGKey(0) if key is None else key
  begin = jax.jit(made.dynamics.start, static_argnums=3)
  return begin(model, key, context, num)


def predict(made, model, carry, obs, action, key):
  """The memory after, and the next observation."""
  after, predicted = jax.jit(made.dynamics.predict)(
    model, carry, obs, action, key
  )
  return after, predicted.next_obs


def network(kind: str, **fields):
  _, params = make(kind, **fields)
  return surrogate.make_network(section(kind, **fields), OUT), params


def points(count: int, room: int, seed: int = 1) -> sets.Points:
  rng = np.random.default_rng(seed)
  x, y = rng.normal(size=(room, IN)), rng.normal(size=(room, OUT))
  mask = (np.arange(room) < count).astype(float)
  return sets.Points(jnp.asarray(x), jnp.asarray(y), jnp.asarray(mask))


def statistics(seed: int = 2) -> statistics_lib.Statistics:
  rng = np.random.default_rng(seed)
  return statistics_lib.Statistics(
    normalizer.Moments(*map(jnp.asarray, rng.uniform(0.5, 2, (2, IN)))),
    normalizer.Moments(*map(jnp.asarray, rng.uniform(0.5, 2, (2, OUT)))),
    -50 * jnp.ones(OUT),
    50 * jnp.ones(OUT),
  )


def ready(made: surrogate.Surrogate, params) -> dropout.Model:
  """One member's model."""
  members = jax.tree.map(lambda x: x[None], params)
  model = jax.jit(made.dynamics.ready)(members, statistics())
  return jax.tree.map(lambda x: x[0], model)


# The reference: loops over points, live ones picked out instead of masked.


def dense(layer, x):
  kernel, bias = layer['kernel'], layer.get('bias', 0)
  return np.asarray(x) @ np.asarray(kernel) + np.asarray(bias)


def mlp(layers, x, last_relu=False):
  for index in range(len(layers)):
    x = dense(layers[f'Dense_{index}'], x)
    if index < len(layers) - 1 or last_relu:
      x = np.maximum(x, 0)
  return x


def alive(context):
  live = np.asarray(context.mask) > 0
  return np.asarray(context.x)[live], np.asarray(context.y)[live]


def softmax(scores):
  weights = [np.exp(s - max(scores)) for s in scores]
  return [w / sum(weights) for w in weights]


def cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def head(p, r, size=3, floor=0.1):
  out = dense(p['head']['Dense_0'], r)
  std = floor + (1 - floor) / (1 + np.exp(-out[..., size:]))
  return out[..., :size], np.log(std)


def output(p, inputs, floor=0.01):
  out = mlp(p['output']['MLP_0'], inputs)
  return out[..., :OUT], np.log(floor + np.log1p(np.exp(out[..., OUT:])))


def reference_graph(p, context, beta):
  """Features, h_i and r_c, by equations 5 and 6."""
  x, y = alive(context)
  features = [dense(p['features'], xi) for xi in x]
  values = [
    np.concatenate([t, mlp(p['point']['MLP_0'], np.r_[xi, yi], True)])
    for t, xi, yi in zip(features, x, y, strict=True)
  ]
  weight = [
    softmax([beta * cosine(ti, tj) for tj in features]) for ti in features
  ]
  count = range(len(x))
  kernel = np.asarray(p['layer']['kernel'])
  h = [
    np.maximum(
      values[i] @ kernel
      + sum(weight[i][j] * (values[j] @ kernel) for j in count),
      0,
    )
    for i in count
  ]
  r = [sum(weight[i][j] * h[j] for j in count) for i in count]
  return features, h, sum(r) / len(r)


def reference_target(p, context, x, beta):
  """r_* of equation 7."""
  features, h, _ = reference_graph(p, context, beta)
  own = dense(p['features'], x)
  weight = softmax([beta * cosine(own, t) for t in features])
  return sum(w * hi for w, hi in zip(weight, h, strict=True))


def reference_mean(p, *contexts):
  """The pooled encodings of all points of some sets."""
  read = [
    mlp(p['point']['MLP_0'], np.r_[x, y], True)
    for context in contexts
    for x, y in zip(*alive(context), strict=True)
  ]
  return sum(read) / len(read)


def reference_attention(p, context, x):
  """r_* of MLSM-v1: values of the context, weighted for a target."""
  keys = [dense(p['features'], xi) for xi in alive(context)[0]]
  values = [
    dense(p['local_value'], mlp(p['local_point']['MLP_0'], np.r_[xi, yi], True))
    for xi, yi in zip(*alive(context), strict=True)
  ]
  query = dense(p['features'], x)
  weight = softmax([query @ key / np.sqrt(len(query)) for key in keys])
  return sum(w * value for w, value in zip(weight, values, strict=True))


def test_messages_between_context_points(x64):
  """Equations 5 and 6, over 5 of 7 rows."""
  net, params = network('graph')
  context = points(5, 7)
  encoding = apply(net, params, context, method='encode')
  _, h, r_c = reference_graph(params['params'], context, 3.0)
  np.testing.assert_allclose(encoding.memory.nodes[:5], h, rtol=1e-10)
  expected = head(params['params'], r_c)
  np.testing.assert_allclose(encoding.latent.mean, expected[0], rtol=1e-10)
  np.testing.assert_allclose(encoding.latent.log_std, expected[1], rtol=1e-10)


def test_messages_to_the_targets(x64):
  """Equation 7, and what is decoded of it."""
  net, params = network('graph')
  context, targets = points(5, 7), points(4, 4, seed=5)
  encoding = apply(net, params, context, method='encode')
  latent = apply(net, params, encoding, targets.x, method='latent')
  p = params['params']
  for t, x in enumerate(np.asarray(targets.x)):
    expected = head(p, reference_target(p, context, x, 3.0))
    np.testing.assert_allclose(latent.mean[t], expected[0], rtol=1e-10)
    np.testing.assert_allclose(latent.log_std[t], expected[1], rtol=1e-10)
  density = apply(
    net, params, encoding, targets.x, latent.mean, method='decode'
  )
  joined = np.concatenate([targets.x, latent.mean], -1)
  expected = output(p, joined)
  np.testing.assert_allclose(density.mean, expected[0], rtol=1e-10)
  np.testing.assert_allclose(density.log_std, expected[1], rtol=1e-10)


def test_without_sharpness_messages_are_means(x64):
  """At beta 0 z_* does not depend on the target, and is z_c."""
  net, params = network('graph', beta=0.0)
  context, targets = points(5, 7), points(4, 4, seed=5)
  encoding = apply(net, params, context, method='encode')
  p, (x, y) = params['params'], alive(context)
  features = dense(p['features'], x)
  read = mlp(p['point']['MLP_0'], np.c_[x, y], True)
  message = np.c_[features, read] @ np.asarray(p['layer']['kernel'])
  h = np.maximum(message + message.mean(0), 0)
  np.testing.assert_allclose(encoding.memory.nodes[:5], h, rtol=1e-10)
  latent = apply(net, params, encoding, targets.x, method='latent')
  for mean in (encoding.latent.mean, *latent.mean):
    np.testing.assert_allclose(mean, head(p, h.mean(0))[0], rtol=1e-10)


def test_a_context_of_one_point_is_its_own_neighbour(x64):
  net, params = network('graph')
  context, targets = points(1, 7), points(4, 4, seed=5)
  encoding = apply(net, params, context, method='encode')
  p, (x, y) = params['params'], alive(context)
  value = np.r_[
    dense(p['features'], x[0]),
    mlp(p['point']['MLP_0'], np.r_[x[0], y[0]], True),
  ]
  h = np.maximum(2 * value @ np.asarray(p['layer']['kernel']), 0)
  latent = apply(net, params, encoding, targets.x, method='latent')
  for mean in (encoding.latent.mean, *latent.mean):
    np.testing.assert_allclose(mean, head(p, h)[0], rtol=1e-10)


def test_a_neural_process_pools_what_it_reads(x64):
  """Its posterior sees the targets as well."""
  net, params = network('mean')
  context, targets = points(5, 7), points(3, 4, seed=5)
  encoding = apply(net, params, context, method='encode')
  p = params['params']
  expected = head(p, reference_mean(p, context))
  np.testing.assert_allclose(encoding.latent.mean, expected[0], rtol=1e-10)
  np.testing.assert_allclose(encoding.latent.log_std, expected[1], rtol=1e-10)
  posterior = apply(net, params, encoding, context, targets, method='posterior')
  expected = head(p, reference_mean(p, context, targets))
  np.testing.assert_allclose(posterior.mean[0], expected[0], rtol=1e-10)
  latent = apply(net, params, encoding, targets.x, method='latent')
  np.testing.assert_array_equal(latent.mean, encoding.latent.mean[None])


def test_the_attentive_one_weighs_the_context_for_every_target(x64):
  net, params = network('attentive')
  context, targets = points(5, 7), points(4, 4, seed=5)
  encoding = apply(net, params, context, method='encode')
  z = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1, 3)))
  density = apply(net, params, encoding, targets.x, z, method='decode')
  p = params['params']
  for t, x in enumerate(np.asarray(targets.x)):
    r = reference_attention(p, context, x)
    for k in range(2):
      expected = output(p, np.r_[x, z[k, 0], r])
      np.testing.assert_allclose(density.mean[k, t], expected[0], rtol=1e-10)
      np.testing.assert_allclose(density.log_std[k, t], expected[1], rtol=1e-10)


@pytest.mark.parametrize('kind', ENCODERS)
def test_neither_order_nor_padding_matters(kind, x64):
  """Values and gradients, with NaN in the padding."""
  net, params = network(kind)
  x, targets = points(3, 3, seed=5).x, points(4, 4, seed=6)
  context = points(5, 5)

  @jax.jit
  def outcome(params, context):
    encoding = apply(net, params, context, method='encode')
    args = encoding, context, targets
    posterior = apply(net, params, *args, method='posterior')
    latent = apply(net, params, encoding, x, method='latent')
    density = apply(net, params, encoding, x, latent.mean, method='decode')
    return encoding.latent, posterior, density

  def total(params, context):
    leaves = jax.tree.leaves(outcome(params, context))
    return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

  order = np.asarray([3, 0, 4, 2, 1])
  moved = sets.pad(sets.Points(*(leaf[order] for leaf in context)), 9)
  dead = moved.mask == 0
  moved = moved._replace(
    x=jnp.where(dead[:, None], jnp.nan, moved.x),
    y=jnp.where(dead[:, None], jnp.inf, moved.y),
  )
  for function in (outcome, jax.jit(jax.grad(total))):
    jax.tree.map(
      functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12),
      function(params, moved),
      function(params, sets.pad(context, 9)),
    )


@pytest.mark.parametrize('kind', ENCODERS)
def test_an_empty_context_is_a_task_of_which_nothing_is_known(kind, x64):
  net, params = network(kind)

  def total(params):
    encoding = apply(net, params, sets.empty(5, IN, OUT), method='encode')
    latent = apply(net, params, encoding, jnp.ones((2, IN)), method='latent')
    args = encoding, jnp.ones((2, IN)), latent.mean
    density = apply(net, params, *args, method='decode')
    return jnp.sum(density.mean) + jnp.sum(encoding.latent.mean), encoding

  grads, encoding = jax.jit(jax.grad(total, has_aux=True))(params)
  bias = params['params']['head']['Dense_0']['bias']
  np.testing.assert_allclose(encoding.latent.mean, bias[:3])
  assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


@pytest.mark.parametrize('kind', ENCODERS)
def test_the_number_of_points_is_no_shape(kind):
  net, params = network(kind)
  encode = jax.jit(lambda points: net.apply(params, points, method='encode'))
  latents = [encode(points(count, 7)).latent.mean for count in (0, 3, 7)]
  assert encode._cache_size() == 1
  assert not np.allclose(latents[1], latents[2])


@pytest.mark.parametrize(
  ('kind', 'target'),
  [
    ('graph', 'delta'),
    ('graph', 'next'),
    ('mean', 'delta'),
    ('attentive', 'delta'),
  ],
)
def test_a_prediction_draws_the_latent_and_has_units(kind, target, x64):
  """Equation 11, where z is of a target; neural processes drew it before."""
  made, params = make(kind, target=target)
  model, p = ready(made, params), params['params']
  context = points(5, 7)
  obs = jnp.asarray(np.random.default_rng(3).normal(size=(2, OBS)))
  action = jnp.asarray([[0.3], [-1.0]])
  key = jax.random.PRNGKey(4)
  carry = start(made, model, context, 2)
  after, next_obs = predict(made, model, carry, obs, action, key)
  jax.tree.map(np.testing.assert_array_equal, after, carry)

  inputs, outputs = jax.tree.map(np.asarray, statistics()[:2])
  seen = context._replace(
    x=(context.x - inputs.mean[None]) / inputs.std[None],
    y=(context.y - outputs.mean[None]) / outputs.std[None],
  )
  x = np.c_[obs[:, :2], np.sin(obs[:, 2]), np.cos(obs[:, 2]), obs[:, 3], action]
  x = (x - inputs.mean) / inputs.std
  at_start = jax.random.normal(jax.random.PRNGKey(0), (2, 3))
  at_step = jax.random.normal(jax.random.split(key)[0], (2, 3))
  for n in range(2):
    read = (
      reference_target(p, seen, x[n], 3.0)
      if kind == 'graph'
      else (reference_mean(p, seen))
    )
    mean, log_std = head(p, read)
    noise = at_step if kind == 'graph' else at_start
    z = mean + np.exp(log_std) * np.asarray(noise[n])
    local = reference_attention(p, seen, x[n]) if kind == 'attentive' else []
    y = outputs.mean + outputs.std * output(p, np.r_[x[n], z, local])[0]
    expected = obs[n] + y if target == 'delta' else y
    np.testing.assert_allclose(next_obs[n], expected, rtol=1e-9)


def test_a_prediction_stays_within_bounds_and_shows_what_is_not_finite():
  made, params = make('graph')
  model = ready(made, params)
  tight = model.statistics._replace(low=jnp.zeros(OUT), high=jnp.ones(OUT))
  model = model._replace(statistics=tight)
  carry = start(made, model, points(5, 7), 2)

  @jax.jit
  def next_obs(obs, key):
    action = jnp.zeros((2, ACT))
    return made.dynamics.predict(model, carry, obs, action, key)[1].next_obs

  obs = jnp.asarray([[9.0, -9, 0.1, 0], [jnp.nan, 0, 0, 0]])
  first = next_obs(obs, jax.random.PRNGKey(0))
  assert first[0, 0] == 1 and first[0, 1] == 0
  assert np.isnan(first[1]).all()
  # The clip lets the gradient through.
  grad = jax.jit(jax.grad(lambda obs, key: next_obs(obs, key)[0, 0]))
  assert abs(grad(obs, jax.random.PRNGKey(0))[0, 0]) > 0.1


def test_an_infinite_output_does_not_pass_for_a_sound_one():
  y = jnp.asarray([[jnp.inf, 0.0, -jnp.inf, 1.0]])
  after = targets.next_obs(
    y, jnp.zeros((1, OUT)), statistics_lib.identity(IN, OUT), kind='delta'
  )
  np.testing.assert_array_equal(after, [[np.nan, 0, np.nan, 1]])


@pytest.mark.parametrize('kind', ENCODERS)
def test_a_rollout_lives_in_one_task(kind):
  """A neural process draws z once per rollout, GSSM at every step."""
  made, params = make(kind)
  model, context = ready(made, params), points(5, 7)
  obs, action = jnp.ones((3, OBS)), jnp.ones((3, ACT))

  def outcome(start_key, key):
    start_key, key = jax.random.PRNGKey(start_key), jax.random.PRNGKey(key)
    carry = start(made, model, context, 3, start_key)
    return np.asarray(predict(made, model, carry, obs, action, key)[1])

  first = outcome(0, 0)
  assert len({row.tobytes() for row in first}) == 3
  per_step = kind == 'graph'
  assert np.array_equal(first, outcome(0, 1)) != per_step
  assert np.array_equal(first, outcome(1, 0)) == per_step


def test_outputs_may_be_drawn(x64):
  """Around the mean, with the decoder's deviation."""
  noisy, params = make('mean', sample_output=True)
  plain, _ = make('mean')
  model, context = ready(plain, params), points(5, 7)
  obs, action = jnp.ones((1, OBS)), jnp.ones((1, ACT))
  carry = start(plain, model, context, 1)
  key = jax.random.PRNGKey(7)
  means, drawn = (
    predict(made, model, carry, obs, action, key)[1] for made in (plain, noisy)
  )
  x = env().model_input(obs)
  inputs, outputs = statistics()[:2]
  x = (np.c_[x, action] - np.asarray(inputs.mean)) / np.asarray(inputs.std)
  _, log_std = output(params['params'], np.c_[x, carry.z])
  noise = jax.random.normal(jax.random.split(key)[1], (1, OUT))
  np.testing.assert_allclose(
    drawn - means, np.exp(log_std) * noise * outputs.std[None], rtol=1e-9
  )


@pytest.mark.parametrize('kind', ENCODERS)
def test_a_latent_for_the_policy(kind, x64):
  """q(z_c) of a context as it was observed, and a draw from it."""
  made, params = make(kind)
  model, context = ready(made, params), points(5, 7)
  key = jax.random.PRNGKey(3)
  latent = jax.jit(made.encode)(model, context, key)
  net = surrogate.make_network(section(kind), OUT)
  standard = sets.standardize(context, statistics())
  expected = apply(net, params, standard, method='encode').latent
  np.testing.assert_allclose(latent.mean, expected.mean, rtol=1e-10)
  np.testing.assert_allclose(latent.log_std, expected.log_std, rtol=1e-10)
  noise = jax.random.normal(key, (3,))
  np.testing.assert_allclose(
    latent.sample, latent.mean + jnp.exp(latent.log_std) * noise, rtol=1e-10
  )


def test_dropout_masks_are_those_of_a_particle(x64):
  """The same over a rollout, others in other particles; nothing else draws."""
  made, params = make('dropout', dropout_rate=0.4)
  assert made.encode is None
  model = ready(made, params)
  carry = start(made, model, (), 5)
  assert [mask.shape for mask in carry] == [(5, 8), (5, 7)]
  for mask in carry:
    assert set(np.unique(mask).round(9)) == {0.0, round(1 / 0.6, 9)}
  obs, action = jnp.ones((5, OBS)), jnp.ones((5, ACT))
  steps = []
  for seed in range(2):
    key = jax.random.PRNGKey(seed)
    after, next_obs = predict(made, model, carry, obs, action, key)
    jax.tree.map(np.testing.assert_array_equal, after, carry)
    steps.append(np.asarray(next_obs))
  np.testing.assert_array_equal(*steps)
  assert len({row.tobytes() for row in steps[0]}) > 2
  p = params['params']
  inputs, outputs = jax.tree.map(np.asarray, statistics()[:2])
  x = np.c_[env().model_input(obs), action]
  hidden = (x - inputs.mean) / inputs.std
  for index, mask in enumerate(carry):
    hidden = dense(p[f'Dense_{index}'], hidden)
    hidden = np.maximum(hidden, 0) * np.asarray(mask)
  y = outputs.mean + outputs.std * dense(p['Dense_2'], hidden)[:, :OUT]
  np.testing.assert_allclose(steps[0], obs + y, rtol=1e-9)


@pytest.mark.parametrize('rate', [0.0, 0.4])
def test_dropout_learns_by_likelihood(rate, x64):
  """Of context and targets alike; every row has its own masks."""
  made, params = make('dropout', dropout_rate=rate)
  context, targets = points(5, 7), points(4, 4, seed=5)
  key = jax.random.PRNGKey(0)
  loss, info = jax.jit(made.loss)(params, context, targets, key)
  masks = [np.asarray(x) for x in dropout.draw_masks(key, 11, (8, 7), rate)]
  # Row n of the masks is that of row n of the padded points.
  rows = [*range(5), *range(7, 11)]
  p, terms = params['params'], []
  both = (*zip(*alive(context)), *zip(*alive(targets)))  # noqa: B905
  for n, (x, y) in zip(rows, both, strict=True):
    hidden = x
    for index, mask in enumerate(masks):
      hidden = np.maximum(dense(p[f'Dense_{index}'], hidden), 0) * mask[n]
    out = dense(p['Dense_2'], hidden)
    std = 0.01 + np.log1p(np.exp(out[OUT:]))
    terms.append(
      np.sum(
        0.5 * ((y - out[:OUT]) / std) ** 2
        + np.log(std)
        + 0.5 * np.log(2 * np.pi)
      )
    )
  np.testing.assert_allclose(loss, np.mean(terms), rtol=1e-10)
  np.testing.assert_allclose(info.nll, loss)
  assert info.kl == 0


@pytest.mark.parametrize('kind', [*ENCODERS, 'dropout'])
def test_the_contracts_loss_is_of_rows_of_one_task(kind):
  """What is at weight 0 may hold anything."""
  made, params = make(kind)
  data = points(6, 9)
  weight = data.mask / 6

  @jax.jit
  def value(data):
    key = jax.random.PRNGKey(0)
    return made.dynamics.loss(params, data.x, data.y, weight, key)

  first = value(data)
  assert np.isfinite(first)
  if kind != 'dropout':  # That one follows `Dynamics`: weights, no mask.
    spoilt = data._replace(x=data.x.at[7].set(jnp.nan))
    np.testing.assert_array_equal(value(spoilt), first)


def test_points_of_transitions():
  rows = np.arange(12.0).reshape(3, 4)
  data = types.Transition(
    obs=jnp.asarray(rows),
    action=jnp.ones((3, 1)),
    reward=jnp.zeros(3),
    next_obs=jnp.asarray(rows + 0.5).at[1, 0].set(jnp.nan),
    terminated=jnp.zeros(3),
    truncated=jnp.zeros(3),
    episode=jnp.zeros(3, jnp.int32),
    time=jnp.zeros(3, jnp.int32),
  )
  of = functools.partial(
    sets.of_transitions, data, jnp.asarray([1.0, 1.0, 0.0])
  )
  delta = of(model_input=lambda obs: obs[..., :2], target='delta')
  np.testing.assert_array_equal(delta.x[:, :2], rows[:, :2])
  assert delta.x.shape == (3, 3)
  np.testing.assert_array_equal(delta.y[0], [0.5] * 4)
  np.testing.assert_array_equal(delta.mask, [1, 0, 0])
  after = of(model_input=lambda obs: obs, target='next')
  np.testing.assert_array_equal(after.y[0], rows[0] + 0.5)
  with pytest.raises(ValueError, match="kind='deltas': must be one of"):
    of(model_input=lambda obs: obs, target='deltas')


def test_moments_are_a_choice_and_bounds_are_not():
  data = points(6, 9)
  next_obs = data.y + 1
  fitted, plain = (
    surrogate.statistics(data, next_obs, section(standardize=flag))
    for flag in (True, False)
  )
  np.testing.assert_allclose(
    fitted.inputs.mean, np.mean(alive(data)[0], 0), rtol=1e-5
  )
  np.testing.assert_array_equal(plain.inputs.mean, np.zeros(IN))
  np.testing.assert_array_equal(plain.targets.std, np.ones(OUT))
  np.testing.assert_array_equal(plain.high, fitted.high)
  assert np.all(plain.high < 10)


def test_what_does_not_fit_is_refused():
  with pytest.raises(ValueError, match='7 rows: must have at most 5'):
    sets.pad(points(3, 7), 5)
  with pytest.raises(ValueError, match="kind='dropout': must be one of"):
    surrogate.make_network(section('dropout'), OUT)
  with pytest.raises(config_lib.ConfigError, match='min_context=9: must be <='):
    config.Surrogate(min_context=9, context_size=8).check()


def test_sizes_are_those_of_the_paper():
  """Table 4: 2 layers of 32, latent 16, decoder 2 x 200 on the cart-pole."""
  made = surrogate.make(env(), config.Surrogate())
  shapes = jax.eval_shape(made.dynamics.init, jax.random.PRNGKey(0))['params']
  decoder = shapes['output']['MLP_0']
  assert [decoder[f'Dense_{i}']['kernel'].shape[1:] for i in range(3)] == [
    (IN + 16, 200),
    (200, 200),
    (200, 2 * OUT),
  ]
  assert shapes['head']['Dense_0']['kernel'].shape == (1, 64, 32)
  assert graph.Graph(config.Surrogate(), 4).per_target


@pytest.mark.parametrize(
  ('name', 'decoder', 'target', 'context', 'every', 'horizon'),
  [
    ('cartpole_swingup', (200, 200), 'delta', 50, 1, 25),
    ('acrobot', (400,) * 5, 'next', 50, 3, 200),
    ('half_cheetah_mass_damping', (400,) * 5, 'delta', 500, 2, 1000),
    ('slim_humanoid', (400,) * 5, 'delta', 500, 2, 1000),
  ],
)
def test_presets_have_the_sizes_of_tables_4_and_5(
  name, decoder, target, context, every, horizon
):
  """The cart-pole has a new task in every iteration, not in every tenth."""
  preset = runpy.run_path(str(_CONFIGS / f'{name}.py'))['get_config']()
  model = preset.model
  assert (model.encoder_sizes, model.feature_size) == ((32, 32), 32)
  assert (model.latent_size, model.decoder_sizes) == (16, decoder)
  assert (model.target, model.context_size) == (target, context)
  assert preset.collect.task_every == every
  assert preset.model_rollouts.horizon == horizon
  if name == 'cartpole_swingup':
    assert (preset.improve.kind, preset.policy.num_units) == ('bptt', 50)
  else:
    assert (preset.improve.kind, preset.policy.hidden_sizes) == ('ppo', (128,))
