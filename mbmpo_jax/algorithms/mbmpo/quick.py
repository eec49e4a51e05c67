"""A configuration of MB-MPO for small environments: minutes on one CPU core."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def quick(
  *,
  transitions: int,
  episode_length: int,
  horizon: int = 150,
  num_meta_steps: int = 60,
  seed: int = 0,
) -> mbmpo.Config:
  """Three models of 128 units with two tasks each; change it as needed.

  Args:
    transitions: greatest number of real transitions, in iterations of six
      trajectories.
    episode_length: steps of a trajectory, in collection and evaluation.
    horizon: steps of an imagined rollout.
    num_meta_steps: trust-region steps per iteration.
    seed: of all random numbers.

  Example:
    >>> quick(transitions=10_000, episode_length=200).run.num_iterations
    8
  """
  members, tasks = 3, 2
  count = members * tasks
  return mbmpo.Config(
    seed=seed,
    policy=config.GaussianPolicy(init_std=1.0, min_std=0.1),
    model=config.Ensemble(
      num_models=members,
      hidden_sizes=(128, 128),
      batch_size=100,
      max_epochs=50,
      clip_margin=0.25,
    ),
    collect=mbmpo.Collect(
      num_trajectories=count,
      episode_length=episode_length,
      buffer_capacity=max(transitions, count * episode_length),
    ),
    model_rollouts=mbmpo.ModelRollouts(
      tasks_per_model=tasks, rollouts_per_task=40, horizon=horizon
    ),
    advantage=config.Advantage(discount=0.98, gae_lambda=0.97),
    meta=mbmpo.Meta(num_meta_steps=num_meta_steps),
    trust_region=config.TrustRegion(max_kl=0.02),
    run=config.Run(
      num_iterations=max(1, transitions // (count * episode_length)),
      eval_episodes=10,
      render=False,
    ),
  )
