"""The fit of a surrogate: gradient steps on the evidence lower bound."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mbmpo_jax import masking
from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.algorithms import model_based
from mbmpo_jax.algorithms import tally as tally_lib
from mbmpo_jax.algorithms.gssm import config as config_lib
from mbmpo_jax.algorithms.gssm import contexts
from mbmpo_jax.models import fit as fit_lib
from mbmpo_jax.models import statistics as statistics_lib
from mbmpo_jax.models.neural_process import sets
from mbmpo_jax.models.neural_process import surrogate as surrogate_lib
from mbmpo_jax.objectives import elbo

METRICS = {
  'model/loss': base.Metric(
    'negative evidence lower bound per target point, mean over gradient steps;'
    ' on standardised data if `model.standardize` is on',
    label='model loss',
    panel='model loss',
  ),
  'model/nll': base.Metric(
    'first term of `model/loss`: negative log-likelihood -log p(y given x, z)'
  ),
  'model/kl': base.Metric(
    'second term of `model/loss`, before the factor `model.kl_weight`: KL'
    " divergence of the targets' latent distribution from the context's"
  ),
  'model/gradient_steps': base.Metric('gradient steps taken'),
  'nonfinite/stored': base.Metric(
    'transitions in the buffer that were left out of the fit because a number'
    ' in them, or computed from them, was not finite',
    over_runs='sum',
  ),
  'nonfinite/model_updates': base.Metric(
    'gradient steps of the model that were skipped because a number in them was'
    ' not finite',
    over_runs='sum',
  ),
}
_TALLIED = ('model/loss', 'model/nll', 'model/kl')


def make(
  surrogate: surrogate_lib.Surrogate, section: config_lib.Model
) -> Callable[..., tuple[fit_lib.FitState, Any, types.Metrics]]:
  """Builds the fit of a surrogate.

  Each gradient step samples tasks and points of each task, and splits them into
  a context and targets. A step that is not finite is not taken.

  Args:
    surrogate: the model to fit.
    section: the settings of the fit.

  Returns:
    A function `(state, data, next_obs, stored, current, hyper, key) -> (state,
    model, METRICS)`. The state is a `fit.FitState` of one member, `data` the
    `contexts.Data` of a buffer. `next_obs` [C, O] and `stored` [C] are the
    buffer's, and `current` is the current task's number. The key is consumed.
  """
  rows = section.context_size + section.target_size

  def fit(
    state: fit_lib.FitState,
    data: contexts.Data,
    next_obs: jax.Array,
    stored: jax.Array,
    current: jax.Array,
    hyper: base.Hyper,
    key: jax.Array,
  ) -> tuple[fit_lib.FitState, Any, types.Metrics]:
    statistics = surrogate_lib.statistics(data.points, next_obs, section)
    standard = data._replace(points=sets.standardize(data.points, statistics))
    adam = model_based.optimizer(hyper)

    def loss(params: types.Params, keys: jax.Array, tasks: jax.Array) -> Any:
      def of_task(key: jax.Array, task: jax.Array) -> Any:
        draw_key, split_key, key = jax.random.split(key, 3)
        points = contexts.draw(standard, task, draw_key, count=rows)
        context, targets = elbo.split(
          points,
          split_key,
          context_size=section.context_size,
          target_size=section.target_size,
          min_context=section.min_context,
        )
        return surrogate.loss(
          params, context, targets, key, kl_weight=hyper['model.kl_weight']
        )

      losses, info = jax.vmap(of_task)(keys, tasks)
      return jnp.mean(losses), jax.tree.map(jnp.mean, info)

    def step(carry: Any, key: jax.Array) -> tuple[Any, None]:
      params, opt_state, taken, tally = carry
      task_key, key = jax.random.split(key)
      num = section.tasks_per_step
      tasks = contexts.choose(
        standard, current, task_key, kind=section.data, num=num
      )
      (value, info), gradient = jax.value_and_grad(loss, has_aux=True)(
        params, jax.random.split(key, num), tasks
      )
      changes, after = adam.update(gradient, opt_state, params)
      changed = optax.apply_updates(params, changes)
      finite = masking.all_finite((gradient, changed))
      params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old),
        (changed, after),
        (params, opt_state),
      )
      tally = tally_lib.add(
        tally, dict(zip(_TALLIED, (value, info.nll, info.kl), strict=True))
      )
      return (params, opt_state, taken + finite, tally), None

    params, opt_state = jax.tree.map(lambda x: x[0], tuple(state))
    start = (
      params,
      opt_state,
      jnp.zeros((), jnp.int32),
      tally_lib.start(_TALLIED),
    )
    (params, opt_state, taken, tally), _ = jax.lax.scan(
      step, start, jax.random.split(key, section.gradient_steps)
    )
    params, opt_state = jax.tree.map(lambda x: x[None], (params, opt_state))
    left_out = (stored > 0) & (data.points.mask == 0)
    return (
      fit_lib.FitState(params, opt_state),
      surrogate.dynamics.ready(params, statistics),
      {
        **tally_lib.summary(tally),
        'model/gradient_steps': taken.astype(float),
        'nonfinite/stored': jnp.sum(left_out, dtype=float),
        'nonfinite/model_updates': (section.gradient_steps - taken).astype(
          float
        ),
      },
    )

  return fit


def init(
  surrogate: surrogate_lib.Surrogate, hyper: base.Hyper, key: jax.Array
) -> fit_lib.FitState:
  """A new random member and its optimiser state; consumes `key`."""
  return fit_lib.init(surrogate.dynamics, model_based.optimizer(hyper), key)


def before_data(
  surrogate: surrogate_lib.Surrogate,
  state: fit_lib.FitState,
  statistics: statistics_lib.Statistics,
) -> Any:
  """The model before any data."""
  return surrogate.dynamics.ready(state.params, statistics)
