"""Predictions that a world could have observed.

A model predicts every number of an observation for itself, and so leaves what
they have in common: a quaternion of length 1, a period, a limit.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base


def make(dynamics: base.Dynamics, env: env_base.Environment) -> base.Dynamics:
  """The dynamics whose every prediction goes through `env.project`.

  Every model is made so, the last thing of all: rewards and terminations, of
  whoever imagines, then see what could be. `dynamics` itself where the
  environment projects nothing.

  Args:
    dynamics: of one member or of several.
    env: whose observations are predicted.
  """
  if not projects(env):
    return dynamics

  def predict(
    model: Any,
    carry: Any,
    obs: jax.Array,
    env_action: jax.Array,
    key: jax.Array | None = None,
  ) -> tuple[Any, base.Prediction]:
    carry, predicted = dynamics.predict(model, carry, obs, env_action, key)
    next_obs = env.project(predicted.next_obs)
    return carry, predicted._replace(next_obs=next_obs)

  return dynamics._replace(predict=predict)


def projects(env: env_base.Environment) -> bool:
  """Whether `env.project` does anything: traced, not run."""
  obs = jax.ShapeDtypeStruct((1, env.observation_size), jnp.zeros(()).dtype)
  jaxpr = jax.make_jaxpr(env.project)(obs).jaxpr
  return jaxpr.outvars != jaxpr.invars
