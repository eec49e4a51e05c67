"""The metrics that all on-policy algorithms report."""

from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import shared_metrics

METRICS = {
  **shared_metrics.CONTINUED,
  **shared_metrics.POLICY,
  'policy/entropy': base.Metric(
    'entropy of the policy before the update, mean over the collected steps, in'
    ' nats'
  ),
  'policy/kl': base.Metric(
    'mean KL divergence KL(old, new) between the policies before and after the'
    ' update, in nats; PPO and PE-PPO estimate it from the sampled actions;'
    ' both policies use the observation normalisation from before the update'
  ),
  'value/loss': base.Metric(
    'half the mean squared error of the value network before its update; the'
    ' targets are lambda-returns'
  ),
  'value/explained': base.Metric(
    'share of the variance of the lambda-returns that the value network'
    ' explained before its update; at most 1'
  ),
  **shared_metrics.STUCK,
}
