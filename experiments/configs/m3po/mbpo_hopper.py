"""MBPO (Janner et al. 2019) on Hopper: no history, one task."""

from mbmpo_jax import config
from mbmpo_jax.algorithms import off_policy_config
from mbmpo_jax.algorithms.m3po import config as m3po
from mbmpo_jax.algorithms.sac import config as sac
from mbmpo_jax.models import recurrent_config


def get_config() -> m3po.Config:
  """Gymnasium's variant; docs/m3po.md compares the values with the authors'.

  The length of imagined rollouts grows from 1 to 15 steps between 20,000 and
  150,000 real steps.
  """
  made = m3po.Config(
    env=config.Env(name='hopper', variant='gymnasium'),
    collect=m3po.Collect(
      num_envs=1,
      steps_per_env=250,
      episode_length=1000,
      buffer_capacity=200_000,
      start_steps=5000,
    ),
    model=recurrent_config.Ensemble(hidden_sizes=(200, 200, 200, 200)),
    model_rollouts=m3po.ModelRollouts(
      num_rollouts=400,
      final_horizon=15,
      growth_start=20_000,
      growth_end=150_000,
      buffer_capacity=1_000_000,
    ),
    policy=m3po.Policy(activation='relu'),
    critic=m3po.Critic(activation='relu'),
    temperature=sac.Temperature(target_entropy=-1 / 3),
    learn=m3po.Learn(num_updates=20),
    run=off_policy_config.Run(
      num_iterations=500, eval_every=20, eval_episodes=10, checkpoint_every=20
    ),
  )
  return config.replaced(made, m3po.MBPO)
