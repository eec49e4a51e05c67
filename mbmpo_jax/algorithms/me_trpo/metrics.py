"""The metrics that ME-TRPO's phases report."""

from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import shared_metrics

METRICS = {
  **shared_metrics.COLLECT,
  **shared_metrics.FIT,
  'imagined_steps': base.Metric(
    "model steps of the iteration's policy steps and validations",
    over_runs='sum',
    per_second_of='improve',
  ),
  'imagined/return': base.Metric(
    'undiscounted return of imagined episodes in the mixture of the models,'
    ' mean over policy steps',
    label='imagined',
    curve='imagined',
    imagined=True,
  ),
  'imagined/length': base.Metric('length of these episodes, in steps, mean'),
  'imagined/samples': base.Metric(
    'live steps that the rollouts of a policy step hold, mean over policy steps'
  ),
  'imagined/clipped': base.Metric(
    "share of them on a bound of the model's observations"
  ),
  'policy/steps': base.Metric('trust-region steps taken or tried'),
  'policy/kept_step': base.Metric(
    'the step after which the policy is as the iteration leaves it: with'
    ' validation that of the best one, 0 where none passed'
  ),
  'policy/surrogate_gain': base.Metric(
    'what the accepted step gained in the surrogate objective, 0 where it was'
    ' rejected, mean over policy steps'
  ),
  'policy/kl': base.Metric(
    'mean KL over that step, 0 where it was rejected, in nats'
  ),
  'policy/accept_rate': base.Metric('share of policy steps that were accepted'),
  'policy/backtracks': base.Metric(
    'step length tried last: 0 is the full one, each further one is shorter,'
    ' -1 none at all; mean'
  ),
  **shared_metrics.POLICY,
  'validation/passed': base.Metric(
    'validations passed; always 0 without validation'
  ),
  'validation/failed': base.Metric(
    'validations failed: the policy was worse than the best in too many models'
  ),
  'nonfinite/rollouts': base.Metric(
    'imagined rollouts that were left out; sum over policy steps',
    over_runs='sum',
  ),
  'nonfinite/advantages': base.Metric(
    'policy steps without advantages that are finite', over_runs='sum'
  ),
  'nonfinite/gradients': base.Metric(
    'policy steps without a finite direction, which were not taken',
    over_runs='sum',
  ),
  'nonfinite/kl': base.Metric(
    'step lengths tried whose surrogate or KL was not finite; sum over policy'
    ' steps',
    over_runs='sum',
  ),
  'nonfinite/steps': base.Metric(
    'policy steps rejected for any of these reasons', over_runs='sum'
  ),
  **shared_metrics.STUCK,
}
