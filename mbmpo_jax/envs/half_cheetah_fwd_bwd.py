"""The half-cheetah that has to run forward or backward.

The reward is d (x' - x) / dt - 0.05 ||a||^2 with the hidden task d = 1 or -1,
as in the code of ProMP (Rothfuss et al. 2019) and in M3PO (Hiraoka et al.
2021). The velocity (x' - x) / dt is observed as well, so that a model can
predict it; it does not reveal d. By default d changes sign every 300 steps.
"""

from mbmpo_jax.envs import directions
from mbmpo_jax.envs import half_cheetah

_VARIANT = half_cheetah.HalfCheetah.variants['gymnasium']


class FwdBwd(directions.BothWays):
  """18 observations, as in the half-cheetah's `gymnasium` variant."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = half_cheetah.HalfCheetah(
      _VARIANT._replace(control_cost=0.05)
    )
