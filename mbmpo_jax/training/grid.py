"""The runs of a sweep: all combinations of values, each with every seed."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mbmpo_jax import config as config_lib
from mbmpo_jax import validation

# Each run has a folder, and uses memory in every program.
MOST_RUNS = 10_000


class Setting(NamedTuple):
  """One combination of values.

  Attributes:
    label: such as `meta.inner_lr=0.001,advantage.discount=0.9`; empty if no
      field is swept.
    configs: the configurations of its runs, one per seed; each also describes
      the run on its own.
  """

  label: str
  configs: tuple[config_lib.Experiment, ...]


class Grid:
  """The product of hyperparameter values and seeds.

  Attributes:
    config: the configuration that all runs share.
    values: the values of each swept field, by its dotted name.
    num_seeds: runs per combination; the seeds are `config.seed` and the
      following integers.
    settings: the combinations; the last field varies fastest.
  """

  def __init__(
    self,
    config: config_lib.Experiment,
    values: Mapping[str, Sequence[float]],
    *,
    num_seeds: int = 1,
  ) -> None:
    """Builds the configuration of every run.

    Raises:
      ConfigError: if a field cannot be swept, or a value is not allowed.
    """
    for name, swept in values.items():
      check_field(type(config), name)
      if not swept:
        raise config_lib.ConfigError(
          f'sweep.{name}: must have at least one value, each'
          f' {allowed(type(config), name)}'
        )
      for value in swept:
        if swept.count(value) > 1:
          raise config_lib.ConfigError(
            f'sweep.{name}={_join(swept)}: must have {value:g} only once'
          )
    if num_seeds < 1:
      raise config_lib.ConfigError(
        f'num_seeds={num_seeds}: must be an int >= 1'
      )
    total = math.prod(map(len, values.values())) * num_seeds
    if total > MOST_RUNS:
      raise config_lib.ConfigError(
        f'num_seeds={num_seeds}: makes {total} runs with the values of'
        f' {len(values)} fields: must be at most {MOST_RUNS} runs in one sweep'
      )
    self.config = config
    self.values = {name: tuple(swept) for name, swept in values.items()}
    self.num_seeds = num_seeds
    self.settings = tuple(
      self._setting(dict(zip(values, combination, strict=True)))
      for combination in itertools.product(*self.values.values())
    )

  def runs(self) -> dict[str, config_lib.Experiment]:
    """Returns every run's name and configuration, grouped by setting.

    A name consists of the setting's label and the seed, as in
    `meta.inner_lr=0.001,seed=0`.
    """
    return {
      run_name(setting, config): config
      for setting in self.settings
      for config in setting.configs
    }

  def _setting(self, values: dict[str, float]) -> Setting:
    seeds = range(self.config.seed, self.config.seed + self.num_seeds)
    configs = tuple(
      config_lib.replaced(self.config, {**values, 'seed': seed})
      for seed in seeds
    )
    for config in configs:
      validation.validate(config)
    label = ','.join(f'{name}={value}' for name, value in values.items())
    return Setting(label, configs)


def run_name(setting: Setting, config: config_lib.Experiment) -> str:
  """Returns the name of a run of the setting."""
  return ','.join(filter(None, [setting.label, f'seed={config.seed}']))


def check_field(kind: type[config_lib.Experiment], name: str) -> None:
  """Checks that the runs of a sweep may differ in a field.

  Raises:
    ConfigError: one line with the nearest such field, and all of them.
  """
  sweepable = config_lib.sweepable(kind)
  if name in sweepable:
    return
  if name == 'seed':
    problem = 'must be set by seed (the first one) and num_seeds'
  elif name in validation.allowed_values(kind):
    problem = 'cannot be swept'
  else:
    problem = f'algorithm {kind.algorithm!r} has no such field'
  raise config_lib.ConfigError(
    f'sweep.{name}: {problem}{validation.nearest(name, sweepable)};'
    f' fields that can be swept: {", ".join(sweepable) or "none"}'
  )


def allowed(kind: type[config_lib.Experiment], name: str) -> str:
  """Describes the values that a field may have."""
  return validation.allowed_values(kind)[name]


def _join(values: Sequence[float]) -> str:
  return ','.join(map(str, values))
