"""A custom environment: an MJCF file, a task, and training on it.

  python experiments/examples/own_environment.py

The physics comes from the file. The class defines the initial state, the
observation, the reward and the termination. Reward and termination are
functions of observations and actions only, because imagined rollouts of the
models use them as well.
"""

import pathlib

import jax
import jax.numpy as jnp

from mbmpo_jax import config
from mbmpo_jax import envs
from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.envs import mjx
from mbmpo_jax.training import loop


class CartPole(mjx.MjxEnvironment):
  """Balance a pole; obs: cart position, pole angle, and their velocities."""

  max_episode_steps = 200
  observation_size = 4

  def __init__(self) -> None:
    path = pathlib.Path(__file__).with_name('cartpole.xml')
    super().__init__(path, frame_skip=2)

  def initial_state(self, rng: jax.Array):
    qpos, qvel = 0.1 * jax.random.normal(rng, (2, 2))
    return self.data(qpos, qvel)

  def observe(self, pipeline_state) -> jax.Array:
    return jnp.concatenate([pipeline_state.qpos, pipeline_state.qvel])

  def reward(self, obs, action, next_obs) -> jax.Array:
    return jnp.cos(next_obs[..., 1]) - 0.1 * jnp.abs(next_obs[..., 0])

  def done(self, next_obs) -> jax.Array:
    return (jnp.abs(next_obs[..., 1]) > 0.5).astype(next_obs.dtype)


envs.register('my_cartpole', CartPole)


def main() -> None:
  """Trains for a minute or two."""
  settings = mbmpo.Config(
    env=config.Env(name='my_cartpole'),
    model=config.Ensemble(
      hidden_sizes=(128, 128), max_epochs=50, clip_margin=0.25
    ),
    model_rollouts=mbmpo.ModelRollouts(rollouts_per_task=5, horizon=100),
    meta=mbmpo.Meta(num_meta_steps=10),
    run=config.Run(num_iterations=6),
  )
  loop.train(settings, 'runs/my_cartpole')


if __name__ == '__main__':
  main()
