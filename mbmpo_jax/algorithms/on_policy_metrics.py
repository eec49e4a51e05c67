"""The metrics that all on-policy algorithms report."""

from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import shared_metrics

METRICS = {
  **shared_metrics.COLLECT,
  'real_steps': base.Metric(
    'real transitions of the iteration',
    over_runs='sum',
    per_second_of='learn',
  ),
  'real/return': base.Metric(
    'undiscounted return of the episodes that ended in the iteration, as'
    ' collected for learning, mean',
    label='real',
    curve='real, as collected',
  ),
  **shared_metrics.POLICY,
  'policy/entropy': base.Metric(
    "the policy's entropy before the iteration's update, mean over steps, in"
    ' nats'
  ),
  'policy/kl': base.Metric(
    'mean KL from the policy that collected to the one that was learned, both'
    ' of observations in units of what had been seen by then, in nats'
  ),
  'value/loss': base.Metric(
    'half the mean squared error of the values before their update'
  ),
  'value/explained': base.Metric(
    "share of the returns' variance that the values explained before their"
    ' update; 1 at best'
  ),
  'nonfinite/updates': base.Metric(
    'gradient updates that were not taken, as their gradients were not finite',
    over_runs='sum',
  ),
  **shared_metrics.STUCK,
}
