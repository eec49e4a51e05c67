"""Collection of real data by a policy that learns in models."""

import dataclasses

from mbmpo_jax import config


@dataclasses.dataclass(unsafe_hash=True)
class Collect(config.Collect):
  """Whole trajectories, and how the policy reads their observations.

  Attributes:
    normalize_observations: whether the policy reads observations normalised by
      their moments in the buffer at the last fit, in imagination too.
  """

  normalize_observations: bool = False
