"""The policy of a run: read back from its folder, written for other uses."""

import dataclasses
import pathlib
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export as jax_export

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.policies import gaussian
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib

# Where each is in what a checkpoint holds, `iteration.Saved`.
_KEYS = {'best': ('best_policy',), 'latest': ('state', 'policy')}
_PLATFORMS = ('cpu', 'cuda', 'tpu')


@dataclasses.dataclass(frozen=True)
class SavedPolicy:
  """A trained meta-policy and what it was trained with.

  Attributes:
    config: of the run.
    params: what `gaussian.apply` takes.
    iteration: iterations that were done when the checkpoint was written.
  """

  config: config_lib.Config
  params: types.Params
  iteration: int

  def distribution(self, obs: jax.Array) -> gaussian.Gaussian:
    """The distribution over actions at `obs` [..., O]."""
    return self.apply(self.params, obs)

  def act(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """An action [..., A] in [-1, 1] at `obs` [..., O].

    Args:
      obs: observations.
      key: consumed to sample, as training and evaluation do; without one, the
        action is the mean.
    """
    return gaussian.act(self.distribution(obs), key)

  @property
  def apply(self) -> Callable[..., gaussian.Gaussian]:
    """`(params, obs [..., O]) -> distribution`, with the run's settings."""
    min_std = self.config.policy.min_std
    return lambda params, obs: gaussian.apply(params, obs, min_std=min_std)

  def make_env(self) -> envs.Environment:
    """The environment that it was trained in, with MJX's physics.

    Raises:
      UnknownEnvironmentError: if it is not registered (`envs.register`).
    """
    return envs.make(self.config.env.name, self.config.env.variant)


def load_policy(
  workdir: str | pathlib.Path, which: str = 'best'
) -> SavedPolicy:
  """Reads a policy from a run's folder, which says everything about it.

  Of the newest checkpoint that is as it was written, only the policy is read,
  and nothing is compiled. The folder is not written to, so that it may be on a
  read-only disk, and a run may go on in it.

  Args:
    workdir: a folder of `loop.train`, or of one run of a sweep.
    which: `best`, the policy with the best evaluation, or `latest`, that of the
      last iteration saved.

  Raises:
    ConfigError: if `which` is neither, or the folder holds no run, or no
      checkpoint yet.
    CheckpointError: if no checkpoint can be read.
  """
  if which not in _KEYS:
    raise config_lib.ConfigError(
      f"which={which!r}: must be one of 'best', 'latest'"
    )
  folder = folder_lib.RunFolder(pathlib.Path(workdir))
  config = folder.read_config()
  found = checkpoint.read_part(folder.checkpoints, _KEYS[which])
  if found is None:
    raise config_lib.ConfigError(f'--workdir={workdir}: has no checkpoint yet')
  iteration, params = found
  return SavedPolicy(config, jax.tree.map(jnp.asarray, params), iteration)


def export_policy(
  policy: SavedPolicy,
  path: str | pathlib.Path,
  *,
  sample: bool = False,
  platforms: tuple[str, ...] = _PLATFORMS,
) -> None:
  """Writes a policy as a program that needs JAX, but not this package.

    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    actions = exported.call(obs)  # [N, O] -> [N, A], for any N

  Args:
    policy: from `load_policy`.
    path: the file to replace.
    sample: makes it `call(obs, key)`, with a raw key, uint32 [2], for actions
      drawn from the distribution instead of the mean ones.
    platforms: what it can run on.

  Raises:
    WriteError: if the file cannot be written.
  """
  weights = policy.params['layers'][0]['w']
  (batch,) = jax_export.symbolic_shape('N')
  obs = jax.ShapeDtypeStruct((batch, weights.shape[0]), weights.dtype)
  key = jax.ShapeDtypeStruct((2,), jnp.uint32)
  arguments = (obs, key) if sample else (obs,)
  program = jax_export.export(jax.jit(policy.act), platforms=platforms)
  data = bytes(program(*arguments).serialize())
  folder_lib.write_output(pathlib.Path(path), data)
