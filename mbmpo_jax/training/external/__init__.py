"""Environments outside JAX: Gymnasium's, robots. See docs/environments.md.

external.train(make_env, external.Task(reward), config, 'runs/pendulum')
"""

from mbmpo_jax.algorithms.mbmpo.quick import quick
from mbmpo_jax.envs.elsewhere import PREDICTED
from mbmpo_jax.training.external.acting import Acting
from mbmpo_jax.training.external.robot import Episode
from mbmpo_jax.training.external.robot import Robot
from mbmpo_jax.training.external.run import evaluate
from mbmpo_jax.training.external.run import train
from mbmpo_jax.training.external.task import Task
from mbmpo_jax.training.external.task import WorldError

__all__ = [
  'PREDICTED',
  'Acting',
  'Episode',
  'Robot',
  'Task',
  'WorldError',
  'evaluate',
  'quick',
  'train',
]
