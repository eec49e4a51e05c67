"""Checks an environment against the interface of `base.Environment`."""

import operator
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import errors
from mbmpo_jax.envs import against_mujoco
from mbmpo_jax.envs import base

_BATCH = 4
_STEPS = 30
_SHOWN = 6  # numbers of an observation shown in a message
_METHODS = (
  'reset', 'step', 'reward', 'done', 'initial_obs', 'model_input', 'change',
  'project',
)  # fmt: skip
_SPACE = ('size', 'sample', 'project', 'check', 'log_prob_uniform')

# (condition, message if it is false) -> None
Require = Callable[[Any, str], None]


class ContractError(errors.UserError, ValueError):
  """An environment violates the interface; the message names the part."""


def check_attributes(env: base.Environment) -> None:
  """Checks that sizes, limits and methods exist, without calling any method.

  Raises:
    ContractError: naming the environment, the attribute and its value.
  """
  require = _requirer(env)
  for attribute in ('max_episode_steps', 'observation_size', 'action_size'):
    size = getattr(env, attribute, None)
    require(
      isinstance(size, int) and size > 0,
      f'{attribute}={size!r}: must be a positive int',
    )
  dt = getattr(env, 'dt', None)
  require(
    isinstance(dt, float) and dt > 0, f'dt={dt!r}: must be a float > 0, seconds'
  )
  can_terminate = getattr(env, 'can_terminate', None)
  require(
    isinstance(can_terminate, bool),
    f'can_terminate={can_terminate!r}: must be True or False',
  )
  for method in _METHODS:
    found = getattr(env, method, None)
    require(callable(found), f'{method}={found!r}: must be a method')
  space: Any = getattr(env, 'action_space', None)
  require(
    all(hasattr(space, name) for name in _SPACE),
    f'action_space={space!r}: must be an ActionSpace, as Box and Discrete are',
  )
  require(
    space.size == env.action_size,
    f'action_space.size={space.size!r}: must be action_size={env.action_size}',
  )


def check_environment(env: base.Environment, *, seed: int = 0) -> None:
  """Checks attributes, shapes, types, purity, rewards and resets.

  The check compiles one batched reset and step, and takes 30 random steps with
  actions projected to the action space. Steps after the end of an episode are
  ignored. It requires:

  - The reward of `step` equals `reward(obs, action, next_obs)` to a relative
    error of 1e-6 (the same formula compiled twice is not bitwise equal), and
    `done` of `step` equals `done(next_obs)`. A reward or termination that
    depends on a hidden task is exempt.
  - Two traces of the reset with the same keys agree. Otherwise something is
    drawn from a source other than the key.
  - `project` does not change observations of the environment, and maps the sum
    of an observation and the `change` of a step to the next observation.
  - For an MJCF file, the physics agrees with MuJoCo's over 20 steps
    (`against_mujoco.first_difference`). A difference is an error; it is only a
    warning if shapes touch for which MJX has its own collision algorithms.

  Args:
    env: the environment.
    seed: of the resets and actions that are tried.

  Raises:
    ContractError: naming the environment, the part and the values.
  """
  check_attributes(env)
  require = _requirer(env)
  _check_shapes(env, require)
  _check_space(env, require, seed)

  actions = jax.random.uniform(
    jax.random.PRNGKey(seed + 1), (_STEPS, _BATCH, env.action_size),
    minval=-1.5, maxval=1.5,
  )  # fmt: skip
  keys = jax.random.split(jax.random.PRNGKey(seed), _BATCH)

  def step(state: base.State, action: jax.Array) -> tuple[base.State, Any]:
    # Checked while it is traced here; another trace would take a second.
    after = _call(require, 'step', jax.vmap(env.step), state, action)
    _check_step(require, state, after)
    action = env.action_space.project(action)
    reward, done = after.reward, after.done
    return after, {
      'obs before': state.obs,
      'action': action,
      'next_obs': after.obs,
      'project()': env.project(after.obs),
      'change()': env.change(
        after.obs,
        env.project(state.obs + env.change(state.obs, after.obs)),
      ),
      'reward': reward,
      'reward()': env.reward(state.obs, action, after.obs)
      if env.reward_is_known
      else reward,
      'done': done,
      'done()': env.done(after.obs) if env.done_is_known else done,
    }

  def reset(keys: jax.Array) -> tuple[base.State, dict[str, jax.Array]]:
    state = jax.vmap(env.reset)(keys)
    initial_obs = jax.vmap(env.initial_obs)(keys)
    return state, {'obs': state.obs, 'initial_obs': initial_obs}

  @jax.jit
  def run(keys: jax.Array, actions: jax.Array) -> tuple[Any, Any]:
    state, initial = reset(keys)
    return initial, jax.lax.scan(step, state, actions)[1]

  first, later = jax.tree.map(np.asarray, run(keys, actions))
  # Steps up to and including the first end of an episode, either by `step` or
  # by `done()`.
  ended = (later['done'] != 0) | (later['done()'] != 0)
  alive = np.cumsum(ended, axis=0) - ended == 0
  for part, value in first.items():
    require(
      np.all(np.isfinite(value)),
      f'{part} of a reset is not finite {_where(~np.isfinite(value))}',
    )
  for part in ('next_obs', 'reward', 'reward()', 'done', 'done()'):
    value = later[part]
    wrong = ~np.isfinite(value).reshape(*alive.shape, -1).all(-1) & alive
    require(not wrong.any(), f'{part} is not finite {_at(wrong, later, part)}')
  again = jax.tree.map(np.asarray, jax.jit(lambda keys: reset(keys)[1])(keys))
  for part, value in again.items():
    require(
      np.allclose(first[part], value, rtol=1e-6, atol=1e-6),
      f'{part} of a reset differs between two traces with the same key:'
      f' {_row(first[part][0])} and {_row(value[0])}',
    )
  for told, pure in (('reward', 'reward()'), ('done', 'done()')):
    error = np.abs(later[told] - later[pure])
    wrong = alive & (error > 1e-6 * (1.0 + np.abs(later[pure])))
    at = tuple(np.argwhere(wrong)[0]) if np.any(wrong) else (0, 0)
    require(
      not np.any(wrong),
      f"step's {told} {later[told][at]} differs from {pure} {later[pure][at]}"
      f' of (obs, projected action, next_obs), at step {at[0] + 1}',
    )
  odd = alive & ~np.isin(later['done'], (0.0, 1.0))
  require(
    not odd.any(),
    f'done must be 0. or 1., and is not {_at(odd, later, "done")}',
  )
  moved = np.abs(later['project()'] - later['next_obs'])
  size = np.max(np.abs(later['next_obs'][alive]), initial=0.0, axis=0)
  wrong = alive & (moved > 1e-4 * (size + 1e-12)).any(-1)
  require(
    not wrong.any(),
    'project() changes an observation of the environment itself'
    f' {_at(wrong, later, "project()")}',
  )
  wrong = alive & (np.abs(later['change()']) > 1e-4 * (size + 1e-12)).any(-1)
  require(
    not wrong.any(),
    'project() of obs + change(obs, next_obs) is not next_obs; they differ'
    f' {_at(wrong, later, "change()")}',
  )
  require(
    env.can_terminate or not np.any(later['done'][alive]),
    'can_terminate is False, but an episode ended',
  )
  for part in ('obs', 'initial_obs'):
    require(
      np.ptp(first[part], axis=0).max() > 0,
      f'{part} of a reset is the same for every key: {_row(first[part][0])}',
    )
  _check_physics(env, require, seed)


def _check_physics(env: base.Environment, require: Require, seed: int) -> None:
  """Checks that MJX's steps agree with MuJoCo's, if `env` has an MJCF file."""
  simulated = against_mujoco.physics_of(env)
  if simulated is None:
    return
  found = against_mujoco.first_difference(simulated, seed=seed)
  if found is None:
    return
  if found.contacts:
    warnings.warn(
      f'{type(env).__name__}: MJX and MuJoCo differ at the contact of'
      f' {found.contacts}: {found.text}',
      stacklevel=3,
    )
    return
  require(
    False,
    f'{found.text}: must be equal; remove elements from the file until they'
    ' are, or pass check=False',
  )


def _at(wrong: np.ndarray, later: dict[str, np.ndarray], part: str) -> str:
  """Describes the first of `wrong` [T, N]: step, value, observation, action."""
  if not wrong.any():
    return ''
  step = int(np.argmax(wrong.any(1)))
  place = int(np.argmax(wrong[step]))
  value, obs, action = (
    _row(later[name][step, place]) for name in (part, 'obs before', 'action')
  )
  return (
    f'at step {step + 1} ({wrong[step].sum()} of {wrong.shape[1]}'
    f' environments): {value} of obs {obs}, action {action}'
  )


def _where(wrong: np.ndarray) -> str:
  rows = wrong.reshape(len(wrong), -1)
  numbers = np.flatnonzero(rows.any(0)).tolist()
  return (
    f'in {rows.any(1).sum()} of {len(rows)} environments, dimensions'
    f' {numbers[:_SHOWN]}'
  )


def _row(numbers: Any) -> str:
  """Formats a number, or the first numbers of an array, in one line."""
  if np.ndim(numbers) == 0:
    return f'{float(numbers):.6g}'
  flat = np.ravel(numbers)
  more = ', ...' if flat.size > _SHOWN else ''
  return f'[{", ".join(f"{float(x):.6g}" for x in flat[:_SHOWN])}{more}]'


def _requirer(env: base.Environment) -> Require:
  name = type(env).__name__

  def require(holds: Any, message: str) -> None:
    if not holds:
      raise ContractError(' '.join(f'{name}: {message}'.split()))

  return require


def _check_shapes(env: base.Environment, require: Require) -> None:
  """Traces every method but `step`, single and batched, without running it."""
  float_type = jnp.zeros(()).dtype
  key = jax.random.PRNGKey(0)
  obs = jax.ShapeDtypeStruct((env.observation_size,), float_type)

  def trace(part: str, fn: Any, *args: Any) -> Any:
    return _call(require, part, jax.eval_shape, fn, *args)

  def expect(part: str, found: Any, shape: tuple[int, ...]) -> None:
    require(
      getattr(found, 'shape', None) == shape and found.dtype == float_type,
      f'{part} is {found}: must be {float_type}{list(shape)}',
    )

  state = trace('reset', env.reset, key)
  expect('obs of reset', state.obs, obs.shape)
  expect('initial_obs()', trace('initial_obs', env.initial_obs, key), obs.shape)
  for batch in ((), (2, 3)):
    batched_obs = jax.ShapeDtypeStruct(batch + obs.shape, float_type)
    batched_action = jax.ShapeDtypeStruct((*batch, env.action_size), float_type)
    if env.reward_is_known:
      reward = trace(
        'reward', env.reward, batched_obs, batched_action, batched_obs
      )
      expect(f'reward() of a batch {list(batch)}', reward, batch)
    if env.done_is_known:
      done = trace('done', env.done, batched_obs)
      expect(f'done() of a batch {list(batch)}', done, batch)
    projected = trace('project', env.project, batched_obs)
    expect(f'project() of a batch {list(batch)}', projected, batched_obs.shape)
    changed = trace('change', env.change, batched_obs, batched_obs)
    expect(f'change() of a batch {list(batch)}', changed, batched_obs.shape)
    seen = trace('model_input', env.model_input, batched_obs)
    require(
      getattr(seen, 'shape', ())[:-1] == batch and seen.dtype == float_type,
      f'model_input() of a batch {list(batch)} is {seen}: must be'
      f' {float_type}[*{list(batch)}, any size]',
    )


def _check_space(env: base.Environment, require: Require, seed: int) -> None:
  """Checks that samples and projections are allowed and fixed by `project`."""
  space, shape = env.action_space, (_BATCH, env.action_size)

  def draw(key: jax.Array) -> dict[str, jax.Array]:
    sampled = space.sample(key, shape[:-1])
    projected = space.project(2.0 * jax.random.normal(key, shape))
    return {
      'sample()': sampled,
      'project() of sample()': space.project(sampled),
      'project()': projected,
      'project() of project()': space.project(projected),
    }

  key = jax.random.PRNGKey(seed)
  drawn = _call(require, 'action_space', jax.jit(draw), key)
  drawn = jax.tree.map(np.asarray, drawn)
  float_type = jnp.zeros(()).dtype
  for part, actions in drawn.items():
    require(
      actions.shape == shape and actions.dtype == float_type,
      f'action_space.{part} is {actions.dtype}{list(actions.shape)}: must be'
      f' {float_type}{list(shape)}',
    )
    try:
      space.check(actions)
    except ValueError as error:
      require(False, f'action_space.{part} is not allowed: {error}')
  for part in ('sample()', 'project()'):
    again = drawn[f'project() of {part}']
    require(
      np.array_equal(again, drawn[part]),
      f'action_space.project() changes what {part} gave:'
      f' {_row(drawn[part][0])} to {_row(again[0])}',
    )


def _check_step(require: Require, before: base.State, after: Any) -> None:
  """Checks, while `step` is traced, that it keeps the state's structure."""
  require(
    operator.eq(jax.tree.structure(before), jax.tree.structure(after))
    and jax.tree.map(jax.typeof, before) == jax.tree.map(jax.typeof, after),
    'step changes the shapes, types or structure of the state',
  )
  for part, found in (('reward', after.reward), ('done', after.done)):
    require(
      found.shape == (_BATCH,) and found.dtype == jnp.zeros(()).dtype,
      f'{part} of step is {found.dtype}{list(found.shape[1:])}: must be'
      f' {jnp.zeros(()).dtype}[]',
    )


def _call(require: Require, part: str, fn: Any, *args: Any) -> Any:
  """Calls `fn(*args)` while tracing; an error becomes a one-line message."""
  try:
    return fn(*args)
  except Exception as error:
    first_line = str(error).strip().split('\n')[0]
    require(False, f'{part} cannot be traced by JAX: {first_line}')
