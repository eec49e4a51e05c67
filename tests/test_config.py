"""The configuration: every bad field is named, with what it may be."""

import importlib.util
import pathlib
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.algorithms.mbmpo import config as mbmpo
from mbmpo_jax.training.launch import tiny as tiny_lib

_CONFIGS = pathlib.Path(__file__).parents[1] / 'experiments' / 'configs'


def _set(config: config_lib.Experiment, name: str, value: object) -> None:
  holder: Any = config
  *sections, field = name.split('.')
  for section in sections:
    holder = getattr(holder, section)
  setattr(holder, field, value)


@pytest.mark.parametrize(
  ('name', 'value', 'allowed'),
  [
    ('seed', 1.5, 'an int >= 0'),
    ('seed', True, 'an int'),
    ('seed', -1, '>= 0'),
    ('seed', 2**31, '<= 2147483647'),
    ('env', 'point', 'Env'),
    ('env.name', 3, 'a string'),
    ('policy.hidden_sizes', [32, 32], 'a tuple of int'),
    ('policy.hidden_sizes', (32, 'a'), 'a tuple of int'),
    ('policy.hidden_sizes', (32, 0), '>= 1'),
    ('policy.learn_std', 1, 'True or False'),
    ('policy.init_std', 1e-9, 'policy.min_std'),
    ('model.clip_margin', -1.0, 'None or a finite float >= 0'),
    ('model.precision', 'float16', "'highest', 'tensorfloat32', 'bfloat16'"),
    ('model.validation_fraction', 1.0, '> 0 and < 1'),
    ('meta.inner_lr', float('nan'), 'a finite float'),
    ('trust_region.max_kl', 0.0, '> 0'),
    ('trust_region.max_kl', 1e-300, '0.0 in single precision'),
    ('trust_region.max_kl', 10**60, 'a finite float > 0'),
    ('model.rolling_persistence', 1 - 1e-12, '1.0 in single precision'),
    ('model.precision', 'hihgest', "did you mean 'highest'"),
    ('collect.policy', 'Meta', "'adapted', 'meta' (did you mean 'meta'"),
    ('collect.buffer_capacity', 10**12, '<= 100000000'),
    ('model.hidden_sizes', (512, 10**9), '<= 65536'),
    ('model.hidden_sizes', (60_000, 60_000), '<= 2147483647'),
    ('run.num_iterations', 600_000, '2400000000 transitions'),
    ('model_rollouts.rollouts_per_task', 10**6, '4000000000 steps'),
    ('advantage.discount', 1.01, '<= 1'),
    ('collect.num_trajectories', 7, 'multiple of 20'),
    ('collect.buffer_capacity', 3999, '>= 4000'),
    ('run.num_iterations', 0, '>= 1'),
  ],
)
def test_bad_value_is_named_with_what_is_allowed(
  name: str, value: object, allowed: str
) -> None:
  """One line: field, value, allowed."""
  config = mbmpo.Config()
  _set(config, name, value)
  with pytest.raises(config_lib.ConfigError) as error:
    validation.validate(config)
  message = str(error.value)
  assert message.startswith(f'{name}={value!r}: ')
  assert allowed in message
  assert '\n' not in message


@pytest.mark.parametrize(
  ('name', 'nearest'), [('meta.inner_rl', 'inner_lr'), ('sede', 'seed')]
)
def test_misspelt_assignment_is_refused(name: str, nearest: str) -> None:
  """Python would let a configuration file assign to any attribute."""
  config = mbmpo.Config()
  _set(config, name, 1)
  with pytest.raises(config_lib.ConfigError, match=f'{name}.*{nearest!r}'):
    validation.validate(config)


def test_small_validation_split_is_refused() -> None:
  """A split of which one side is empty cannot stop a fit early."""
  config = mbmpo.Config()
  config.collect.num_trajectories, config.collect.episode_length = 20, 1
  config.model.validation_fraction = 0.01
  with pytest.raises(config_lib.ConfigError, match='validation_fraction'):
    validation.validate(config)


@pytest.mark.parametrize(
  'name', ['collect.episode_length', 'model_rollouts.horizon']
)
def test_environment_limits_lengths(name: str) -> None:
  """Lengths are held against the environment's limit where it is known."""
  config = mbmpo.Config()
  _set(config, 'collect.episode_length', 30)
  _set(config, 'model_rollouts.horizon', 30)
  _set(config, name, 31)
  validation.validate(config)
  with pytest.raises(config_lib.ConfigError, match=f'{name}=31.*<= 30'):
    validation.validate(config, env_max_episode_steps=30)


@hypothesis.given(
  st.sampled_from(['advantage.discount', 'advantage.gae_lambda']),
  st.floats(allow_nan=True, allow_infinity=True),
)
def test_closed_unit_interval(name: str, value: float) -> None:
  """Accepted exactly where 0 <= value <= 1."""
  config = mbmpo.Config()
  _set(config, name, value)
  if 0 <= value <= 1:
    validation.validate(config)
  else:
    with pytest.raises(config_lib.ConfigError, match=name):
      validation.validate(config)


def test_flatten_and_allowed_values_name_the_same_fields() -> None:
  """Dotted names, in both."""
  flat = config_lib.flatten(mbmpo.Config())
  assert list(flat) == list(validation.allowed_values(mbmpo.Config))
  assert flat['model.hidden_sizes'] == (512, 512)
  assert len(flat) > 30


@pytest.mark.parametrize('name', algorithms.names())
def test_every_algorithm_has_a_configuration(name: str) -> None:
  """Its defaults are allowed, as they are and as small as a smoke test."""
  config = algorithms.config(name)()
  assert config.algorithm == name
  validation.validate(config)
  small = tiny_lib.shrink(config)
  validation.validate(small)
  assert small.collect.episode_length == 5
  assert config.collect.episode_length >= 200
  assert config_lib.flatten(config).keys() == config_lib.flatten(small).keys()


def test_unknown_algorithm_is_refused_with_the_nearest() -> None:
  with pytest.raises(
    algorithms.UnknownAlgorithmError, match="'mbmpo'"
  ) as error:
    algorithms.config('mbmo')
  assert '\n' not in str(error.value)


@pytest.mark.parametrize(
  'path',
  sorted(_CONFIGS.glob('*/*.py')),
  ids=lambda path: f'{path.parent.name}/{path.stem}',
)
def test_presets_are_valid(path: pathlib.Path) -> None:
  """Each fits its folder and environment; each call returns a fresh object."""
  spec = importlib.util.spec_from_file_location(path.stem, path)
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config = module.get_config()
  assert type(config) is algorithms.config(path.parent.name)
  env = envs.make(config.env.name)
  validation.validate(config, env_max_episode_steps=env.max_episode_steps)
  if isinstance(env, envs.Tasked):
    for made in (config, tiny_lib.shrink(config)):
      length = made.collect.episode_length
      built = envs.from_config(made.env, episode_length=length)
      assert isinstance(built, envs.Tasked)
      assert envs.switches(made.env) == (built.schedule == 'switch')
  else:
    assert not envs.switches(config.env)
  config.run.eval_episodes = 7
  assert module.get_config().run.eval_episodes != 7
