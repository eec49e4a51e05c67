"""Walkers of random masses, inertias, damping and friction.

Factors 1.5^u, of the damping 1.3^u, with u uniform in [-3, 3] for every body,
joint and geom apart, as in `rand_param_envs`, and so in PEARL and M3PO. Reward
(x' - x) / dt + 1 - 0.001 ||a||^2, also at the end; the rest is that of
Walker2d's `gymnasium` variant. The floor is a geom as well; of two in contact
the larger friction counts. In the plane one factor of an inertia, about the
axis across, is all that there is.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import body_family
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import walker2d

_LIMIT = 1.5**3
_DAMPING_LIMIT = 1.3**3
_ROOT_DOFS = 3  # Of the torso in the plane: nothing damps them.


class Task(NamedTuple):
  """Factors of what the MJCF file says."""

  mass: jax.Array  # [7], of the bodies
  inertia: jax.Array  # [7]
  damping: jax.Array  # [6], of the joints
  friction: jax.Array  # [8], of the geoms, the floor first


class RandParams(body_family.BodyFamily):
  """Walkers, each factor of its own."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = walker2d.Walker2d(
      walker2d.Walker2d.variants['gymnasium']._replace(pays_the_end=True)
    )

  def trained_range(self) -> tuple[Task, Task]:
    """From 1 / limit to the limit, which is 1.5^3, of the damping 1.3^3."""
    model = self.nominal.mj_model
    bodies, joints = model.nbody - 1, model.nv - _ROOT_DOFS
    high = Task(
      mass=jnp.full(bodies, _LIMIT),
      inertia=jnp.full(bodies, _LIMIT),
      damping=jnp.full(joints, _DAMPING_LIMIT),
      friction=jnp.full(model.ngeom, _LIMIT),
    )
    return jax.tree.map(jnp.reciprocal, high), high

  def sample_task(self, rng: jax.Array, split: str = 'train') -> Task:
    """Each factor's logarithm uniform in its range; consumes `rng`."""
    del split
    _, high = self.trained_range()
    keys = jax.random.split(rng, len(high))
    return Task(
      *(
        limit ** jax.random.uniform(key, limit.shape, minval=-1.0)
        for key, limit in zip(keys, high, strict=True)
      )
    )

  def scales(self, task: Task) -> physics.Scales:
    """The factors, with 1 for the world and for the root's coordinates."""
    world, root = jnp.ones(1), jnp.ones(_ROOT_DOFS)
    return physics.Scales(
      mass=jnp.concatenate([world, task.mass]),
      inertia=jnp.concatenate([world, task.inertia]),
      damping=jnp.concatenate([root, task.damping]),
      friction=task.friction,
    )

  def describe(self, task: Task) -> str:
    """The extremes of each kind of factor."""
    return ', '.join(
      f'{name} x{factors.min():.2g} to x{factors.max():.2g}'
      for name, factors in task._asdict().items()
    )
