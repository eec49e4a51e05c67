"""The examples run as they are shown."""

import json
import pathlib
import runpy
import subprocess
import sys

import pytest

from mbmpo_jax import envs

_EXAMPLES = pathlib.Path(__file__).parents[1] / 'experiments' / 'examples'


def test_own_environment_is_registered(monkeypatch):
  monkeypatch.setattr(envs, '_FACTORIES', dict(envs._FACTORIES))
  runpy.run_path(str(_EXAMPLES / 'own_environment.py'))
  env = envs.make('my_cartpole')
  assert (env.action_size, env.dt) == (1, 0.02)
  with pytest.raises(ValueError, match="'my_cartpole' is already registered"):
    envs.register('my_cartpole', type(env))


@pytest.mark.slow
def test_own_environment_is_learned(tmp_path):
  """Episodes last longer in imagination and in reality alike.

  It keeps the contract: `make` checks what is not the package's own.
  """
  subprocess.run(
    [sys.executable, str(_EXAMPLES / 'own_environment.py')],
    cwd=tmp_path,
    check=True,
  )
  lines = (tmp_path / 'runs/my_cartpole/metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  assert rows[0]['real/return'] < 50
  assert rows[-1]['real/return'] > 150
  # Of a horizon of 100 steps.
  assert rows[0]['imagined/length'] < 60
  assert rows[-1]['imagined/length'] > 80


@pytest.mark.slow
@pytest.mark.parametrize(
  ('name', 'least'),
  [
    ('gym_pendulum', -200),
    ('gym_pendulum_learned_reward', -250),
    ('gym_inverted_pendulum', 900),
    ('gym_cartpole', 450),
    ('offline_pendulum', -400),
  ],
)
def test_worlds_of_gymnasium_are_learned(name, least, tmp_path):
  """The mean return of 20 whole episodes, played by Gymnasium itself."""
  done = subprocess.run(
    [sys.executable, str(_EXAMPLES / f'{name}.py')],
    cwd=tmp_path,
    check=True,
    capture_output=True,
    text=True,
  )
  assert float(done.stdout.strip().rpartition(' ')[2]) >= least
