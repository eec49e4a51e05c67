"""Distributions over actions, against SciPy and against their own samples."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from mbmpo_jax.policies import distributions


def squashed(mean=0.4, std=0.7) -> distributions.TanhGaussian:
  return distributions.TanhGaussian(
    jnp.asarray([[mean]]), jnp.log(jnp.asarray([[std]]))
  )


def density(action: float, mean: float, std: float) -> float:
  """Of tanh of a normal number, by the change of variables."""
  raw = np.arctanh(action)
  return scipy.stats.norm(mean, std).pdf(raw) / (1 - action**2)


@pytest.mark.parametrize(('mean', 'std'), [(0.4, 0.7), (-1.5, 0.3), (0.0, 2.0)])
def test_squashed_density_is_of_the_action(x64, mean, std):
  dist = squashed(mean, std)
  for action in (-0.999, -0.3, 0.0, 0.8):
    raw = jnp.asarray([[np.arctanh(action)]])
    np.testing.assert_allclose(
      dist.log_prob(raw)[0], np.log(density(action, mean, std)), rtol=1e-9
    )
    np.testing.assert_allclose(dist.to_env(raw)[0, 0], action, rtol=1e-12)


def test_squashed_density_far_out_stays_finite():
  """1 - tanh(20)^2 is 0 in single precision; its logarithm is -38.6."""
  dist = distributions.TanhGaussian(jnp.full((1, 1), 20.0), jnp.zeros((1, 1)))
  exact = -0.5 * np.log(2 * np.pi) - (np.log(4) - 40)
  np.testing.assert_allclose(
    dist.log_prob(jnp.full((1, 1), 20.0))[0], exact, rtol=1e-6
  )


@pytest.mark.parametrize(('mean', 'std'), [(0.4, 0.7), (-1.5, 0.3), (0.0, 2.0)])
def test_squashed_entropy_is_the_integral(x64, mean, std):
  def integrand(raw):
    p = scipy.stats.norm(mean, std)
    log_slope = 2 * (np.log(2) - raw - np.logaddexp(0, -2 * raw))
    return -p.pdf(raw) * (p.logpdf(raw) - log_slope)

  exact, _ = scipy.integrate.quad(
    integrand, mean - 9 * std, mean + 9 * std, epsabs=1e-10
  )
  np.testing.assert_allclose(squashed(mean, std).entropy()[0], exact, atol=2e-3)


def test_squashed_kl_is_the_mean_log_ratio():
  old, new = squashed(0.4, 0.7), squashed(0.1, 0.9)
  raw = old.sample(jax.random.normal(jax.random.PRNGKey(0), (200_000, 1)))
  ratio = old.log_prob(raw) - new.log_prob(raw)
  np.testing.assert_allclose(old.kl(new)[0], np.mean(ratio), atol=3e-3)


@pytest.mark.parametrize(
  'dist',
  [
    distributions.Gaussian(
      jnp.asarray([[0.3, -1.0]]), jnp.asarray([[0.1, -0.5]])
    ),
    distributions.TanhGaussian(
      jnp.asarray([[0.3, -1.0]]), jnp.asarray([[0.1, -0.5]])
    ),
    distributions.Categorical(jnp.asarray([[0.3, -1.0]])),
  ],
)
def test_log_prob_of_noise_is_that_of_its_sample(dist):
  noise = jax.random.normal(jax.random.PRNGKey(1), (9, 2))
  np.testing.assert_allclose(
    dist.log_prob_of_noise(noise),
    dist.log_prob(dist.sample(noise)),
    rtol=1e-4,
    atol=1e-5,
  )


def test_categorical_matches_scipy(x64):
  rng = np.random.default_rng(0)
  logits, other = rng.normal(size=(2, 5, 4))
  p, q = (scipy.special.softmax(x, -1) for x in (logits, other))
  dist = distributions.Categorical(jnp.asarray(logits))
  np.testing.assert_allclose(
    dist.entropy(), scipy.stats.entropy(p, axis=-1), rtol=1e-12
  )
  np.testing.assert_allclose(
    dist.kl(distributions.Categorical(jnp.asarray(other))),
    scipy.stats.entropy(p, q, axis=-1),
    rtol=1e-12,
  )
  np.testing.assert_allclose(
    dist.log_prob(jnp.eye(4)[jnp.asarray([0, 3, 1, 2, 2])]),
    np.log(p[np.arange(5), [0, 3, 1, 2, 2]]),
    rtol=1e-12,
  )
  np.testing.assert_array_equal(np.argmax(dist.mode(), -1), p.argmax(-1))


def test_categorical_samples_by_its_probabilities():
  logits = jnp.log(jnp.asarray([[0.1, 0.6, 0.3]]))
  noise = distributions.gumbel_noise(jax.random.PRNGKey(0), (50_000,), 3)
  drawn = distributions.Categorical(logits).sample(noise)
  np.testing.assert_array_equal(drawn.sum(-1), 1)
  np.testing.assert_allclose(drawn.mean(0), [0.1, 0.6, 0.3], atol=0.01)


def test_what_has_no_density_says_so():
  dist = distributions.Deterministic(jnp.asarray([[0.5, -3.0]]))
  np.testing.assert_array_equal(dist.to_env(dist.sample(None)), [[0.5, -1.0]])
  assert np.isnan(dist.log_prob(dist.mode())).all()
  assert dist.log_prob(dist.mode()).shape == (1,)


def test_noise_is_normal_for_any_shape():
  drawn = distributions.normal_noise(jax.random.PRNGKey(0), (50, 40), 3)
  assert drawn.shape == (50, 40, 3)
  assert scipy.stats.kstest(np.ravel(drawn), 'norm').pvalue > 0.01
