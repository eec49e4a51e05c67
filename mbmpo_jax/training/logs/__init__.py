"""Learning from logged data, without an environment. See docs/environments.md.

logs.train('robot.npz', external.Task(reward), logs.quick(), 'runs/robot')
"""

from mbmpo_jax.algorithms.mbmpo.offline import quick
from mbmpo_jax.training.external.actions import box
from mbmpo_jax.training.external.actions import discrete
from mbmpo_jax.training.logs.checks import Checked
from mbmpo_jax.training.logs.checks import check
from mbmpo_jax.training.logs.diagnosis import Diagnosis
from mbmpo_jax.training.logs.diagnosis import of_run as diagnose
from mbmpo_jax.training.logs.files import Raw
from mbmpo_jax.training.logs.files import read
from mbmpo_jax.training.logs.log import Log
from mbmpo_jax.training.logs.log import LogError
from mbmpo_jax.training.logs.offline import train

__all__ = [
  'Checked',
  'Diagnosis',
  'Log',
  'LogError',
  'Raw',
  'box',
  'check',
  'diagnose',
  'discrete',
  'quick',
  'read',
  'train',
]
