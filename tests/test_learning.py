"""An iteration's policy steps: when they stop, and what is kept."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax.algorithms import learning
from mbmpo_jax.algorithms import stopping
from mbmpo_jax.algorithms import stopping_config


def stop_by_hand(
  returns_: np.ndarray, fraction: float, every: int, most: int, patience: int
) -> tuple[int, int]:
  """The steps taken and the step of the best policy, in NumPy.

  `returns_[i]` [K] are those of the policy after i validations.
  """
  bar, best, step, check = returns_[0], 0, 0, 0
  while step < most and step - best < patience:
    step, check = step + every, check + 1
    new = returns_[check]
    worse = [
      np.isfinite(b) and (not np.isfinite(a) or a < b)
      for a, b in zip(new, bar, strict=True)
    ]
    if np.mean(worse) <= fraction:
      bar, best = new, step
  return step, best


def learn(
  script: jax.Array,
  num_steps: int,
  *,
  fraction: jax.Array | float = 0.3,
  **section: Any,
) -> learning.Progress:
  """Steps whose policy counts them, with scripted returns.

  `script[i]` [K] are the returns after i validations.
  """
  section = stopping_config.Stopping(**{'stopping': 'validation'} | section)
  return learning.learn(
    jnp.zeros(()),
    jax.random.split(jax.random.PRNGKey(0), num_steps),
    lambda theta, key: (theta + 1, {'theta': theta, 'nonfinite/x': theta}),
    lambda theta: script[(theta // section.validate_every).astype(int)],
    section=section,
    worsened_fraction=fraction,
  )


@pytest.mark.parametrize('fraction', [0.0, 0.3, 0.5])
def test_stops_as_it_does_by_hand(fraction):
  """On 300 random scripts that rise, and fall again, in 5 models."""
  rng = np.random.default_rng(0)
  drift = np.linspace(1, -1, 13)[:, None]
  scripts = np.cumsum(
    drift + rng.normal(size=(300, 13, 5)) * rng.uniform(0, 3, (300, 1, 1)), 1
  ).astype(np.float32)
  scripts[rng.uniform(size=scripts.shape) < 0.02] = np.nan

  progress = jax.jit(
    jax.vmap(lambda script: learn(script, 60, fraction=fraction, patience=15))
  )(scripts)
  expected = [stop_by_hand(x, fraction, 5, 60, 15) for x in scripts]
  np.testing.assert_array_equal(
    np.stack([progress.step, progress.best.step], -1), expected
  )
  # The best policy is the one that had taken so many steps.
  np.testing.assert_array_equal(progress.best.params, progress.best.step)
  np.testing.assert_array_equal(
    5 * (progress.passed + progress.failed), progress.step
  )
  # The values are those of the steps that were taken, and NaN afterwards.
  count = np.arange(60.0)
  np.testing.assert_array_equal(
    progress.values['theta'],
    np.where(count < np.asarray(progress.step)[:, None], count, np.nan),
  )
  assert len(set(expected)) > 3  # not always the same end


def test_the_best_policy_is_restored_after_failed_validations():
  """It gets better for 10 steps, then worse in two of five models."""
  up, down = [0.0] * 5, [9.0, 9.0, 9.0, -1.0, -1.0]
  script = jnp.array([up, [1.0] * 5, [2.0] * 5, *[down] * 10])
  for fraction, kept, steps in ((0.3, 10, 35), (0.4, 50, 50)):
    progress = learn(script, 50, fraction=fraction, patience=25)
    assert int(progress.step) == steps
    assert int(progress.best.step) == float(progress.best.params) == kept


def test_without_validation_all_steps_are_taken_and_the_last_is_kept():
  progress = learn(jnp.zeros((1, 2)), 7, stopping='fixed')
  assert int(progress.step) == int(progress.best.step) == 7
  assert float(progress.best.params) == 7
  assert learning.summary(progress.values) == {'theta': 3, 'nonfinite/x': 21}


def test_the_steps_are_one_loop_whatever_their_number():
  """The program's size is that of a round."""

  def program(num_steps: int) -> Any:
    return jax.make_jaxpr(lambda x: learn(x, num_steps))(jnp.zeros((99, 2)))

  short, long = program(10), program(400)
  assert len(short.eqns) == len(long.eqns)
  names = [equation.primitive.name for equation in long.eqns]
  assert names.count('while') == 1
  assert 'scan' not in names


def test_a_return_that_is_not_finite_is_the_worst():
  best = stopping.start(0, jnp.array([jnp.nan, 1.0]))
  cases = {
    (jnp.nan, 1.0): True,  # as before
    (-1e6, 1.0): True,
    (jnp.inf, jnp.nan): False,
  }
  for values, passes in cases.items():
    _, passed = stopping.validate(
      best, 1, jnp.array(values), jnp.int32(5), worsened_fraction=0.0
    )
    assert bool(passed) == passes
