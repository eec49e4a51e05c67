"""The environments of this package by name and variant."""

import functools
from collections.abc import Callable

from mbmpo_jax.envs import acrobot
from mbmpo_jax.envs import ant
from mbmpo_jax.envs import ant_crippled_leg
from mbmpo_jax.envs import ant_fwd_bwd
from mbmpo_jax.envs import base
from mbmpo_jax.envs import benchmark_humanoid
from mbmpo_jax.envs import cartpole_swingup
from mbmpo_jax.envs import classic
from mbmpo_jax.envs import families
from mbmpo_jax.envs import half_cheetah
from mbmpo_jax.envs import half_cheetah_fwd_bwd
from mbmpo_jax.envs import half_cheetah_mass_damping
from mbmpo_jax.envs import half_cheetah_pier
from mbmpo_jax.envs import hopper
from mbmpo_jax.envs import humanoid_direc
from mbmpo_jax.envs import inverted_pendulum
from mbmpo_jax.envs import point
from mbmpo_jax.envs import point_direc
from mbmpo_jax.envs import pr2_reacher
from mbmpo_jax.envs import reacher
from mbmpo_jax.envs import slim_humanoid
from mbmpo_jax.envs import swimmer
from mbmpo_jax.envs import walker2d
from mbmpo_jax.envs import walker2d_randparams

Factory = Callable[..., base.Environment | families.Family]


class Variants:
  """Environments, or task families, that share a name.

  Attributes:
    variants: factories by the variant's name; the first is the default.
  """

  def __init__(self, **variants: Factory) -> None:
    """Stores the factories."""
    self.variants = variants

  def __call__(
    self, variant: str | None = None
  ) -> base.Environment | families.Family:
    """Builds the variant, or the default variant."""
    return self.variants[variant or next(iter(self.variants))]()


def _benchmark(factory: Factory, *args: object) -> Variants:
  """Returns variants for a name that only the public benchmark uses."""
  return Variants(benchmark=functools.partial(factory, *args))


# Factories of environments and of task families.
FACTORIES: dict[str, Factory] = {
  'acrobot': Variants(
    absorbing=acrobot.Masses,
    terminating=functools.partial(acrobot.Masses, 'terminating'),
    benchmark=functools.partial(classic.Classic, classic.ACROBOT),
  ),
  'ant': ant.Ant,
  'ant_crippled_leg': ant_crippled_leg.CrippledLeg,
  'ant_et': _benchmark(ant.Ant, ant.EARLY),
  'ant_fwd_bwd': ant_fwd_bwd.FwdBwd,
  'cartpole': _benchmark(classic.Classic, classic.CARTPOLE),
  'cartpole_swingup': cartpole_swingup.CartpoleSwingup,
  'cartpole_swingup_masses': cartpole_swingup.Masses,
  'half_cheetah': half_cheetah.HalfCheetah,
  'half_cheetah_fwd_bwd': half_cheetah_fwd_bwd.FwdBwd,
  'half_cheetah_mass_damping': half_cheetah_mass_damping.HalfCheetahs,
  'half_cheetah_pier': half_cheetah_pier.Piers,
  'hopper': hopper.Hopper,
  'hopper_et': _benchmark(hopper.Hopper, hopper.EARLY),
  'humanoid_direc': humanoid_direc.Directions,
  'humanoid_et': _benchmark(benchmark_humanoid.Full),
  'inverted_pendulum': _benchmark(inverted_pendulum.InvertedPendulum),
  'mountain_car': _benchmark(classic.Classic, classic.MOUNTAIN_CAR),
  'pendulum': _benchmark(classic.Classic, classic.PENDULUM),
  'point': point.Point,
  'point_direc': point_direc.Directions,
  'pr2_reacher': pr2_reacher.Pr2Reacher,
  'reacher': _benchmark(reacher.Reacher),
  'slim_humanoid': Variants(
    mass_damping=slim_humanoid.SlimHumanoids,
    benchmark=functools.partial(
      benchmark_humanoid.Slim, benchmark_humanoid.SLIM
    ),
  ),
  'slim_humanoid_et': _benchmark(
    benchmark_humanoid.Slim, benchmark_humanoid.SLIM_EARLY
  ),
  'swimmer': swimmer.Swimmer,
  'swimmer_v0': _benchmark(swimmer.Swimmer, swimmer.V0),
  'walker2d': walker2d.Walker2d,
  'walker2d_et': _benchmark(walker2d.Walker2d, walker2d.EARLY),
  'walker2d_randparams': walker2d_randparams.RandParams,
}
