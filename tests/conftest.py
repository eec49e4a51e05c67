"""What holds for the whole suite: devices, the compilation cache, strictness.

The environment variables are set before JAX starts its backends; programs that
tests start inherit them.
"""

import functools
import gc
import os
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import pytest
from mujoco import mjx

from tests import haste

# Sharding is tested on eight simulated devices.
_flags = {'--xla_force_host_platform_device_count': '8'}
if os.environ.get('JAX_DISABLE_MOST_OPTIMIZATIONS'):
  _flags |= haste.FLAGS
# What is already chosen stays.
_chosen = os.environ.get('XLA_FLAGS', '')
os.environ['XLA_FLAGS'] = ' '.join(
  [_chosen, *(f'{k}={v}' for k, v in _flags.items() if k not in _chosen)]
).strip()

# Tracing makes millions of objects that live: looking through all of them for
# garbage, as often as Python does, is a sixth of the suite's time.
gc.freeze()
gc.set_threshold(50_000, 20, 50)

# Most of the suite's time is compilation, half of that of programs that are
# compiled in a moment, by many tests; a second run saves most of it.
_cache = pathlib.Path(__file__).resolve().parent.parent / '.cache' / 'xla'
os.environ.setdefault('JAX_COMPILATION_CACHE_DIR', str(_cache))
os.environ.setdefault('JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS', '0')
# JAX read these two when it was imported.
jax.config.update(
  'jax_compilation_cache_dir', os.environ['JAX_COMPILATION_CACHE_DIR']
)
jax.config.update(
  'jax_persistent_cache_min_compile_time_secs',
  float(os.environ['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS']),
)

# An array that broadcasts by accident is a bug that no shape shows.
jax.config.update('jax_numpy_rank_promotion', 'raise')


def _lenient(function: Callable[..., Any]) -> Callable[..., Any]:
  @functools.wraps(function)
  def call(*args: Any, **kwargs: Any) -> Any:
    with jax.numpy_rank_promotion('allow'):
      return function(*args, **kwargs)

  return call


# MJX broadcasts on purpose; what calls it stays strict.
for _name in (
  *('put_model', 'put_data', 'make_data', 'forward', 'step'),
  *('com_pos', 'com_vel', 'rne_postconstraint'),
):
  setattr(mjx, _name, _lenient(getattr(mjx, _name)))


@pytest.fixture(scope='module', autouse=True)
def _forgotten() -> Iterator[None]:
  """What a file of tests has compiled is not kept for the others."""
  yield
  jax.clear_caches()
  gc.collect()


@pytest.fixture
def x64() -> Iterator[None]:
  """Double precision, for the test that asks for it."""
  with jax.enable_x64(True):
    yield
