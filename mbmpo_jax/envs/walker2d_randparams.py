"""Walkers with random masses, inertias, damping and friction.

The factors are 1.5^u, for damping 1.3^u, with u uniform in [-3, 3] and drawn
separately for every body, joint and geom, as in `rand_param_envs` and therefore
in PEARL and M3PO. The reward is (x' - x) / dt + 1 - 0.001 ||a||^2, also at the
step that ends an episode. The rest is as in Walker2d's `gymnasium` variant. The
floor is a geom with its own factor; of two geoms in contact the larger friction
counts. A planar body needs only one factor for its inertia, about the axis
perpendicular to the plane.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from mbmpo_jax.envs import body_family
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import walker2d

_LIMIT = 1.5**3
_DAMPING_LIMIT = 1.3**3
_ROOT_DOFS = 3  # The torso's motion in the plane, which has no damping.


class Task(NamedTuple):
  """Factors on values of the MJCF file."""

  mass: jax.Array  # [7], one per body
  inertia: jax.Array  # [7]
  damping: jax.Array  # [6], one per joint
  friction: jax.Array  # [8], one per geom, the floor first


class RandParams(body_family.BodyFamily):
  """Walkers with separate factors for every body, joint and geom."""

  def __init__(self) -> None:
    """Loads the body."""
    self.nominal = walker2d.Walker2d(
      walker2d.Walker2d.variants['gymnasium']._replace(pays_the_end=True)
    )

  def trained_range(self) -> tuple[Task, Task]:
    """From 1 / limit to limit: 1.5^3, and 1.3^3 for damping."""
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
    """Draws the logarithm of each factor uniformly; consumes `rng`."""
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
    """The factors, with 1 for MuJoCo's world body and the torso's dofs."""
    world, root = jnp.ones(1), jnp.ones(_ROOT_DOFS)
    return physics.Scales(
      mass=jnp.concatenate([world, task.mass]),
      inertia=jnp.concatenate([world, task.inertia]),
      damping=jnp.concatenate([root, task.damping]),
      friction=task.friction,
    )

  def describe(self, task: Task) -> str:
    """Names the extremes of each kind of factor."""
    return ', '.join(
      f'{name} x{factors.min():.2g} to x{factors.max():.2g}'
      for name, factors in task._asdict().items()
    )
