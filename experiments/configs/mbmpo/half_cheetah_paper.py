"""HalfCheetah as the paper has it, to the letter; meant for an accelerator."""

from mbmpo_jax import config
from mbmpo_jax.algorithms.mbmpo import config as mbmpo


def get_config() -> mbmpo.Config:
  """The defaults of `mbmpo.Config`, appendix A.3: 500 epochs at most."""
  return mbmpo.Config(
    env=config.Env(name='half_cheetah', variant='paper'),
    run=config.Run(num_iterations=100),
  )
