"""Metrics that several algorithms report, worded as in `docs/metrics.md`."""

from mbmpo_jax.algorithms import base

COLLECT = {
  'env_steps': base.Metric('real transitions collected so far'),
  'real_steps': base.Metric(
    'real transitions of the iteration',
    over_runs='sum',
    per_second_of='collect',
  ),
  'real/return': base.Metric(
    'mean undiscounted return of the complete episodes collected for learning',
    label='real',
    curve='real, as collected',
  ),
  'real/length': base.Metric(
    'mean length of the episodes of `real/return`, in steps'
  ),
  'nonfinite/transitions': base.Metric(
    'collected transitions that were left out because a number in them was not'
    ' finite',
    over_runs='sum',
  ),
}

# Of methods whose environments continue from one iteration to the next.
CONTINUED = {
  **COLLECT,
  'real_steps': COLLECT['real_steps']._replace(per_second_of='learn'),
  'real/return': COLLECT['real/return']._replace(
    text='mean undiscounted return of the episodes that were collected for'
    ' learning and ended in the iteration'
  ),
  'nonfinite/updates': base.Metric(
    'updates that were skipped because a number in them was not finite',
    over_runs='sum',
  ),
}

CRITIC = {
  'critic/loss': base.Metric(
    'half the mean squared error of Q, sum over critics, mean over updates',
    label='critic loss',
    panel='critic loss',
    log=True,
  ),
  'critic/q': base.Metric(
    'Q of the sampled transitions, mean over transitions, critics and updates'
  ),
}

FIT = {
  'model/val_loss': base.Metric(
    'validation loss of the parameters that a fit keeps, mean over models: mean'
    ' squared error on held-out transitions, in units of the variance of the'
    ' predicted quantity (observation changes; rewards, if predicted);'
    ' cross-entropy for terminations, if predicted',
    label='val loss',
    panel='validation loss',
    log=True,
  ),
  'model/epochs': base.Metric('passes over the data, mean over models'),
  'model/gradient_steps': base.Metric('gradient steps, mean over models'),
  'model/rejected': base.Metric(
    'number of models whose training stopped because their validation loss was'
    ' not finite'
  ),
  'nonfinite/stored': base.Metric(
    'transitions in the buffer that were left out of the fit because a number'
    ' in them, or computed from them, was not finite',
    over_runs='sum',
  ),
  'nonfinite/members': base.Metric(
    'models that were reinitialised before the fit because a number in them was'
    ' not finite',
    over_runs='sum',
  ),
}

# Reported with `model.predict_done`.
DONE = {
  'model/done_accuracy': base.Metric(
    'balanced accuracy of predicted terminations on transitions of the buffer,'
    ' mean over models: mean of the share of terminal transitions predicted as'
    ' terminal and the share of other transitions predicted as not terminal;'
    ' 0.5 is chance'
  ),
}

POLICY = {
  'policy/std': base.Metric(
    "standard deviation of the policy's actions at a zero observation, mean"
    ' over action dimensions; for Gaussian policies'
  ),
  'policy/saturated': base.Metric(
    'share of the elements of collected actions that were sampled outside the'
    " environment's bounds"
  ),
}

VALIDATION = {
  'validation/passed': base.Metric(
    'validations passed; always 0 without validation'
  ),
  'validation/failed': base.Metric(
    'validations failed: in too many models the return of the policy was lower'
    ' than that of the best policy so far'
  ),
}

STUCK = {
  base.STUCK: base.Metric(
    '1 if the iteration took no step because of numbers that were not finite,'
    ' otherwise 0'
  )
}
