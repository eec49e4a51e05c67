"""The state of a run of MB-MPO."""

from typing import Any, NamedTuple

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import fit
from mbmpo_jax.rollouts import buffer as buffer_lib


class State(NamedTuple):
  """The complete state of a run; a copy continues the run."""

  counters: base.Counters
  hyper: base.Hyper
  policy: types.Params  # theta
  ensemble: fit.FitState  # K members and their optimisers' states
  model: Any  # the members after the last fit, for imagination, [K, ...]
  buffer: buffer_lib.Buffer
