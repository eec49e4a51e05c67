"""What may befall a run: signals, kills, damaged files, full disks, company."""

import collections
import errno
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax.training import loop
from mbmpo_jax.training import signals
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import checkpoint
from mbmpo_jax.training.storage import lock
from mbmpo_jax.training.storage import manifest
from mbmpo_jax.training.storage import trees
from tests import fake
from tests import runs
from tests import tiny


def _train(
  config: config_lib.Experiment, workdir: pathlib.Path, **more
) -> None:
  more = {
    'make_algorithm': fake.make,
    'progress': progress_lib.Silent(),
    **more,
  }
  loop.train(config, workdir, **more)


def _saved(directory: pathlib.Path, steps: int = 3, **more) -> None:
  checkpoints = checkpoint.Checkpointer(directory, **more)
  for step in range(1, steps + 1):
    checkpoints.save(step, fake.tree(step))
  checkpoints.close()


# --- saving in the background


def test_donated_buffers_are_saved_as_they_were(
  tmp_path: pathlib.Path,
) -> None:
  """Whatever is made of the arrays once `save` has returned."""
  checkpoints = checkpoint.Checkpointer(tmp_path)
  release = threading.Event()
  # Nothing is written until the buffers have others' numbers in them.
  checkpoints._writer.submit(release.wait)
  step = jax.jit(
    lambda tree: jax.tree.map(lambda x: x + 1, tree), donate_argnums=0
  )
  tree, host = fake.tree(1), np.ones(3)
  checkpoints.save(1, tree | {'host': host})
  host[:] = 7
  for _ in range(3):
    tree = step(tree)
  jax.block_until_ready(tree)
  assert checkpoints.steps == []
  release.set()
  checkpoints.close()
  restored = checkpoint.read_part(tmp_path, ())
  assert restored is not None
  expected = fake.tree(1) | {'host': np.ones(3)}
  jax.tree.map(np.testing.assert_array_equal, restored[1], expected)


def test_old_checkpoints_go_only_when_the_new_one_is_whole(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """With its sums; and one half written is not taken for one."""
  _saved(tmp_path, keep=1)
  assert checkpoint.steps(tmp_path) == [3]
  seen = []
  real = manifest.write

  def write(path: pathlib.Path) -> None:
    seen.append((path.name, checkpoint.steps(tmp_path)))
    real(path)

  monkeypatch.setattr(manifest, 'write', write)
  checkpoints = checkpoint.Checkpointer(tmp_path, keep=1)
  checkpoints.save(4, fake.tree(4))
  checkpoints.close()
  assert seen == [('4.partial', [3])]
  assert {path.name for path in tmp_path.iterdir()} == {'4'}
  assert (tmp_path / '4' / manifest.NAME).is_file()


def test_sums_are_those_of_sha256sum(tmp_path: pathlib.Path) -> None:
  """Anybody can check a checkpoint without this package."""
  if shutil.which('sha256sum') is None:
    pytest.skip('there is no sha256sum')
  _saved(tmp_path, 1)
  command = ['sha256sum', '--check', '--strict', '--quiet', manifest.NAME]
  subprocess.run(command, cwd=tmp_path / '1', check=True)


def test_leftovers_of_a_kill_are_swept_away(tmp_path: pathlib.Path) -> None:
  """Of a save, with or without sums, and of a deletion."""
  _saved(tmp_path, 2)
  shutil.copytree(tmp_path / '2', tmp_path / '3.partial')
  (tmp_path / '4.partial.orbax-checkpoint-tmp').mkdir()
  checkpoints = checkpoint.Checkpointer(tmp_path)
  restored = checkpoints.restore_latest(fake.abstract())
  assert restored is not None and restored[0] == 2
  checkpoints.save(3, fake.tree(3))
  checkpoints.close()
  assert {path.name for path in tmp_path.iterdir()} == {'1', '2', '3'}


# --- damaged checkpoints


def _corrupt(path: pathlib.Path, how: str, rng: random.Random) -> str:
  """Damages one file of a checkpoint; says which and where."""
  file = rng.choice(sorted(p for p in path.rglob('*') if p.is_file()))
  data = bytearray(file.read_bytes())
  if how == 'missing':
    file.unlink()
    return f'{file}: missing'
  if how == 'truncated':
    length = rng.randrange(len(data))
    file.write_bytes(data[:length])
    return f'{file}: cut to {length}'
  bit = rng.randrange(8 * len(data))
  data[bit // 8] ^= 1 << bit % 8
  file.write_bytes(data)
  return f'{file}: bit {bit}'


_DAMAGES = ('truncated', 'flipped', 'missing')


@pytest.mark.parametrize('how', _DAMAGES)
def test_any_damage_is_noticed(how: str, tmp_path: pathlib.Path) -> None:
  """Anywhere in any file: the checkpoint before is read, with a warning."""
  _saved(tmp_path / 'whole')
  rng = random.Random(how)
  for index in range(20):
    copy = tmp_path / str(index)
    shutil.copytree(tmp_path / 'whole', copy)
    what = _corrupt(copy / '3', how, rng)
    checkpoints = checkpoint.Checkpointer(copy)
    with pytest.warns(UserWarning, match='checkpoint 3 .* falling back to 2'):
      restored = checkpoints.restore_latest(fake.abstract())
    assert restored is not None and restored[0] == 2, what
    jax.tree.map(np.testing.assert_array_equal, restored[1], fake.tree(2))


@pytest.mark.parametrize('name', [manifest.NAME, '_METADATA'])
def test_every_bit_of_a_file_counts(name: str, tmp_path: pathlib.Path) -> None:
  """Also of the sums themselves; nothing is read in vain."""
  _saved(tmp_path, 1)
  folder = tmp_path / '1'
  whole = (folder / name).read_bytes()
  manifest.verify(folder)
  for bit in range(0, 8 * len(whole), 7):
    data = bytearray(whole)
    data[bit // 8] ^= 1 << bit % 8
    (folder / name).write_bytes(data)
    with pytest.raises(manifest.ManifestError):
      manifest.verify(folder)
  (folder / name).write_bytes(whole)
  manifest.verify(folder)
  (folder / 'd' / 'more').write_bytes(b'')
  with pytest.raises(manifest.ManifestError, match='d/more'):
    manifest.verify(folder)


def test_two_damaged_checkpoints_are_both_named(
  tmp_path: pathlib.Path,
) -> None:
  _saved(tmp_path)
  (tmp_path / '3' / manifest.NAME).unlink()
  shutil.rmtree(tmp_path / '2')
  (tmp_path / '2').write_text('a file')
  checkpoints = checkpoint.Checkpointer(tmp_path)
  with pytest.warns(UserWarning, match='cannot be read') as caught:
    restored = checkpoints.restore_latest(fake.abstract())
  assert restored is not None and restored[0] == 1
  said = [str(warning.message) for warning in caught]
  assert ['checkpoint 3' in s for s in said] == [True, False]
  assert ['checkpoint 2' in s for s in said] == [False, True]


def _resumes_from_damage(
  tmp_path: pathlib.Path, hows: list[str], seed: int
) -> None:
  """A run whose newest checkpoint is damaged ends as if it had not been."""
  rng = random.Random(seed)
  config = tiny.point_config(run__num_iterations=5)
  _train(config, tmp_path / 'whole')
  _train(tiny.point_config(run__num_iterations=3), tmp_path / 'parts')
  for index, how in enumerate(hows):
    copy = tmp_path / str(index)
    shutil.copytree(tmp_path / 'parts', copy)
    what = _corrupt(copy / 'checkpoints' / '3', how, rng)
    with pytest.warns(UserWarning, match='checkpoint 3 .* falling back to 2'):
      _train(config, copy)
    runs.assert_same(copy, tmp_path / 'whole', what)
    shutil.rmtree(copy)


def test_damaged_checkpoints_cost_one_iteration(
  tmp_path: pathlib.Path,
) -> None:
  """And change nothing: rows and all that is saved are the same."""
  _resumes_from_damage(tmp_path, list(_DAMAGES), 0)


@pytest.mark.slow
def test_thirty_damaged_checkpoints_cost_one_iteration_each(
  tmp_path: pathlib.Path,
) -> None:
  _resumes_from_damage(tmp_path, list(_DAMAGES) * 10, 1)


# --- full disks


@pytest.fixture
def small_disk(tmp_path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A file system of 2 MiB, where this process may mount one."""
  disk = tmp_path / 'disk'
  disk.mkdir()
  mount = ['mount', '-t', 'tmpfs', '-o', 'size=2m', 'tmpfs', str(disk)]
  try:
    subprocess.run(mount, check=True, capture_output=True)
  except (OSError, subprocess.CalledProcessError):
    pytest.skip('mounting is not allowed here')
  yield disk
  subprocess.run(['umount', str(disk)], check=True)


def _fill(disk: pathlib.Path, leave: int) -> None:
  free = shutil.disk_usage(disk).free
  (disk / 'ballast').write_bytes(bytes(free - leave))


@pytest.mark.parametrize(
  'leave',
  [0, *(pytest.param(x, marks=pytest.mark.slow) for x in (4096, 20480))],
)
def test_full_disk_stops_the_run_in_one_line(
  leave: int, small_disk: pathlib.Path
) -> None:
  """What was saved stays whole, and is gone on from once there is space."""
  workdir = small_disk / 'run'
  _train(tiny.point_config(run__num_iterations=2), workdir)
  _fill(small_disk, leave)
  config = tiny.point_config(run__num_iterations=400)
  with pytest.raises(errors.UserError) as caught:
    _train(config, workdir)
  (line,) = str(caught.value).splitlines()
  assert str(workdir) in line
  assert os.strerror(errno.ENOSPC) in line
  directory = workdir / 'checkpoints'
  newest = checkpoint.steps(directory)[-1]
  assert newest >= 2
  assert len(checkpoint.steps(directory)) >= 2
  for step in checkpoint.steps(directory):
    manifest.verify(directory / str(step))
  assert not list(directory.glob('*.partial*'))

  (small_disk / 'ballast').unlink()
  config.run.num_iterations = newest + 2
  _train(config, workdir)
  _train(config, small_disk.parent / 'whole')
  runs.assert_same(workdir, small_disk.parent / 'whole')


def test_nothing_is_begun_that_finds_no_space(
  small_disk: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Orbax, out of space halfway, leaves threads that print tracebacks."""
  _saved(small_disk / 'c')
  begun: list[None] = []
  monkeypatch.setattr(trees, '_orbax', lambda: begun.append(None))
  checkpoints = checkpoint.Checkpointer(small_disk / 'c')
  checkpoints.save(4, {'x': np.zeros(2**20)})
  with pytest.raises(checkpoint.CheckpointError, match=r'4 .*No space left'):
    checkpoints.close()
  assert not begun
  assert checkpoint.steps(small_disk / 'c') == [1, 2, 3]


def test_a_save_that_fails_is_told_at_the_next_iteration(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Not only at the next save, which may be hours away."""
  config = tiny.point_config(run__num_iterations=19, run__checkpoint_every=20)
  _train(config, tmp_path)
  config.run.num_iterations = 1000
  failed = threading.Event()

  def write(path: pathlib.Path) -> None:
    failed.set()
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

  monkeypatch.setattr(manifest, 'write', write)

  class Wait(fake.Interrupt):
    def phase(self, name: str, *, compiling: bool = False) -> None:
      super().phase(name, compiling=compiling)
      if self._iteration == 1:
        failed.wait()

  said = r'checkpoint 20 .*checkpoints: No space left .* earlier .* intact'
  with pytest.raises(checkpoint.CheckpointError, match=said):
    _train(config, tmp_path, progress=Wait(99, '', fake.crash))
  assert len(runs.rows(tmp_path)) < 40
  assert checkpoint.steps(tmp_path / 'checkpoints') == [19]


def test_full_disk_of_the_metrics(tmp_path: pathlib.Path) -> None:
  """One line, the checkpoints stay."""
  if not pathlib.Path('/dev/full').exists():
    pytest.skip('there is no /dev/full')
  _train(tiny.point_config(run__num_iterations=2), tmp_path)
  curve = tmp_path / f'.learning_curve.png.{os.getpid()}.tmp'
  curve.symlink_to('/dev/full')
  with pytest.raises(errors.UserError, match='No space left on device'):
    _train(tiny.point_config(run__num_iterations=3), tmp_path)
  assert checkpoint.steps(tmp_path / 'checkpoints') == [1, 2, 3]


# --- company


def test_two_processes_may_write_the_same_file(tmp_path, monkeypatch) -> None:
  """One of them while the other is in the middle of it."""
  path, own, sync = tmp_path / 'file', os.getpid(), os.fsync

  def interrupted(number: int) -> None:
    sync(number)
    monkeypatch.setattr(os, 'fsync', sync)
    monkeypatch.setattr(os, 'getpid', lambda: own + 1)
    atomic.write_text(path, 'theirs')

  monkeypatch.setattr(os, 'fsync', interrupted)
  atomic.write_text(path, 'ours')
  assert path.read_text() == 'ours' and list(tmp_path.iterdir()) == [path]


def test_second_process_is_refused(tmp_path: pathlib.Path) -> None:
  """By name, with nothing written; once the first is gone it may."""
  config = tiny.point_config(run__num_iterations=1)
  with lock.hold(tmp_path):
    with pytest.raises(
      config_lib.ConfigError, match=rf'process {os.getpid()} on .* is running'
    ):
      _train(config, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {lock.NAME}
  _train(config, tmp_path)


def test_run_is_refused_while_it_runs(tmp_path: pathlib.Path) -> None:
  """From its very first iteration on, and while it is stopped by an error."""
  config = tiny.point_config(run__num_iterations=2)

  def second() -> None:
    with pytest.raises(config_lib.ConfigError, match='is running in it'):
      _train(config, tmp_path)

  _train(config, tmp_path, progress=fake.Interrupt(0, 'think', second))
  with pytest.raises(RuntimeError, match='power failure'):
    _train(
      tiny.point_config(run__num_iterations=3),
      tmp_path,
      progress=fake.Interrupt(0, 'think', fake.crash),
    )
  _train(tiny.point_config(run__num_iterations=3), tmp_path)


# --- signals


def test_first_signal_returns_to_the_caller(tmp_path: pathlib.Path) -> None:
  """Who is told, by `stop`, that there is more to do."""
  stop = signals.StopRequest()
  with stop:
    _train(
      tiny.point_config(run__num_iterations=4),
      tmp_path,
      stop=stop,
      progress=fake.Interrupt(1, 'think', fake.sigterm),
    )
  assert stop.obeyed
  assert checkpoint.steps(tmp_path / 'checkpoints') == [1, 2]
  with signals.StopRequest() as stop:
    _train(
      tiny.point_config(run__num_iterations=4),
      tmp_path,
      stop=stop,
      progress=fake.Interrupt(1, 'think', fake.sigterm),
    )
  assert not stop.obeyed, 'it came in the last iteration'


def test_a_stop_may_come_before_the_first_iteration(
  tmp_path: pathlib.Path,
) -> None:
  """Or from who is no signal."""
  stop = signals.StopRequest()
  stop.requested = 'a deadline'
  config = tiny.point_config(run__num_iterations=2)
  _train(config, tmp_path, stop=stop)
  assert stop.obeyed and runs.rows(tmp_path) == []
  _train(config, tmp_path)
  assert len(runs.rows(tmp_path)) == 2


_ENDLESS = """
import pathlib
import sys
import jax
import jax.numpy as jnp
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import progress
from mbmpo_jax.training import signals
from tests import fake
from tests import tiny

class Phases(progress.Silent):
  def phase(self, name, *, compiling=False):
    if not compiling:
      print(name, flush=True)

def make(env, config):
  algorithm = fake.make(env, config)
  def think(state):
    scale = jax.lax.while_loop(lambda x: x < 2, jnp.cos, state.scale)
    return state._replace(scale=scale), {}
  return fake.with_phase(algorithm, 'think', think)

with signals.exiting() as stop:
  loop.train(
    tiny.point_config(), pathlib.Path(sys.argv[1]),
    make_algorithm=make, progress=Phases(), stop=stop,
  )
"""


@pytest.mark.parametrize(
  'number',
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_signals_are_heard_while_xla_runs(
  number: signal.Signals, tmp_path: pathlib.Path
) -> None:
  """In a loop that never ends: the first is answered, the second obeyed."""
  process = subprocess.Popen(
    [sys.executable, '-c', _ENDLESS, str(tmp_path)],
    env=runs.environment(),
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  )
  try:
    said = iter(process.stdout.readline, '')
    assert next(said) == 'gather\n'
    assert next(said) == 'think\n'
    process.send_signal(number)
    assert next(said) == '\n'
    assert next(said).startswith(f'{number.name}: finishing the iteration')
    assert process.poll() is None
    process.send_signal(number)
    assert next(said) == '\n'
    assert next(said).startswith(f'{number.name}: stopping at once')
    assert process.wait(60) == 128 + number
    assert list(said) == []
  finally:
    process.kill()
    process.stdout.close()


# --- kills


def _kill_and_resume(tmp_path: pathlib.Path, kills: int, seed: int) -> None:
  """Kills training that many times, each time going on from what is left.

  A fifth of the instants are drawn from the start of the process; the others
  from the time of the iterations, where everything is written.
  """
  rng = random.Random(seed)
  iterations = 24 * kills
  tally: collections.Counter[str] = collections.Counter()
  workdir = tmp_path / 'killed'
  done = 0
  whole = runs.start(tmp_path / 'whole', iterations)  # Beside the others.
  for index in range(kills):
    process = runs.start(workdir, iterations)
    after = rng.randrange(2, 9)
    if index % 5 == 1:
      after = 0
      runs.kill_after(process, rng.uniform(0, 5))
    times = []
    assert process.stdout is not None
    for line in process.stdout:
      if line.startswith('resuming after '):
        assert int(line.split()[2]) >= done, 'a checkpoint was lost'
      if line.startswith('iteration '):
        # Its checkpoint may be on its way, but the one before is there.
        done = int(line.split()[1].partition('/')[0]) - 1
        times.append(time.monotonic())
        if len(times) == after:
          runs.kill_after(process, rng.uniform(0, times[-1] - times[-2]))
    process.stdout.close()
    assert process.wait() == -signal.SIGKILL, f'kill {index} came too late'
    tally[runs.where_killed(workdir) if times else 'at the start'] += 1
  print(f'{kills} kills, seed {seed}:', dict(tally))

  said, code = runs.finish(runs.start(workdir, iterations))
  assert code == 0, said
  # Nothing that a kill leaves behind is taken for a checkpoint.
  assert 'cannot be read' not in said
  said, code = runs.finish(whole)
  assert code == 0, said
  runs.assert_same(workdir, tmp_path / 'whole')


def test_killed_at_an_instant(tmp_path: pathlib.Path) -> None:
  """The run ends as if it had never been; by the real binary."""
  _kill_and_resume(tmp_path, 1, seed=0)


@pytest.mark.slow
def test_killed_at_twenty_five_instants(tmp_path: pathlib.Path) -> None:
  _kill_and_resume(tmp_path, 25, seed=1)
