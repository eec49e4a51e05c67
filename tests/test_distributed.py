"""Two processes, over loopback, train what one does, and take over from it."""

import contextlib
import json
import pathlib
import random
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from mbmpo_jax.training import signals
from tests import runs


def _start(
  workdir: pathlib.Path,
  iterations: int,
  processes: int,
  *more: str,
  config: tuple[str, ...] = runs.POINT,
) -> list[subprocess.Popen]:
  """Starts training up to an iteration, with a device per process."""
  command = [
    sys.executable,
    str(runs.ROOT / 'experiments' / 'train.py'),
    *config,
    f'--workdir={workdir}',
    f'--config.run.num_iterations={iterations}',
    *more,
  ]
  by_cluster = '--distributed' in more
  by_flags = processes > 1 and not by_cluster
  port = _free_port()
  if by_flags:
    command += [
      f'--coordinator_address=127.0.0.1:{port}',
      f'--num_processes={processes}',
    ]
  environment = runs.environment() | {'JAX_ENABLE_X64': '1'}
  return [
    subprocess.Popen(
      command + [f'--process_id={index}'] * by_flags,
      env=environment | (_slurm(port, index, processes) if by_cluster else {}),
      stdout=subprocess.PIPE,
      stderr=subprocess.STDOUT,
      text=True,
    )
    for index in range(processes)
  ]


# JAX takes the port from the number of a Slurm job: its last 12 bits.
_SLURM_PORTS = range(2**16 - 2**12, 2**16)


def _free_port() -> int:
  """One of those that a Slurm job may stand for."""
  for port in random.sample(_SLURM_PORTS, 50):
    with socket.socket() as free, contextlib.suppress(OSError):
      free.bind(('127.0.0.1', port))
      return port
  raise RuntimeError('no port is free')


def _slurm(port: int, index: int, processes: int) -> dict[str, str]:
  """What Slurm tells a process."""
  return {
    'SLURM_JOB_ID': str(port - _SLURM_PORTS[0]),
    'SLURM_STEP_NODELIST': 'localhost',
    'SLURM_STEP_NUM_NODES': '1',
    'SLURM_NTASKS': str(processes),
    'SLURM_PROCID': str(index),
    'SLURM_LOCALID': str(index),
  }


def _finish(started: list[subprocess.Popen], code: int = 0) -> str:
  """What the first says to its end; the others say nothing of iterations."""
  try:
    said = [process.communicate(timeout=300)[0] for process in started]
  finally:
    for process in started:
      process.kill()
  for process, text in zip(started, said, strict=True):
    assert process.returncode == code, text
    assert 'iteration 1/' not in text or process is started[0]
  return said[0]


def _train(
  workdir: pathlib.Path,
  iterations: int,
  processes: int = 1,
  *more: str,
  config: tuple[str, ...] = runs.POINT,
) -> str:
  return _finish(_start(workdir, iterations, processes, *more, config=config))


def _rows(workdir: pathlib.Path) -> list[dict[str, float]]:
  """metrics.jsonl without what depends on the clock; NaN for null."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [
    {
      name: np.nan if value is None else value
      for name, value in json.loads(line).items()
      if not name.startswith(('time/', 'throughput/'))
    }
    for line in lines
  ]


def _assert_same(workdir: pathlib.Path, expected: pathlib.Path) -> None:
  rows, expected_rows = _rows(workdir), _rows(expected)
  assert [r['iteration'] for r in rows] == list(range(len(expected_rows)))
  for row, expected_row in zip(rows, expected_rows, strict=True):
    assert row.keys() == expected_row.keys()
    for name, value in expected_row.items():
      # Two metrics are float32 whatever the rest is.
      rtol = 1e-6 if name in ('eval/best_return', 'model/epochs') else 1e-8
      np.testing.assert_allclose(
        row[name], value, rtol=rtol, atol=1e-12, err_msg=name
      )


@pytest.mark.slow  # Eight devices of one process are tested by make test.
def test_two_processes_train_what_one_does(tmp_path: pathlib.Path) -> None:
  """And leave one folder, as one would; MB-MPC's, whose programs are small."""
  _train(tmp_path / 'one', 1, config=runs.PLANNING)
  said = _train(tmp_path / 'two', 1, processes=2, config=runs.PLANNING)
  assert said.count('iteration 1/1') == 1
  _assert_same(tmp_path / 'two', tmp_path / 'one')
  for folder in ('one', 'two'):
    names = {path.name for path in (tmp_path / folder).iterdir()}
    assert names == {
      '.lock',
      'checkpoints',
      'config.json',
      'learning_curve.png',
      'machines.jsonl',
      'metrics.jsonl',
      'tensorboard',
    }
    assert len(list((tmp_path / folder / 'tensorboard').iterdir())) == 1


@pytest.mark.slow
def test_a_cluster_says_which_process_this_is(tmp_path: pathlib.Path) -> None:
  """And two processes share the tasks of three members, not the members."""
  sizes = (
    '--config.model.num_models=3',
    '--config.model_rollouts.tasks_per_model=2',
    '--config.collect.num_trajectories=6',
  )
  _train(tmp_path / 'one', 2, 1, *sizes)
  said = _train(tmp_path / 'two', 2, 2, '--distributed', *sizes)
  assert said.count('iteration 2/2') == 1
  _assert_same(tmp_path / 'two', tmp_path / 'one')


@pytest.mark.slow
@pytest.mark.parametrize('first', [1, 2])
def test_one_process_and_two_take_over_from_each_other(
  first: int, tmp_path: pathlib.Path
) -> None:
  """To the same numbers as one that is never interrupted."""
  _train(tmp_path / 'whole', 4)
  _train(tmp_path / 'parts', 2, processes=first)
  said = _train(tmp_path / 'parts', 4, processes=3 - first)
  assert 'resuming after 2 of 4 iterations' in said
  _assert_same(tmp_path / 'parts', tmp_path / 'whole')


@pytest.mark.slow
def test_a_cpu_is_split_into_devices(tmp_path: pathlib.Path) -> None:
  _train(tmp_path / 'one', 2)
  said = _train(tmp_path / 'two', 2, 1, '--num_devices=2')
  assert 'iteration 2/2' in said
  _assert_same(tmp_path / 'two', tmp_path / 'one')


@pytest.mark.slow
def test_a_signal_to_one_process_stops_both(tmp_path: pathlib.Path) -> None:
  """After the same iteration, with a checkpoint of it."""
  started = _start(tmp_path, 10_000, processes=2)
  for line in started[0].stdout:
    if line.startswith('iteration 2/'):
      break
  started[1].send_signal(signal.SIGTERM)
  assert 'the same command again continues' in _finish(started, signals.STOPPED)
  newest = max(int(path.name) for path in (tmp_path / 'checkpoints').iterdir())
  assert len(_rows(tmp_path)) == newest >= 2
