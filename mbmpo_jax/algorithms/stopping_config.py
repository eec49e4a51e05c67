"""When an iteration's policy steps end, as MB-MPO and ME-TRPO configure it."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Stopping:
  """When an iteration's policy steps end (`algorithms/stopping.py`).

  Attributes:
    stopping: `fixed`, always all steps; or `validation`, until the policy no
      longer improves in enough of the models (Kurutach et al. 2018, section
      4.3).
    validate_every: steps between two validations.
    patience: steps after the best validation at which learning stops.
  """

  stopping: str = config.setting('fixed', choices=('fixed', 'validation'))
  validate_every: int = config.setting(5, low=1, high=10**6, tiny=1)
  patience: int = config.setting(25, low=1, high=10**6)

  def check_rounds(self, section: str, field: str) -> None:
    """Raises `ConfigError` unless all rounds of steps end with a validation.

    Args:
      section: the name of this section.
      field: its field with the number of steps.
    """
    num_steps = getattr(self, field)
    if self.stopping == 'validation' and num_steps % self.validate_every:
      raise config.ConfigError(
        f'{section}.{field}={num_steps}: must be a multiple of'
        f' {self.validate_every}, {section}.validate_every'
      )
