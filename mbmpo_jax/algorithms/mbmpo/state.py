"""What a run of MB-MPO is between two calls."""

from typing import Any, NamedTuple

from mbmpo_jax import types
from mbmpo_jax.algorithms import base
from mbmpo_jax.models import fit
from mbmpo_jax.rollouts import buffer as buffer_lib


class State(NamedTuple):
  """Everything a run is: copy it and the run goes on from there."""

  counters: base.Counters
  hyper: base.Hyper
  policy: types.Params  # theta
  ensemble: fit.FitState  # K members and their optimiser's state
  model: Any  # the members as last fitted, ready to imagine with, [K, ...]
  buffer: buffer_lib.Buffer
