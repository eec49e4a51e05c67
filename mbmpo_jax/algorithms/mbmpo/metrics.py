"""The metrics that MB-MPO's phases report."""

from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.algorithms.mbmpo import config as config_lib

METRICS = {
  **shared_metrics.COLLECT,
  **shared_metrics.FIT,
  'model/disagreement': base.Metric(
    "deviation of the models' predictions from their mean at transitions of the"
    " newest episodes, in units of the changes' deviation"
  ),
  'imagined_steps': base.Metric(
    "model steps of the iteration's meta-steps",
    over_runs='sum',
    per_second_of='improve',
  ),
  'imagined/return_pre': base.Metric(
    'undiscounted return of imagined episodes of the meta-policy, mean over'
    ' tasks and meta-steps',
    label='imagined',
    curve='imagined, before adaptation',
    imagined=True,
  ),
  'imagined/return_post': base.Metric('the same of the adapted policies'),
  'imagined/promise': base.Metric(
    'the same at the first meta-step alone, of the policies that collected the'
    " iteration's data; in iteration 0, whose actions are uniform, of others",
    against='real/return',
    advice='turn up model_rollouts.buffer_starts, or turn down'
    ' trust_region.max_kl or meta.num_meta_steps',
  ),
  'imagined/length': base.Metric(
    "length of the adapted policies' imagined episodes, in steps, mean"
  ),
  'imagined/samples': base.Metric(
    "live steps that a meta-step's adapted rollouts hold, mean over meta-steps"
  ),
  'imagined/clipped': base.Metric(
    "share of them on a bound of the model's observations"
  ),
  'meta/surrogate_gain': base.Metric(
    'what the accepted step gained in the outer objective, 0 where it was'
    ' rejected, mean over meta-steps'
  ),
  'meta/kl': base.Metric(
    'mean KL of the adapted policies over that step, 0 where it was rejected,'
    ' in nats'
  ),
  'meta/accept_rate': base.Metric(
    'share of meta-steps whose step was accepted'
  ),
  'meta/backtracks': base.Metric(
    'step length tried last: 0 is the full one, each further one is shorter,'
    ' -1 none at all; mean'
  ),
  'meta/plasticity': base.Metric(
    'KL from the meta-policy to the adapted ones, in nats: how far adaptation'
    ' moves it (section 6.3)',
    panel='plasticity',
    log=True,
  ),
  'meta/rejected_tasks': base.Metric(
    'tasks left out of a meta-step as something in them was not finite, mean'
  ),
  **shared_metrics.POLICY,
  'nonfinite/rollouts': base.Metric(
    "tasks' imagined rollouts, before or after adaptation, that were left out;"
    ' sum over meta-steps',
    over_runs='sum',
  ),
  'nonfinite/advantages': base.Metric(
    "tasks' advantages that were left out where the rollouts were finite",
    over_runs='sum',
  ),
  'nonfinite/adaptations': base.Metric(
    'adapted policies that were left out where rollouts and advantages were'
    ' finite',
    over_runs='sum',
  ),
  'nonfinite/gradients': base.Metric(
    'meta-steps without a finite direction, which were not taken',
    over_runs='sum',
  ),
  'nonfinite/kl': base.Metric(
    'step lengths tried whose surrogate or KL was not finite; sum over'
    ' meta-steps',
    over_runs='sum',
  ),
  'nonfinite/steps': base.Metric(
    'meta-steps rejected for any of these reasons', over_runs='sum'
  ),
  **shared_metrics.STUCK,
}

# The return of as many steps as imagined rollouts have, for longer episodes.
SHORT = 'real/return_horizon'


def declared(config: config_lib.Config) -> dict[str, base.Metric]:
  """The metrics that are reported with this configuration.

  If episodes last longer than imagined rollouts, imagined returns are compared
  with the real return of equally many steps.
  """
  if config.model_rollouts.horizon >= config.collect.episode_length:
    return METRICS
  promise = METRICS['imagined/promise']._replace(against=SHORT)
  return METRICS | {
    SHORT: base.Metric(
      'real/return of the first model_rollouts.horizon steps after a reset,'
      ' where episodes last longer'
    ),
    'imagined/promise': promise,
  }
