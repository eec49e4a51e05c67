"""The ant that has to run forward or backward.

The reward is d (x' - x) / dt - 0.5 ||a||^2 + 1 with the hidden task d = 1 or
-1, as in the code of ProMP (Rothfuss et al. 2019) and in M3PO (Hiraoka et al.
2021). An episode ends if the torso's height leaves [0.2, 1], as in PEARL's code
(ProMP: [0, 1]). By default d changes sign every 300 steps.

ProMP also charges a cost of contact forces, at most 0.04 a step. It needs 78
more observations, which a model would have to predict, so only the variant
`contact_cost` includes it.
"""

from collections.abc import Mapping

from mbmpo_jax.envs import ant
from mbmpo_jax.envs import directions


class FwdBwd(directions.BothWays):
  """28 observations: those of the ant, and the velocity in the reward."""

  # The weight of the squared contact forces.
  variants: Mapping[str, float] = {'standard': 0.0, 'contact_cost': 5e-4}

  def __init__(self, variant: str = 'standard') -> None:
    """Loads the body."""
    self.nominal = ant.Ant(
      ant.Ant.variants['gymnasium']._replace(
        contact_cost=self.variants[variant], pays_the_end=True
      )
    )
