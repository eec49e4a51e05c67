"""MB-MPC with CEM on HalfCheetah, sized for a CPU: 20,000 transitions."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mb_mpc import config as mb_mpc


def get_config() -> mb_mpc.Config:
  """Ensemble members of 2x200 units, 200 candidates of 15 steps, 4 rounds.

  MB-MPO's authors plan by random shooting with 1,000 candidates of 10 steps and
  members of 2x512 units: 6 GFLOP per action. CEM at its usual sizes, 500
  candidates of 25 steps and 5 rounds, would need 36 GFLOP; this preset needs
  1.2. Evaluations also plan, so they have 4 episodes and run every second
  iteration.
  """
  return mb_mpc.Config(
    env=config.Env(name='half_cheetah'),
    model=config.Ensemble(
      num_models=5,
      hidden_sizes=(200, 200),
      batch_size=250,
      max_epochs=40,
      clip_margin=0.25,
    ),
    collect=config.Collect(
      num_trajectories=10, episode_length=200, buffer_capacity=50_000
    ),
    planner=mb_mpc.Planner(
      kind='cem',
      num_candidates=200,
      horizon=15,
      num_elites=20,
      num_iterations=4,
    ),
    run=config.Run(num_iterations=10, eval_every=2, eval_episodes=4),
  )
