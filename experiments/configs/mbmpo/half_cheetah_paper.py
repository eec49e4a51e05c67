"""MB-MPO on HalfCheetah with exactly the paper's values, for an accelerator."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The defaults of `mbmpo.Config`, appendix A.3: at most 500 epochs."""
  return mbmpo.Config(
    env=config.Env(name='half_cheetah', variant='paper'),
    run=config.Run(num_iterations=100),
  )
