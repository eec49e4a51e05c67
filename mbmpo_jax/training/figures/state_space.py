"""Maps of model disagreement and policy adaptation over states.

Over a grid of states s, from a run's last checkpoint (Clavera et al. 2018,
section 6.3, figure 3):

  deviation(s) = mean_o std_k f_k(s, mode of pi_theta(s))_o
  kl(s)        = mean_i KL(pi_theta(s) || pi_theta_i'(s))

with ensemble members k, dimensions o of the observation, and the adapted
policies i that would collect the next real data (`Algorithm.behaviour`).
"""

import json
import pathlib
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import base as models
from mbmpo_jax.models import ensemble
from mbmpo_jax.policies import base as policies
from mbmpo_jax.training import iteration
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint

_FILE = 'state_space.json'


class Maps(NamedTuple):
  """Results on a grid.

  Attributes:
    iteration: number of iterations done.
    deviation: `[Y, X]`, in units of observations.
    kl: `[Y, X]`, in nats.
  """

  iteration: int
  deviation: np.ndarray
  kl: np.ndarray

  @property
  def correlation(self) -> float:
    """Pearson's r over the grid, whose points are not independent."""
    pair = np.stack([self.deviation.ravel(), self.kl.ravel()])
    return float(np.corrcoef(pair)[0, 1])


def grid(low: float, high: float, count: int) -> jax.Array:
  """Returns the states of a square, `[count * count, 2]`, lowest row first."""
  line = jnp.linspace(low, high, count)
  y, x = jnp.meshgrid(line, line, indexing='ij')
  return jnp.stack([x.ravel(), y.ravel()], -1)


def measure(
  policy: policies.Policy,
  dynamics: models.Dynamics,
  model: Any,
  theta: types.Params,
  adapted: types.Params,
  obs: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  """Computes deviation and KL at states by the equations of the module.

  It is deterministic.

  Args:
    policy: a policy with a density and no memory.
    dynamics: the dynamics of one member, which must ignore its key.
    model: the parameters of all members, leaves `[K, ...]`.
    theta: the policy's parameters.
    adapted: the parameters of the adapted policies, leaves `[I, ...]`.
    obs: states `[N, O]`.

  Returns:
    Deviation and KL, both `[N]`.
  """
  chex.assert_rank(obs, 2)
  assert policy.distribution is not None
  key, num = jax.random.PRNGKey(0), obs.shape[0]
  carry = policy.start(theta, key, (), num)
  before = policy.distribution(theta, carry, obs)
  action = before.to_env(before.mode())

  def predict(member: Any) -> jax.Array:
    carry = dynamics.start(member, key, (), num)
    return dynamics.predict(member, carry, obs, action, key)[1].next_obs

  def kl(params: types.Params) -> jax.Array:
    assert policy.distribution is not None
    return before.kl(policy.distribution(params, carry, obs))

  deviation = jnp.mean(jnp.std(jax.vmap(predict)(model), 0), -1)
  return deviation, jnp.mean(jax.vmap(kl)(adapted), 0)


def maps(
  folder: pathlib.Path,
  config: config_lib.Experiment,
  *,
  low: float,
  high: float,
  count: int,
) -> Maps:
  """Computes the maps of a run with an ensemble and adapted policies.

  The maps are saved in the run's folder and read from there unless the run has
  gone further; then no checkpoint is needed.

  Args:
    folder: the run's folder.
    config: the run's configuration.
    low: the smallest coordinate of the square of states.
    high: the largest coordinate.
    count: states along a side.

  Raises:
    CheckpointError: if no checkpoint can be read.
  """
  path = folder / _FILE
  square = {'low': low, 'high': high, 'count': count}
  newest = max(checkpoint.steps(folder / 'checkpoints'), default=None)
  if path.is_file():
    kept = json.loads(path.read_text(encoding='utf-8'))
    if kept['square'] == square and newest in (None, kept['iteration']):
      shape = count, count
      values = (np.reshape(kept[n], shape) for n in ('deviation', 'kl'))
      return Maps(kept['iteration'], *values)
  env = envs.make(config.env.name, config.env.variant)
  algorithm = algorithms.make(config.algorithm, env, config, check=False)
  done, state = _read(folder, algorithm, config)
  dynamics = ensemble.make(env, config.model)  # type: ignore[attr-defined]
  key = jax.random.fold_in(state.counters.key, done)
  assert algorithm.behaviour is not None
  found = jax.jit(measure, static_argnums=(0, 1))(
    algorithm.policy,
    dynamics,
    state.model,
    algorithm.policy_params(state),
    algorithm.behaviour(state, key),
    grid(low, high, count),
  )
  deviation, kl = (np.reshape(x, (count, count)) for x in found)
  tree = {
    'iteration': done,
    'square': square,
    'deviation': deviation.tolist(),
    'kl': kl.tolist(),
  }
  atomic.write_output(path, (json.dumps(tree) + '\n').encode())
  return Maps(done, deviation, kl)


def _read(
  folder: pathlib.Path, algorithm: base.Algorithm, config: config_lib.Experiment
) -> tuple[int, Any]:
  """Reads the iteration and the state of a run's newest checkpoint."""
  sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  shapes = jax.eval_shape(
    lambda: iteration.start(
      algorithm, jax.random.PRNGKey(0), base.hyper(config), sharding
    )
  )
  abstract = jax.tree.map(
    lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes
  )
  checkpoints = checkpoint.Checkpointer(folder / 'checkpoints')
  try:
    found = checkpoints.restore_latest(abstract)
  finally:
    checkpoints.close()
  if found is None:
    raise checkpoint.CheckpointError(f'{folder}: has no checkpoint')
  return found[0], found[1].state
