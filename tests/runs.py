"""Runs of the binary in processes of their own, and what they leave."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import threading

import jax
import numpy as np

from mbmpo_jax.training.storage import checkpoint
from tests import haste

ROOT = pathlib.Path(__file__).parents[1]
# `tiny.point_config`, as flags.
POINT = (
  f'--config={ROOT}/experiments/configs/mbmpo/point.py',
  '--config.policy.hidden_sizes=(8,)',
  '--config.model.num_models=2',
  '--config.model.hidden_sizes=(16,)',
  '--config.model.batch_size=32',
  '--config.model.max_epochs=2',
  '--config.model.early_stopping=False',
  '--config.collect.num_trajectories=4',
  '--config.collect.episode_length=10',
  '--config.model_rollouts.tasks_per_model=2',
  '--config.model_rollouts.rollouts_per_task=3',
  '--config.model_rollouts.horizon=10',
  '--config.meta.num_meta_steps=2',
  '--config.run.eval_episodes=4',
  '--config.run.render=False',
)
# Programs that compile in half the time: MB-MPC's, on any number of devices,
PLANNING = (
  f'--config={ROOT}/experiments/configs/mb_mpc/point.py',
  *(flag for flag in POINT if '.model.' in flag or '.collect.' in flag),
  '--config.planner.num_candidates=20',
  '--config.planner.horizon=3',
  '--config.run.eval_episodes=4',
  '--config.run.render=False',
)
# and PPO's, on one.
STEPPING = (
  f'--config={ROOT}/experiments/configs/ppo/point.py',
  '--config.collect.num_envs=4',
  '--config.collect.steps_per_env=10',
  '--config.collect.episode_length=10',
  '--config.run.eval_episodes=4',
  '--config.run.render=False',
)


def environment() -> dict[str, str]:
  """Of a process on one device, which compiles quickly."""
  flags = haste.FLAGS | {
    '--xla_backend_optimization_level': '0',
    '--xla_llvm_disable_expensive_passes': 'true',
  }
  return os.environ | {
    'PYTHONPATH': str(ROOT),
    'JAX_PLATFORMS': 'cpu',
    'XLA_FLAGS': ' '.join(f'{flag}={value}' for flag, value in flags.items()),
  }


def start(workdir: pathlib.Path, iterations: int) -> subprocess.Popen[str]:
  """Starts training by PPO; what it says can be read line by line."""
  return subprocess.Popen(
    [
      sys.executable,
      str(ROOT / 'experiments' / 'train.py'),
      *STEPPING,
      f'--config.run.num_iterations={iterations}',
      f'--workdir={workdir}',
    ],
    env=environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )


def finish(process: subprocess.Popen[str]) -> tuple[str, int]:
  """What is said to the end, and the exit code."""
  try:
    said, _ = process.communicate(timeout=300)
  finally:
    process.kill()
  return said, process.returncode


def kill_after(process: subprocess.Popen[str], seconds: float) -> None:
  """Kills it then, while this thread may read on."""
  timer = threading.Timer(seconds, process.send_signal, [signal.SIGKILL])
  timer.daemon = True
  timer.start()


def rows(workdir: pathlib.Path) -> list[dict[str, float | None]]:
  """metrics.jsonl without what depends on the clock."""
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  clock = ('time/', 'throughput/')
  return [
    {k: v for k, v in json.loads(line).items() if not k.startswith(clock)}
    for line in lines
  ]


def assert_same(
  workdir: pathlib.Path, expected: pathlib.Path, message: str = ''
) -> None:
  """Row by row without a gap, and all that is saved, bit for bit."""
  found = rows(workdir)
  assert [row['iteration'] for row in found] == list(range(len(found)))
  assert found == rows(expected), message
  step, tree = checkpoint.read_part(workdir / 'checkpoints', ())
  expected_step, expected_tree = checkpoint.read_part(
    expected / 'checkpoints', ()
  )
  assert step == expected_step == len(found)
  jax.tree.map(np.testing.assert_array_equal, tree, expected_tree)


def where_killed(workdir: pathlib.Path) -> str:
  """What a process was doing, by what it left."""
  directory = workdir / 'checkpoints'
  if list(directory.glob('*.partial*')):
    return 'while saving'
  newest = max(checkpoint.steps(directory), default=0)
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return 'row ahead' if len(lines) > newest else 'between'
