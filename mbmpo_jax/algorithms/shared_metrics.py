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
    'undiscounted return of the episodes collected for learning, mean',
    label='real',
    curve='real, as collected',
  ),
  'real/length': base.Metric('their length, in steps, mean'),
  'nonfinite/transitions': base.Metric(
    'collected transitions that were not stored', over_runs='sum'
  ),
}

FIT = {
  'model/val_loss': base.Metric(
    'mean squared error of a model on what it held out, in units of the'
    " changes' variance, mean over models; where a model stopped early, at its"
    ' last epoch',
    label='val loss',
    panel='validation loss',
    log=True,
  ),
  'model/epochs': base.Metric('passes over the data, mean over models'),
  'model/gradient_steps': base.Metric('gradient steps, mean over models'),
  'model/rejected': base.Metric('models that met a non-finite loss'),
  'nonfinite/stored': base.Metric(
    'transitions in the buffer that the fit left out; they came in by another'
    ' way',
    over_runs='sum',
  ),
  'nonfinite/members': base.Metric(
    'models that were drawn anew before the fit', over_runs='sum'
  ),
}

# Reported with `model.predict_done`.
DONE = {
  'model/done_accuracy': base.Metric(
    'terminations of the buffer that the models predict: half the share of'
    ' those found, and half that of the other transitions kept, mean over'
    ' models; 0.5 says nothing'
  ),
}

POLICY = {
  'policy/std': base.Metric(
    "standard deviation of the policy's actions, mean over dimensions; of"
    ' Gaussian policies'
  ),
  'policy/saturated': base.Metric(
    "share of collected actions beyond the environment's bounds, by element"
  ),
}

STUCK = {
  base.STUCK: base.Metric(
    '1 where the iteration took no step, and numbers that are not finite are'
    ' why'
  )
}
