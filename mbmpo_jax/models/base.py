"""The interface of dynamics models: a named tuple of functions.

Axes: members `K` lead parameters and models, where there are several; rollouts
`N`, then features. Below, a `model` is that of one member, without its leading
axis; callers use `jax.vmap` over members.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mbmpo_jax import types


class Prediction(NamedTuple):
  """A model's prediction of one step in N rollouts."""

  next_obs: jax.Array  # [N, O], NaN where the model's output is not finite
  reward: jax.Array | None = None  # [N]; None: the environment's `reward`
  terminated: jax.Array | None = None  # [N]; None: the environment's `done`
  extras: Any = ()


class Dynamics(NamedTuple):
  """A dynamics model.

  Attributes:
    init: key -> params of all members, leaves `[K, ...]`; consumes the key.
    ready: `(params, statistics) -> model [K, ...]`, computes once per fit all
      that is constant in a rollout. The statistics are those of the data,
      `models.statistics.Statistics`.
    start: `(model, key, context, num) -> carry`, for `num` rollouts that share
      the context; consumes the key.
    predict: `(model, carry, obs [N, O], env_action [N, A], key) -> (carry,
      Prediction)`; a deterministic model ignores the key.
    loss: `(params of one member, inputs [B, I], targets [B, O], weight [B],
      key) -> scalar`, the sum of row losses times weights; consumes the key.
      Inputs and targets are standardised.
    error: as `loss`, but the sum of squared errors of the mean prediction. It
      validates members that stop by a `patience`. `None`: the loss does.
    perturb: `(model [K, ...], key) -> model`, draws what is random in each fit,
      after `ready`; consumes the key. `None` if nothing is random.
    starts: `(model, key, shape) -> obs [*shape, O]`, samples the first
      observations of episodes; consumes the key. `None` for starts from the
      environment (`starts.draw`).
  """

  init: Callable[[jax.Array], types.Params]
  ready: Callable[..., Any]
  start: Callable[..., Any]
  predict: Callable[..., tuple[Any, Prediction]]
  loss: Callable[..., jax.Array]
  error: Callable[..., jax.Array] | None = None
  perturb: Callable[[Any, jax.Array], Any] | None = None
  starts: Callable[..., jax.Array] | None = None
