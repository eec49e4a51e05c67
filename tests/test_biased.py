"""Models made worse on purpose."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import biased
from mbmpo_jax.models import ensemble
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import statistics
from tests import tiny


def _world(**values: float):
  """An ensemble of 4 members for the point, and what it was made of."""
  section = config_lib.Ensemble(num_models=4, hidden_sizes=(8,), **values)
  dynamics = ensemble.make(envs.make('point'), section)
  return dynamics, dynamics.init(jax.random.PRNGKey(0))


def test_without_bias_nothing_changes() -> None:
  """The very functions, no further array in the state, no random number."""
  dynamics, _ = _world()
  assert dynamics.perturb is None
  assert biased.make(dynamics, num_models=4, bias_max=0.0, noise_std=0.0) is (
    dynamics
  )
  config = tiny.point_config()
  algorithm = algorithms.make('mbmpo', envs.make('point'), config)
  state = jax.eval_shape(
    algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
  )
  assert isinstance(state.model, ensemble.Model)


def test_bias_and_noise_are_what_they_should_be() -> None:
  """A bias for each member and key, the same in all dimensions; then noise."""
  clean, params = _world()
  dynamics, _ = _world(bias_max=0.5, noise_std=0.1)
  blank = statistics.identity(4, 2)
  model, plain = (d.ready(params, blank) for d in (dynamics, clean))
  np.testing.assert_array_equal(model.bias, np.zeros(4))
  draws = np.stack(
    [
      dynamics.perturb(model, key).bias
      for key in jax.random.split(jax.random.PRNGKey(1), 200)
    ]
  )
  assert draws.shape == (200, 4) and np.unique(draws).size > 790
  assert draws.min() >= 0 and draws.max() < 0.5
  # Of U(0, 0.5): mean 0.25, deviation 0.144; 800 draws.
  assert abs(draws.mean() - 0.25) < 4 * 0.144 / math.sqrt(800)
  model = dynamics.perturb(model, jax.random.PRNGKey(2))
  obs = 0.1 * jnp.ones((4000, 2))
  action = jnp.zeros((4000, 2))
  keys = jax.random.split(jax.random.PRNGKey(3), 4)

  def predict(dynamics, model):
    one = lambda model, key: dynamics.predict(model, (), obs, action, key)  # noqa: E731
    return jax.vmap(one)(model, keys)[1].next_obs

  added = np.asarray(predict(dynamics, model) - predict(clean, plain))
  np.testing.assert_allclose(
    added.mean((1, 2)), model.bias, atol=4 * 0.1 / math.sqrt(8000)
  )
  np.testing.assert_allclose(added.std((1, 2)), 0.1, rtol=0.04)
  np.testing.assert_allclose(
    added.mean(1), np.tile(np.asarray(model.bias)[:, None], 2), atol=0.008
  )


@pytest.mark.parametrize('name', ['mbmpo', 'me_trpo', 'mb_mpc'])
def test_algorithms_imagine_in_biased_models(name) -> None:
  """Where the configuration says so."""
  values = {
    'env.name': 'point',
    'collect.episode_length': 30,
    'model.noise_std': 0.1,
  }
  if name != 'mb_mpc':
    values['model_rollouts.horizon'] = 30
  config = config_lib.replaced(algorithms.config(name)(), values)
  algorithm = algorithms.make(name, envs.make('point'), config)
  state = jax.eval_shape(
    algorithm.init, jax.random.PRNGKey(0), base.hyper(config)
  )
  assert isinstance(state.model, biased.Model)


def test_a_fit_draws_a_new_bias_for_each_member() -> None:
  """And what is learned is what would be without it."""
  rng = np.random.default_rng(0)
  data = types.Transition(
    *(
      jnp.asarray(x, jnp.float32)
      for x in (
        rng.normal(size=(50, 2)),
        rng.uniform(-1, 1, size=(50, 2)),
        rng.normal(size=50),
        rng.normal(size=(50, 2)),
        *[np.zeros(50)] * 4,
      )
    )
  )
  fitted, drawn = {}, []
  for bias_max in (0.0, 0.5):
    section = config_lib.Ensemble(
      num_models=4, hidden_sizes=(8,), max_epochs=1, bias_max=bias_max
    )
    env = envs.make('point')
    dynamics, adam = ensemble.make(env, section), optax.adam(1e-3)
    state = fit_lib.init(dynamics, adam, jax.random.PRNGKey(0))
    fit = jax.jit(
      functools.partial(
        fit_lib.fit_dynamics,
        dynamics=dynamics,
        optimizer=adam,
        data=data,
        stored=jnp.ones(50),
        section=section,
        rolling_persistence=0.95,
        model_input=env.model_input,
      )
    )
    for key in jax.random.split(jax.random.PRNGKey(1), 2):
      state, model, _ = fit(state, key=key)
      if bias_max:
        drawn.append(np.asarray(model.bias))
    fitted[bias_max] = state
  jax.tree.map(np.testing.assert_array_equal, *fitted.values())
  assert np.unique(np.stack(drawn)).size == 8
