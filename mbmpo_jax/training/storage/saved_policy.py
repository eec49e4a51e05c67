"""Loads the policy of a run from its folder, and exports policies."""

import dataclasses
import io
import math
import pathlib
import zipfile
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.policies import base
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import folder as folder_lib
from mbmpo_jax.training.storage import saved_world
from mbmpo_jax.training.storage import trees
from mbmpo_jax.training.storage import zoo

# The path of each policy in a checkpoint, `iteration.Saved`.
_KEYS = {'best': ('best_policy',), 'latest': ('policy',)}
_PLATFORMS = ('cpu', 'cuda', 'tpu')


class RemembersError(errors.UserError, TypeError):
  """A policy with memory was asked to act without it."""


@dataclasses.dataclass(frozen=True)
class SavedPolicy:
  """A trained policy with the configuration of its run.

  Attributes:
    config: the run's configuration.
    params: the parameters of `policy`.
    iteration: number of iterations done when the checkpoint was written.
    policy: the policy.
    env: the environment, if its name does not determine it.
  """

  config: config_lib.Experiment
  params: types.Params
  iteration: int
  policy: base.Policy
  env: envs.Environment | None = None

  def describe(self, which: str) -> str:
    """Returns a few words, such as "best policy of 25 iterations".

    Args:
      which: as for `load_policy`. The best policy may be from an earlier
        iteration than the checkpoint.
    """
    joined = 'of' if which == 'best' else 'after'
    return f'{which} policy {joined} {self.iteration} iterations'

  def act(self, obs: jax.Array, key: jax.Array | None = None) -> jax.Array:
    """Returns an action [..., A] at `obs` [..., O], for memoryless policies.

    Args:
      obs: observations.
      key: consumed to sample the action, as in training and evaluation; without
        a key, the policy acts greedily.

    Raises:
      RemembersError: if the policy has a memory; use `start` and `step`.
    """
    *shape, size = obs.shape
    flat = jnp.reshape(obs, (math.prod(shape), size))
    carry = self.start(jax.random.PRNGKey(0), flat.shape[0])
    if jax.tree.leaves(carry):
      raise RemembersError(
        f'algorithm {self.config.algorithm!r}: the policy has a memory; use'
        ' start() and step() instead of act()'
      )
    _, action = self.step(carry, flat, key=key)
    return action.reshape(*shape, action.shape[-1])

  def start(self, key: jax.Array, num: int, context: Any = ()) -> Any:
    """Returns the memory at the start of `num` episodes, for `step`.

    Args:
      key: consumed.
      num: episodes in parallel, N.
      context: the task's context, for policies that need one.
    """
    return self.policy.start(self.params, key, context, num)

  def step(
    self,
    carry: Any,
    obs: jax.Array,
    previous: base.Experience | None = None,
    key: jax.Array | None = None,
  ) -> tuple[Any, jax.Array]:
    """Takes one step of N episodes.

      carry, previous = policy.start(key, num=1), None
      while True:
        carry, action = policy.step(carry, obs, previous)
        ...  # One step in the world.
        previous = base.Experience(obs, action, reward, next_obs, terminated)
        obs = next_obs

    Args:
      carry: the memory, from `start` or the last `step`.
      obs: observations `[N, O]`.
      previous: the experience of the last step; `None` at the start of an
        episode.
      key: consumed to sample the action, as in training and evaluation; without
        a key, the policy acts greedily.

    Returns:
      The new memory, and the actions `[N, A]` for the environment.
    """
    if previous is not None and self.policy.observe is not None:
      carry = self.policy.observe(self.params, carry, previous)
    noise = None if key is None else self.policy.noise(key, obs.shape[:1])
    carry, action = self.policy.act(self.params, carry, obs, noise)
    return carry, action.env

  def make_env(self) -> envs.Environment:
    """Returns the environment of the training run, simulated by MJX.

    An environment outside JAX has only its sizes and cannot be stepped.

    Raises:
      UnknownEnvironmentError: if it is not registered (`envs.register`).
    """
    return envs.from_config(self.config.env) if self.env is None else self.env


def load_policy(
  workdir: str | pathlib.Path,
  which: str = 'best',
  env: envs.Environment | None = None,
  policy: base.Policy | None = None,
) -> SavedPolicy:
  """Loads a policy from the folder of a run.

  It reads only the policy from the newest unaltered checkpoint, and compiles
  nothing. It does not write, so the folder may be on a read-only disk, or
  belong to a run in progress.

  Args:
    workdir: the folder of `loop.train`, of one run of a sweep, or of the zoo.
    which: `best`, the policy with the best evaluation, or `latest`, that of the
      last saved iteration.
    env: the environment, if the folder cannot determine it.
    policy: your policy, if the run used `loop.train(..., policy=...)`.

  Raises:
    ConfigError: if `which` has another value, or the folder has no run, no
      checkpoint yet, or a policy that does not fit its environment.
    UnknownEnvironmentError: if the environment is not registered
      (`envs.register`).
    CheckpointError: if no checkpoint can be read.
    ZooError: if a file of the zoo is missing or altered.
  """
  if which not in _KEYS:
    raise config_lib.ConfigError(
      f"which={which!r}: must be one of 'best', 'latest'"
    )
  folder = folder_lib.RunFolder(pathlib.Path(workdir))
  if zoo.is_entry(folder.root):
    zoo.read(folder.root)  # Before any of its files is used.
  config = folder.read_config()
  iteration, tree = _read(folder, which)
  if env is None:
    env = saved_world.environment(folder.root, config)
  made = algorithms.make(
    config.algorithm, env, config, check=False, policy=policy
  ).policy
  expected = jax.eval_shape(made.init, jax.random.PRNGKey(0))
  try:
    params = as_in(expected, tree, finite=True)
  except ValueError as error:
    raise config_lib.ConfigError(
      f'--workdir={workdir}: its policy does not fit algorithm'
      f' {config.algorithm!r} in env.name={config.env.name!r}: {error}'
    ) from error
  return SavedPolicy(config, params, iteration, made, env)


def _read(folder: folder_lib.RunFolder, which: str) -> tuple[int, Any]:
  """Reads the iteration and the policy's arrays."""
  root = folder.root
  if zoo.is_entry(root):
    if which != 'best':
      raise config_lib.ConfigError(
        f"which={which!r}: must be 'best' for {root}, an entry of the zoo"
      )
    return zoo.read_policy(root)
  found = checkpoint.read_part(folder.checkpoints, _KEYS[which])
  if found is None:
    raise config_lib.ConfigError(f'--workdir={root}: has no checkpoint yet')
  return found


def export_policy(
  policy: SavedPolicy,
  path: str | pathlib.Path,
  *,
  sample: bool = False,
  platforms: tuple[str, ...] = _PLATFORMS,
) -> None:
  """Writes a policy as a program that needs JAX, but not this package.

  For a policy without memory, the file is the program:

    exported = jax.export.deserialize(bytearray(path.read_bytes()))
    actions = exported.call(obs)  # [N, O] -> [N, A], for any N

  For a policy with memory, the file is a zip of two programs, `start.bin` and
  `step.bin`:

    def load(name):
      with zipfile.ZipFile(path) as file:
        return jax.export.deserialize(bytearray(file.read(name)))

    start, step = load('start.bin'), load('step.bin')
    carry = start.call(key, obs)  # A tuple of arrays, for N episodes.
    carry, actions = step.call(carry, obs, previous, first)

  `previous` is the experience of the last step, (obs [N, O], actions [N, A],
  reward [N], next_obs [N, O], terminated [N]), all floats. It is ignored if
  `first`, bool [], is true, as in the first step of the episodes.

  Args:
    policy: the result of `load_policy`.
    path: the file to replace.
    sample: whether to sample actions instead of acting greedily; the program
      then has a further last argument, a raw key, uint32 [2].
    platforms: the platforms on which the program can run.

  Raises:
    WriteError: if the file cannot be written.
  """
  dtype = _float_type(policy.params)
  (batch,) = jax_export.symbolic_shape('N')
  env = policy.make_env()

  def array(*shape: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)

  obs = array(batch, env.observation_size)
  key = jax.ShapeDtypeStruct((2,), jnp.uint32)
  keys = (key,) if sample else ()

  def start(key: jax.Array, obs: jax.Array) -> Any:
    return policy.start(key, obs.shape[0])

  def flat_start(key: jax.Array, obs: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(jax.tree.leaves(start(key, obs)))

  carry = jax.eval_shape(start, key, obs)
  leaves, structure = jax.tree.flatten(carry)

  def export(function: Callable[..., Any], *arguments: Any) -> bytes:
    # Keep all arguments, because unused ones determine N.
    jitted = jax.jit(function, keep_unused=True)
    program = jax_export.export(jitted, platforms=platforms)
    return bytes(program(*arguments).serialize())

  if not leaves:
    data = export(policy.act, obs, *keys)
  else:
    experience = (
      obs,
      array(batch, env.action_size),
      array(batch),
      obs,
      array(batch),
    )

    def step(
      leaves: tuple[jax.Array, ...],
      obs: jax.Array,
      previous: tuple[jax.Array, ...],
      first: jax.Array,
      key: jax.Array | None = None,
    ) -> tuple[tuple[jax.Array, ...], jax.Array]:
      carry = jax.tree.unflatten(structure, leaves)
      if policy.policy.observe is not None:
        told = policy.policy.observe(
          policy.params, carry, base.Experience(*previous)
        )
        carry = jax.tree.map(
          lambda old, new: jnp.where(first, old, new), carry, told
        )
      carry, action = policy.step(carry, obs, key=key)
      return tuple(jax.tree.leaves(carry)), action

    first = jax.ShapeDtypeStruct((), bool)
    data = _zip(
      {
        'start.bin': export(flat_start, key, obs),
        'step.bin': export(step, tuple(leaves), obs, experience, first, *keys),
      }
    )
  atomic.write_output(pathlib.Path(path), data)


def as_in(expected: Any, tree: Any, *, finite: bool = False) -> Any:
  """Restores the saved structure of a pytree that was read.

  Checkpoints are read as dictionaries and lists.

  Args:
    expected: the saved structure, with the shapes of its arrays.
    tree: the content that was read.
    finite: whether all numbers must be finite.

  Raises:
    ValueError: if an array is missing, has another shape or type, or is not
      finite although it must be.
  """

  def take(path: tuple[Any, ...], leaf: jax.ShapeDtypeStruct) -> jax.Array:
    name = jax.tree_util.keystr(path, simple=True, separator='/')
    found = tree
    for entry in path:
      # By field of a named tuple, key or position.
      step = getattr(
        entry, 'name', getattr(entry, 'key', getattr(entry, 'idx', None))
      )
      try:
        found = found[step]
      except (KeyError, IndexError, TypeError):
        raise ValueError(f'it has no {name}') from None
    return _held(name, found, leaf, finite=finite)

  return jax.tree_util.tree_map_with_path(take, expected)


def _held(
  name: str, found: Any, leaf: jax.ShapeDtypeStruct, *, finite: bool
) -> jax.Array:
  """Checks an array that was read against its expected shape and type."""
  if not isinstance(found, (np.ndarray, jax.Array)):
    raise ValueError(f'{name} is not an array')
  found = trees.without_elements(np.asarray(found), leaf.shape)
  if found.shape != leaf.shape:
    raise ValueError(f'{name} has the shape {found.shape}, not {leaf.shape}')
  # A double-precision run may be loaded in single precision to act.
  kinds = [
    'real' if jnp.issubdtype(x.dtype, jnp.floating) else str(x.dtype)
    for x in (found, leaf)
  ]
  if kinds[0] != kinds[1]:
    raise ValueError(f'{name} has type {found.dtype}, not {leaf.dtype}')
  array = jnp.asarray(found, leaf.dtype)
  if finite and kinds[0] == 'real' and not jnp.all(jnp.isfinite(array)):
    raise ValueError(f'{name} has numbers that are not finite')
  return array


def _float_type(tree: Any) -> Any:
  """Returns the float type in a pytree."""
  kinds = {x.dtype for x in jax.tree.leaves(tree)}
  floats = [kind for kind in kinds if jnp.issubdtype(kind, jnp.floating)]
  return jnp.result_type(*floats) if floats else jnp.result_type(float)


def _zip(files: dict[str, bytes]) -> bytes:
  buffer = io.BytesIO()
  with zipfile.ZipFile(buffer, 'w', zipfile.ZIP_DEFLATED) as file:
    for name, data in files.items():
      file.writestr(name, data)
  return buffer.getvalue()
