"""How the tests judge what an algorithm has learned."""

import pathlib
import runpy

import jax
import jax.numpy as jnp
import numpy as np

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import base
from mbmpo_jax.envs import point
from mbmpo_jax.envs import spaces
from mbmpo_jax.policies import base as policies
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import evaluate

_CONFIGS = pathlib.Path(__file__).parent.parent / 'experiments' / 'configs'


class Choices(point.Point):
  """The point with choices in place of actions."""

  @property
  def action_space(self) -> spaces.ActionSpace:
    return spaces.Discrete(2)


def preset(name: str) -> config_lib.Experiment:
  """The configuration `<algorithm>/<preset>`."""
  return runpy.run_path(str(_CONFIGS / f'{name}.py'))['get_config']()


def trained(
  config: config_lib.Experiment, iterations: int, seed: int = 0
) -> tuple[base.Algorithm, policies.types.Params]:
  """The algorithm, and its policy's parameters after some iterations."""
  algorithm = algorithms.make(
    config.algorithm, envs.make(config.env.name), config
  )
  init = jax.jit(algorithm.init)
  state = init(jax.random.PRNGKey(seed), base.hyper(config))
  update = jax.jit(algorithm.update, donate_argnums=0)
  for _ in range(iterations):
    state, _ = update(state)
  return algorithm, algorithm.policy_params(state)


def evaluated(
  config: config_lib.Experiment, iterations: int, seed: int = 0
) -> float:
  """The mean return of 200 episodes after some iterations."""
  algorithm, params = trained(config, iterations, seed)
  play = evaluate.make_evaluate(
    envs.make(config.env.name),
    algorithm.policy,
    num_episodes=200,
    episode_length=config.collect.episode_length,
  )
  return float(play(params, jax.random.PRNGKey(1234))['eval/return_mean'])


def share_of_optimum_on_point(
  of: str | config_lib.Experiment, seed: int = 0
) -> float:
  """What a preset or configuration reaches: 0 is random, 1 the optimum.

  From the same 1,000 starts each.
  """
  config = preset(of) if isinstance(of, str) else of
  name = of if isinstance(of, str) else of.algorithm
  algorithm, params = trained(config, config.run.num_iterations, seed)

  def returns(random: bool) -> tuple[float, np.ndarray]:
    trajectory, _ = real.rollout(
      envs.make('point'),
      algorithm.policy,
      params,
      jax.random.PRNGKey(1234),
      num_envs=1000,
      horizon=30,
      random_actions=random,
    )
    total = float(jnp.mean(jnp.sum(trajectory.reward, 0)))
    return total, np.asarray(trajectory.obs[0], np.float64)

  achieved, starts = returns(random=False)
  random, _ = returns(random=True)
  best = optimal_point_return(starts, 30).mean()
  share = (achieved - random) / (best - random)
  print(f'{name}: {achieved:.2f}, random {random:.2f}, optimum {best:.2f}')
  return share


def optimal_point_return(starts: np.ndarray, horizon: int) -> np.ndarray:
  """Both coordinates walk to zero, independently, at full speed."""
  state, total = starts.astype(np.float64), 0.0
  for _ in range(horizon):
    total = total - np.sum(state**2, -1)
    state = state - np.clip(state, -0.1, 0.1)
  return total
