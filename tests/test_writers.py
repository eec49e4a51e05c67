"""Metrics: the table that documents them, and Weights & Biases."""

import json
import pathlib
import re
import sys

import pytest

from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.reporting import wandb_writer
from tests import fake
from tests import fake_wandb
from tests import tiny

_DOCS = pathlib.Path(__file__).parents[1] / 'docs'


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> fake_wandb.Server:
  """An installed W&B and its server."""
  server = fake_wandb.Server()
  monkeypatch.setitem(sys.modules, 'wandb', server.module())
  return server


def _config(**overrides) -> config_lib.Experiment:
  return tiny.point_config(
    **{'run__num_iterations': 3, 'run__wandb_project': 'p', **overrides}
  )


def _train(config, workdir, progress=None, make=fake.make):
  progress = progress or progress_lib.Silent()
  return loop.train(config, workdir, make_algorithm=make, progress=progress)


def _rows(workdir: pathlib.Path) -> list[dict]:
  text = (workdir / 'metrics.jsonl').read_text()
  return [json.loads(line) for line in text.splitlines()]


def _comparable(row: dict) -> dict:
  """Without the clock, and what is not finite."""
  clock = ('time/', 'throughput/')
  return {
    k: v for k, v in row.items() if v is not None and not k.startswith(clock)
  }


def _table() -> list[str]:
  """The rows about algorithms in `docs/metrics.md`, as they should be."""
  reported: dict[str, dict[str, list[str]]] = {}
  for algorithm in algorithms.names():
    for name, metric in algorithms.metrics(algorithm).items():
      by = reported.setdefault(name, {}).setdefault(metric.text, [])
      by.append(algorithm)
  everybody = list(algorithms.names())
  return [
    f'| `{name}` | {text} | {"all" if by == everybody else ", ".join(by)} |'
    for name, texts in reported.items()
    for text, by in texts.items()
    if name != 'env_steps'
  ]


def test_metrics_of_algorithms_are_documented_as_declared() -> None:
  """The expected table, which an algorithm's author can copy, is the right."""
  text = (_DOCS / 'metrics.md').read_text().partition('## Of an algorithm')[2]
  rows = re.findall(r'^\| `.*\|$', text, re.MULTILINE)
  assert rows == _table()


def test_a_run_writes_what_is_documented(tmp_path: pathlib.Path) -> None:
  """Every name, and none that is gone; rates are counts per second."""
  text = (_DOCS / 'metrics.md').read_text().partition('## Of an algorithm')[0]
  host = set(re.findall(r'^\| `(\S+)` \| .', text, re.MULTILINE))
  config = tiny.point_config(run__num_iterations=1)
  row = _train(config, tmp_path, make=None)
  declared = algorithms.metrics(config.algorithm)
  phases = set()
  for name, steps in (('real_steps', 40), ('imagined_steps', 480)):
    # 4 trajectories of 10 steps; 2 * 2 tasks of 3 rollouts of 10, before and
    # after adaptation, twice.
    assert row[name] == steps
    phases.add(declared[name].per_second_of)
    rate = row[f'throughput/{name}_per_s']
    seconds = row[f'time/{declared[name].per_second_of}_s']
    assert rate * seconds == pytest.approx(steps)
  times = {name for name in row if name.startswith('time/')}
  assert {f'time/{phase}_s' for phase in phases} < times
  host.remove('time/<phase>_s')
  assert set(row) == host | declared.keys() | times


def test_wandb_gets_every_row(
  server: fake_wandb.Server, tmp_path: pathlib.Path
) -> None:
  """Under the project's name, by no entity; the run is finished."""
  _train(_config(), tmp_path / 'mine')
  (settings,) = server.inits
  assert settings['project'] == 'p'
  assert settings['name'] == 'mine'
  assert settings['config']['env']['name'] == 'point'
  assert settings['config']['algorithm'] == 'mbmpo'
  assert 'entity' not in settings
  ((id, history),) = server.histories.items()
  assert (tmp_path / 'mine' / 'wandb_id').read_text().strip() == id
  assert list(history) == [0, 1, 2]
  for step, row in enumerate(_rows(tmp_path / 'mine')):
    assert history[step] == {k: v for k, v in row.items() if v is not None}
  assert server.finished == 1


def test_wandb_run_goes_on_without_gap_or_duplicate(
  server: fake_wandb.Server, tmp_path: pathlib.Path
) -> None:
  """Row 3 was logged before the crash, and is not sent again."""
  config = _config(run__num_iterations=6, run__checkpoint_every=3)
  with pytest.raises(RuntimeError, match='power failure'):
    _train(config, tmp_path, fake.Interrupt(4, 'think', fake.crash))
  ((id, history),) = server.histories.items()
  assert list(history) == [0, 1, 2, 3]
  _train(config, tmp_path)
  assert list(server.histories) == [id]
  assert server.refused == []
  assert list(history) == list(range(6))
  rows = _rows(tmp_path)
  for step in range(6):
    assert _comparable(history[step]) == _comparable(rows[step])


def test_wandb_is_sent_what_it_lacks(
  server: fake_wandb.Server, tmp_path: pathlib.Path
) -> None:
  """Asked for later, or killed before the upload: from metrics.jsonl."""
  _train(_config(run__wandb_project=None), tmp_path)
  assert server.histories == {}
  _train(_config(run__num_iterations=4), tmp_path)
  (history,) = server.histories.values()
  assert list(history) == [0, 1, 2, 3]
  del history[3], history[2]
  _train(_config(run__num_iterations=5), tmp_path)
  assert list(history) == [0, 1, 2, 3, 4]
  assert server.refused == []


def test_missing_wandb_is_one_line(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """It names the field and the extra; nothing is written."""
  monkeypatch.setitem(sys.modules, 'wandb', None)
  with pytest.raises(config_lib.ConfigError) as error:
    _train(_config(), tmp_path / 'run')
  for words in ("run.wandb_project='p'", "the extra 'wandb'"):
    assert words in str(error.value)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('name', ['', ' ', 'a/b', 'a:b', 'x' * 129])
def test_bad_project_is_refused(
  name: str, server: fake_wandb.Server, tmp_path: pathlib.Path
) -> None:
  """By its name, with what is allowed; nothing is written."""
  with pytest.raises(config_lib.ConfigError, match='1 to 128 characters'):
    _train(_config(run__wandb_project=name), tmp_path / 'run')
  assert list(tmp_path.iterdir()) == []
  assert server.inits == []


def test_wandb_that_refuses_the_run_is_one_line(
  server: fake_wandb.Server, tmp_path: pathlib.Path
) -> None:
  """Before anything is trained; a checkpointed run is not touched."""
  config = _config(run__wandb_project=None)
  _train(config, tmp_path)
  before = (tmp_path / 'metrics.jsonl').read_bytes()
  server.down = True
  with pytest.raises(wandb_writer.WandbError, match='WANDB_MODE=offline'):
    _train(_config(run__num_iterations=4), tmp_path)
  assert (tmp_path / 'metrics.jsonl').read_bytes() == before


def test_wandb_that_fails_later_does_not_stop_the_run(
  server: fake_wandb.Server, tmp_path: pathlib.Path
) -> None:
  """One warning; metrics.jsonl has every row, and W&B gets them next time."""

  def fail() -> None:
    server.down = True

  config = _config()
  with pytest.warns(UserWarning, match='server is down') as caught:
    _train(config, tmp_path, fake.Interrupt(1, 'think', fail))
  assert len(caught) == 1
  assert len(_rows(tmp_path)) == 3
  server.down = False
  _train(config, tmp_path)
  (history,) = server.histories.values()
  assert list(history) == [0, 1, 2]
