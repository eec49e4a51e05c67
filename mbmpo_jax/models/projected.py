"""Projects predictions to valid observations of the environment.

A model predicts each number of an observation separately. The result may
violate constraints, such as the unit length of a quaternion, a period or a
limit.
"""

from typing import Any

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import base as env_base
from mbmpo_jax.models import base


def make(dynamics: base.Dynamics, env: env_base.Environment) -> base.Dynamics:
  """The dynamics with every predicted observation passed to `env.project`.

  All models are wrapped like this, last of all, so that rewards and
  terminations are computed from valid observations. `dynamics` itself is
  returned if the environment projects nothing.

  Args:
    dynamics: of one member or of several.
    env: the environment whose observations are predicted.
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
  """Whether `env.project` changes anything; it is traced, not run."""
  obs = jax.ShapeDtypeStruct((1, env.observation_size), jnp.zeros(()).dtype)
  jaxpr = jax.make_jaxpr(env.project)(obs).jaxpr
  return jaxpr.outvars != jaxpr.invars
