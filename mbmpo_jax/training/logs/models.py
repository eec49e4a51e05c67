"""Finds the dynamics model that belongs to the state of a run."""

from typing import Any

from mbmpo_jax import config as config_lib
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.envs import base as envs_base
from mbmpo_jax.models import base
from mbmpo_jax.models import grbal
from mbmpo_jax.models import grbal_config
from mbmpo_jax.models import recurrent
from mbmpo_jax.models import recurrent_config


def of_run(env: envs_base.Environment, config: Any) -> base.Dynamics:
  """Returns the dynamics of one member, as the run's algorithm defines them.

  Recurrent models start without a history; models that adapt are not adapted.

  Args:
    env: the run's environment.
    config: the run's configuration.

  Raises:
    ConfigError: if the algorithm has no models, or its models need a context.
  """
  section = getattr(config, 'model', None)
  if isinstance(section, recurrent_config.Ensemble):
    history = config.history
    return recurrent.make(
      env, section, length=history.length, units=history.units
    )
  if isinstance(section, grbal_config.Ensemble):
    return grbal.make(
      env,
      section,
      adapt_steps=config.adaptation.adapt_steps,
      inner_lr=config.adaptation.inner_lr,
      predict_reward=not env.reward_is_known,
    ).dynamics
  if type(section) is config_lib.Ensemble:
    return model_based.make_dynamics(env, section)
  raise config_lib.ConfigError(
    f'algorithm {config.algorithm!r}: has no models that predict the next'
    ' observation without a context: must be one of mbmpo, me_trpo, mb_mpc,'
    ' m3po, l2a'
  )
