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
    'mean undiscounted return of imagined episodes, in which a random model'
    ' predicts each step, mean over policy steps',
    label='imagined',
    curve='imagined',
    imagined=True,
  ),
  'imagined/length': base.Metric(
    'mean length of the episodes of `imagined/return`, in steps'
  ),
  'imagined/samples': base.Metric(
    'number of imagined steps in a policy step, without steps after a'
    ' termination, mean over policy steps'
  ),
  'imagined/clipped': base.Metric(
    'share of the steps of `imagined/samples` whose predicted observation lies'
    ' on a bound to which the model clips its predictions'
  ),
  'policy/steps': base.Metric('trust-region steps, accepted or rejected'),
  'policy/kept_step': base.Metric(
    'number of the policy step whose result is kept: with validation, of the'
    ' last policy that passed, 0 if none passed; otherwise, of the last policy'
  ),
  'policy/surrogate_gain': base.Metric(
    'increase of the surrogate objective by the accepted step, 0 if the step'
    ' was rejected, mean over policy steps'
  ),
  'policy/kl': base.Metric(
    'mean KL divergence between the policies before and after the step, 0 if'
    ' the step was rejected, mean over policy steps, in nats'
  ),
  'policy/accept_rate': base.Metric('share of policy steps that were accepted'),
  'policy/backtracks': base.Metric(
    'number of times that the line search shortened the step: 0 for the full'
    ' step, -1 if no step was tried; mean over policy steps'
  ),
  **shared_metrics.POLICY,
  **shared_metrics.VALIDATION,
  'nonfinite/rollouts': base.Metric(
    'imagined rollouts that were left out because a number in them was not'
    ' finite; sum over policy steps',
    over_runs='sum',
  ),
  'nonfinite/advantages': base.Metric(
    'policy steps whose advantages were not finite', over_runs='sum'
  ),
  'nonfinite/gradients': base.Metric(
    'policy steps that were rejected because the gradient or the step direction'
    ' was not finite',
    over_runs='sum',
  ),
  'nonfinite/kl': base.Metric(
    'step lengths tried in the line search whose surrogate objective or KL'
    ' divergence was not finite; sum over policy steps',
    over_runs='sum',
  ),
  'nonfinite/steps': base.Metric(
    'policy steps that were rejected because of numbers that were not finite,'
    ' in the step, in the advantages or in all rollouts',
    over_runs='sum',
  ),
  **shared_metrics.STUCK,
}
