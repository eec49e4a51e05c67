"""What a learned world is: a dynamics model as a named tuple of functions.

Axes: members `K` lead parameters and models where there are several; rollouts
`N`, then features. A `model` below is one member's, without its leading axis;
callers `jax.vmap` over members.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from mbmpo_jax import types


class Prediction(NamedTuple):
  """What a model says of one step in N worlds."""

  next_obs: jax.Array  # [N, O], NaN where the model's output is not finite
  reward: jax.Array | None = None  # [N]; None: the environment's function says
  terminated: jax.Array | None = None  # [N]; None: the environment's says
  extras: Any = ()


class Dynamics(NamedTuple):
  """A dynamics model.

  Attributes:
    init: key -> params of all members, leaves `[K, ...]`; consumes the key.
    ready: `(params, statistics) -> model [K, ...]`: everything that does not
      change within a rollout, computed once per fit. The statistics are those
      of the data, `models.statistics.Statistics`.
    start: `(model, key, context, num) -> carry`, of `num` rollouts that share
      the context; consumes the key.
    predict: `(model, carry, obs [N, O], env_action [N, A], key) -> (carry,
      Prediction)`; a model that draws nothing ignores the key.
    loss: `(params of one member, inputs [B, I], targets [B, O], weight [B],
      key) -> scalar`, the sum over rows by weight; consumes the key. Inputs and
      targets are standardised.
    perturb: `(model [K, ...], key) -> model`: what is drawn anew in every fit,
      after `ready`; consumes the key. `None` where nothing is.
    starts: `(model, key, shape) -> obs [*shape, O]`, how episodes begin;
      consumes the key. `None` where the environment says (`starts.draw`).
  """

  init: Callable[[jax.Array], types.Params]
  ready: Callable[..., Any]
  start: Callable[..., Any]
  predict: Callable[..., tuple[Any, Prediction]]
  loss: Callable[..., jax.Array]
  perturb: Callable[[Any, jax.Array], Any] | None = None
  starts: Callable[..., jax.Array] | None = None
