"""Keep a pole upright on a cart: Gymnasium's body, the benchmark's reward.

The reward is -theta^2 with the pole's angle theta before the step. Episodes do
not terminate and have 100 steps of 0.04 s (Wang et al. 2019, MBBL).
"""

import jax
import jax.numpy as jnp
from mujoco import mjx as mujoco_mjx

from mbmpo_jax.envs import mjx

_RESET_WIDTH = 0.01


class InvertedPendulum(mjx.MjxEnvironment):
  """4 observations, `qpos` and `qvel` of cart and pole; 1 action."""

  max_episode_steps = 100
  can_terminate = False
  observation_size = 4

  def __init__(self) -> None:
    """Loads the body."""
    super().__init__(mjx.ASSETS / 'inverted_pendulum.xml', frame_skip=2)

  def initial_state(self, rng: jax.Array) -> mujoco_mjx.Data:
    """Upright at rest, plus U(-0.01, 0.01) in every number; consumes `rng`."""
    drawn = jax.random.uniform(
      rng, (4,), minval=-_RESET_WIDTH, maxval=_RESET_WIDTH
    )
    return self.data(drawn[:2], drawn[2:])

  def observe(self, pipeline_state: mujoco_mjx.Data) -> jax.Array:
    """Returns [x, theta, x', theta'], in m, rad, m/s and rad/s."""
    return jnp.concatenate([pipeline_state.qpos, pipeline_state.qvel])

  def reward(
    self, obs: jax.Array, action: jax.Array, next_obs: jax.Array
  ) -> jax.Array:
    """Returns -theta^2 with theta before the step, [...]."""
    del action, next_obs
    return -jnp.square(obs[..., 1])
