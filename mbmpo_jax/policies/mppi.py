"""MPPI: model predictive path integral control over action sequences.

Every iteration samples C candidates around a mean mu. With their returns R_c,
the next mean is the average of the candidates, weighted by exponentials of the
returns:

  Box        a_c = clip(mu + sigma e_c),  e_c ~ N(0, I)
  Discrete   a_c ~ (1 - sigma) mu + sigma / A, one-hot

  w_c ~ exp((R_c - max R) / temperature),  sum_c w_c = 1
  mu' = sum_c w_c a_c

The deviation sigma is `init_std` in all iterations and at all steps. The plan
is mu', or its most probable choices. The search at the next step starts from
this plan, shifted by one step.

The weights are those of path integral control (Williams et al. 2015). The form
is that of Williams et al. 2017, algorithm 2, without its cost for deviating
from mu: here the reward function includes the cost of actions.
"""

from typing import Any

import chex
import jax
import jax.numpy as jnp

from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import cem
from mbmpo_jax.policies import planner


def make(
  space: spaces.ActionSpace,
  *,
  num_candidates: int,
  horizon: int,
  num_iterations: int,
) -> planner.Search:
  """The search for `planner.make`; its memory is the shifted last plan."""

  def search(
    score: planner.ScoreFn,
    memory: jax.Array,
    key: jax.Array,
    numbers: planner.Numbers,
  ) -> tuple[Any, jax.Array]:
    mean, sequence = plan(
      score,
      key,
      memory,
      space,
      num_candidates=num_candidates,
      num_iterations=num_iterations,
      std=numbers.init_std,
      temperature=numbers.temperature,
    )
    return cem.shifted(mean, space), sequence

  return planner.Search(start=lambda: cem.start(space, horizon), plan=search)


def plan(
  score: planner.ScoreFn,
  key: jax.Array,
  mean: jax.Array,
  space: spaces.ActionSpace,
  *,
  num_candidates: int,
  num_iterations: int,
  std: jax.Array | float,
  temperature: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
  """Searches for an action sequence with a high score.

  Args:
    score: `(sequences [C, H, A], key) -> returns [C]`.
    key: consumed.
    mean: the initial mean, `[H, A]`; in a `Discrete` space, probabilities.
    space: the action space.
    num_candidates: C.
    num_iterations: number of iterations.
    std: sigma.
    temperature: of the weights w_c.

  Returns:
    The final mean `[H, A]`, and the plan `[H, A]`, which is the mean projected
    to the action space.

  Example:
    >>> _, best = plan(
    ...   lambda sequences, key: -((sequences - 0.3) ** 2).sum((1, 2)),
    ...   jax.random.PRNGKey(0),
    ...   jnp.zeros((4, 1)),
    ...   spaces.Box(1),
    ...   num_candidates=500,
    ...   num_iterations=5,
    ...   std=0.3,
    ...   temperature=0.01,
    ... )
    >>> bool(abs(best - 0.3).max() < 0.2)
    True
  """
  chex.assert_shape(mean, (None, space.size))
  spread = jnp.full(mean.shape, std, mean.dtype)

  def iteration(mean: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
    draw_key, score_key = jax.random.split(key)
    candidates = cem.draw(space, mean, spread, draw_key, count=num_candidates)
    share = weights(score(candidates, score_key), temperature)
    after = jnp.tensordot(share, candidates, 1, precision='highest')
    # If no return is finite, the mean is kept.
    return jnp.where(jnp.sum(share) > 0, after, mean), None

  mean, _ = jax.lax.scan(iteration, mean, jax.random.split(key, num_iterations))
  return mean, space.project(mean)


def weights(returns: jax.Array, temperature: jax.Array | float) -> jax.Array:
  """The candidates' weights w_c in the next mean, from returns [C].

  They sum to 1. A candidate whose return is not finite has weight 0; if no
  return is finite, all weights are 0.

  Example:
    >>> weights(jnp.array([2.0, 2.0, 2.0, jnp.nan, 2.0]), 1.0).tolist()
    [0.25, 0.25, 0.25, 0.0, 0.25]
  """
  chex.assert_rank(returns, 1)
  known = jnp.isfinite(returns)
  best = jnp.max(jnp.where(known, returns, -jnp.inf))
  excess = jnp.where(known, returns - best, 0.0)
  unnormalised = jnp.where(known, jnp.exp(excess / temperature), 0.0)
  # The best candidate's unnormalised weight is 1.
  return unnormalised / jnp.maximum(jnp.sum(unnormalised), 1.0)
