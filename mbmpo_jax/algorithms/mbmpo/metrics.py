"""The metrics that MB-MPO's phases report."""

from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import shared_metrics
from mbmpo_jax.algorithms.mbmpo import config as config_lib

METRICS = {
  **shared_metrics.COLLECT,
  **shared_metrics.FIT,
  'model/disagreement': base.Metric(
    'standard deviation of the predictions across the models, on transitions of'
    ' the newest episodes, relative to the standard deviation of the'
    ' observation changes'
  ),
  'imagined_steps': base.Metric(
    "model steps of the iteration's meta-steps and validations",
    over_runs='sum',
    per_second_of='improve',
  ),
  'imagined/return_pre': base.Metric(
    'mean undiscounted return of the imagined episodes of the meta-policy, mean'
    ' over tasks and meta-steps',
    label='imagined',
    curve='imagined, before adaptation',
    imagined=True,
  ),
  'imagined/return_post': base.Metric(
    'mean undiscounted return of the imagined episodes of the adapted policies,'
    ' mean over tasks and meta-steps'
  ),
  'imagined/promise': base.Metric(
    '`imagined/return_post` in the first meta-step: the return that the newly'
    ' fitted models predict for policies adapted from the meta-policy with'
    " which the iteration's data were collected (with `collect.policy=meta`,"
    ' `imagined/return_pre`); in iteration 0, the data come from uniform'
    ' actions; NaN if all rollouts start at states of the buffer',
    against='real/return',
    advice='reduce trust_region.max_kl or meta.num_meta_steps, or increase'
    ' model.hidden_sizes',
  ),
  'imagined/length': base.Metric(
    "mean length of the adapted policies' imagined episodes, in steps"
  ),
  'imagined/samples': base.Metric(
    'number of imagined steps of the adapted policies in a meta-step, without'
    ' steps after a termination, mean over meta-steps'
  ),
  'imagined/clipped': base.Metric(
    'share of the steps of `imagined/samples` whose predicted observation lies'
    ' on a bound to which the model clips its predictions'
  ),
  'meta/surrogate_gain': base.Metric(
    'increase of the outer objective by the accepted step, 0 if the step was'
    ' rejected, mean over meta-steps'
  ),
  'meta/kl': base.Metric(
    'mean KL divergence between the adapted policies before and after the step,'
    ' 0 if the step was rejected, mean over meta-steps, in nats'
  ),
  'meta/accept_rate': base.Metric(
    'share of meta-steps whose trust-region step was accepted'
  ),
  'meta/backtracks': base.Metric(
    'number of times that the line search shortened the step: 0 for the full'
    ' step, -1 if no step was tried; mean over meta-steps'
  ),
  'meta/plasticity': base.Metric(
    'mean KL divergence KL(meta-policy, adapted policy), mean over tasks and'
    ' meta-steps, in nats: how much adaptation changes the policy (section 6.3'
    ' of the paper)',
    panel='plasticity',
    log=True,
  ),
  'meta/rejected_tasks': base.Metric(
    'number of tasks that were left out of a meta-step because a number in them'
    ' was not finite, mean over meta-steps'
  ),
  **shared_metrics.POLICY,
  'nonfinite/rollouts': base.Metric(
    'sets of imagined rollouts of one task, before or after adaptation, that'
    ' were left out because a number in them was not finite; sum over'
    ' meta-steps',
    over_runs='sum',
  ),
  'nonfinite/advantages': base.Metric(
    'sets of advantages of one task that were not finite and were left out,'
    ' although the rollouts were finite; sum over meta-steps',
    over_runs='sum',
  ),
  'nonfinite/adaptations': base.Metric(
    'adapted policies that were not finite and were left out, although rollouts'
    ' and advantages were finite; sum over meta-steps',
    over_runs='sum',
  ),
  'nonfinite/gradients': base.Metric(
    'meta-steps that were rejected because the gradient or the step direction'
    ' was not finite',
    over_runs='sum',
  ),
  'nonfinite/kl': base.Metric(
    'step lengths tried in the line search whose surrogate objective or KL'
    ' divergence was not finite; sum over meta-steps',
    over_runs='sum',
  ),
  'nonfinite/steps': base.Metric(
    'meta-steps that were rejected because of numbers that were not finite, in'
    ' the step or in all tasks',
    over_runs='sum',
  ),
  **shared_metrics.STUCK,
}

# The return of as many steps as imagined rollouts have, for longer episodes.
SHORT = 'real/return_horizon'


# With `meta.stopping='validation'`.
VALIDATION = {
  'meta/steps': base.Metric('meta-steps, accepted or rejected'),
  'meta/kept_step': base.Metric(
    'number of the meta-step whose policy is kept, that of the last validation'
    ' that passed; 0 if none passed'
  ),
  **shared_metrics.VALIDATION,
}


def declared(config: config_lib.Config) -> dict[str, base.Metric]:
  """The metrics that are reported with this configuration.

  If episodes last longer than imagined rollouts, imagined returns are compared
  with the real return of equally many steps.
  """
  validating = config.meta.stopping == 'validation'
  metrics = METRICS | (VALIDATION if validating else {})
  if config.model_rollouts.horizon >= config.collect.episode_length:
    return metrics
  promise = METRICS['imagined/promise']._replace(against=SHORT)
  return metrics | {
    SHORT: base.Metric(
      'real/return over the first model_rollouts.horizon steps after a reset;'
      ' reported only if episodes are longer'
    ),
    'imagined/promise': promise,
  }
