"""What the papers prove, in numbers."""

import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.figures import m3po_fig4
from mbmpo_jax.theory import bounds


def gain(gamma, k, eps_m, eps_pi):
  """Branched rollouts against whole ones: negative is tighter."""
  errors = dict(gamma=gamma, eps_m=eps_m, eps_pi=eps_pi)
  return bounds.c_th2(k=k, **errors) - bounds.c_th1(**errors)


@pytest.mark.parametrize(
  ('gamma', 'model', 'policy', 'long'),
  [
    (0.85, -64.2222, -13.3333, 18.77),
    (0.90, -162.0, -20.0, 60.54),
    (0.95, -722.0, -40.0, 291.76),
  ],
)
def test_values_of_the_difference(gamma, model, policy, long, x64):
  """Figure 4: k=1 with a false model, and with a foreign policy; then k=50."""
  np.testing.assert_allclose(gain(gamma, 1, 1.0, 0.0), model, rtol=1e-5)
  np.testing.assert_allclose(gain(gamma, 1, 0.0, 1.0), policy, rtol=1e-5)
  np.testing.assert_allclose(gain(gamma, 50, 0.0, 1.0), long, atol=0.006)


def test_values_of_the_bounds(x64):
  errors = dict(gamma=0.9, eps_m=0.1, eps_pi=0.1)
  np.testing.assert_allclose(bounds.c_th1(**errors), 58.0)
  np.testing.assert_allclose(bounds.c_th2(k=1, **errors), 39.8)
  np.testing.assert_allclose(bounds.c_th2(k=10, **errors), 49.724, atol=6e-4)
  np.testing.assert_allclose(bounds.janner_branched(k=1, **errors), 28.0)
  np.testing.assert_allclose(
    bounds.janner_branched(k=10, **errors), 70.974, atol=6e-4
  )
  np.testing.assert_allclose(bounds.gssm_gap(gamma=0.9, eps=0.1), 20.0)
  np.testing.assert_allclose(bounds.gssm_regret(gamma=0.9, eps=0.1), 40.0)


def test_all_scale_with_the_reward(x64):
  errors = dict(gamma=0.8, eps_m=0.2, eps_pi=0.3)
  for function, more in (
    (bounds.c_th1, errors),
    (bounds.c_th2, errors | {'k': 4}),
    (bounds.janner_branched, errors | {'k': 4}),
    (bounds.gssm_gap, {'gamma': 0.8, 'eps': 0.2}),
    (bounds.gssm_regret, {'gamma': 0.8, 'eps': 0.2}),
  ):
    np.testing.assert_allclose(
      function(r_max=2.5, **more), 2.5 * function(**more), rtol=1e-12
    )


def test_the_terms_of_one_branched_step_are_those_of_the_sums(x64):
  """The paper's closed form against sums over k steps, by hand.

  At depth t of a branch errors have added up to t e, and after it to (k + 1) e:
  sum_{t=1}^{k-1} t g^t ... the geometric sums that the fractions stand for.
  """
  for gamma, k in itertools.product((0.3, 0.9), (1, 2, 7)):
    within = sum(t * gamma**t for t in range(1, k))
    once = sum(gamma**t for t in range(1, k))
    after = (k + 1) * gamma**k / (1 - gamma)
    policy = 2 * 0.2 * (1 + gamma**2) / (1 - gamma) ** 2
    expected = policy + 0.5 * (within + once + after)
    actual = bounds.c_th2(gamma=gamma, k=k, eps_m=0.3, eps_pi=0.2)
    np.testing.assert_allclose(actual, expected, rtol=1e-10)


def test_corollary_1(x64):
  """At k=1 what depends on the model's error is no more than in theorem 1."""
  grid = np.linspace(0.01, 0.99, 99)
  for eps_pi in (0.0, 0.4):
    terms = [
      function(eps_m=0.7, eps_pi=eps_pi, gamma=grid, **more)
      - function(eps_m=0.0, eps_pi=eps_pi, gamma=grid, **more)
      for function, more in ((bounds.c_th2, {'k': 1}), (bounds.c_th1, {}))
    ]
    assert np.all(terms[0] <= terms[1])
  np.testing.assert_allclose(terms[0], 0.7 * 2 * grid / (1 - grid), rtol=1e-9)


def test_longer_branches_are_never_tighter(x64):
  """On figure 4's whole grid."""
  k = np.arange(1, 51)[:, None]
  eps_m = np.linspace(0, 1, 11)[None]
  for gamma in (0.85, 0.9, 0.95):
    for eps_pi in (0 * eps_m, 1 - eps_m):
      values = bounds.c_th2(gamma=gamma, k=k, eps_m=eps_m, eps_pi=eps_pi)
      assert np.all(np.diff(values, axis=0) >= -1e-9)


def test_figure_4(tmp_path, capsys):
  """Its numbers, its picture, and what it says of the paper's claims."""
  m3po_fig4.main(tmp_path)
  written = json.loads((tmp_path / 'm3po_fig4.json').read_text())
  assert [claim['verdict'] for claim in written['claims']] == [
    'held',
    'did not hold',
    'held',
  ]
  differences = written['difference']['b, gamma 0.95']
  np.testing.assert_allclose(differences[49][0], 291.76, atol=0.006)
  # Without a policy error branches are tighter, whatever their length.
  for gamma in ('0.85', '0.9', '0.95'):
    assert np.all(np.array(written['difference'][f'a, gamma {gamma}']) <= 1e-9)
  assert (tmp_path / 'm3po_fig4.png').stat().st_size > 10_000
  said = capsys.readouterr().out
  assert 'it is exactly 0 at 3 of 246 points of k = 1' in said


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    ({'gamma': 1.0}, r'gamma=1.0: must be in \(0, 1\)'),
    ({'k': 0}, 'k=0: must be >= 1'),
    ({'eps_m': -0.1}, r'eps_m=-0.1: must be in \[0, 1\]'),
    ({'eps_pi': np.nan}, r'eps_pi=nan: must be in \[0, 1\]'),
    ({'r_max': 0}, 'r_max=0: must be > 0'),
  ],
)
def test_what_is_no_bound_is_refused(values, message):
  known = {'gamma': 0.9, 'k': 1, 'eps_m': 0.1, 'eps_pi': 0.1}
  with pytest.raises(ValueError, match=message):
    bounds.c_th2(**(known | values))


def test_all_bounds_refuse_and_may_be_traced():
  errors = {'eps_m': 0.1, 'eps_pi': 0.1}
  for function, more in (
    (bounds.c_th1, errors),
    (bounds.c_th2, errors | {'k': 2}),
    (bounds.janner_branched, errors | {'k': 2}),
    (bounds.gssm_gap, {'eps': 0.1}),
    (bounds.gssm_regret, {'eps': 0.1}),
  ):
    with pytest.raises(ValueError, match='gamma=1: must be in'):
      function(gamma=1, **more)

    def of(gamma, function=function, more=more):
      return function(gamma=gamma, **more)

    traced = jax.jit(jax.vmap(jax.value_and_grad(of)))(jnp.array([0.5, 0.9]))
    np.testing.assert_allclose(traced[0][1], of(0.9), rtol=1e-4)
    assert np.all(traced[1] > 0)
