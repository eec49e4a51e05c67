"""The zoo: policies that are kept with the code, and what they reached."""

import functools
import json
import pathlib

import jax
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax.training import kept
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import manifest
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import zoo
from mbmpo_jax.training.viewing import render
from tests import tiny

_ZOO = pathlib.Path(__file__).parents[1] / 'zoo'
_NAMES = [str(x.relative_to(_ZOO)) for x in zoo.entries(_ZOO)]
_ENTRIES = {
  *(f'{x}/point' for x in ('acktr', 'mbmpo', 'me_trpo', 'ppo', 'trpo')),
  *(f'{x}/half_cheetah' for x in ('acktr', 'mbmpo', 'me_trpo', 'ppo', 'sac')),
  *('gssm/acrobot-terminating', 'gssm/cartpole_swingup_masses'),
  *('m3po/half_cheetah_fwd_bwd', 'mbmpo/hopper', 'mbmpo/pr2_reacher'),
  *('mbmpo/ant', 'mbmpo/swimmer', 'mbmpo/walker2d', 'trpo/half_cheetah'),
}
# Worlds without physics to compile.
_LIGHT = ('point', 'point_direc', 'cartpole_swingup')


@pytest.fixture(scope='module')
def run(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
  """A finished run."""
  folder = tmp_path_factory.mktemp('zoo') / 'run'
  config = tiny.point_config(run__num_iterations=2)
  loop.train(config, folder, progress=progress_lib.Silent())
  return folder


@pytest.fixture
def entry(run: pathlib.Path, tmp_path: pathlib.Path) -> pathlib.Path:
  return kept.add(run, tmp_path / 'zoo' / 'mbmpo', episodes=4).root


def test_an_entry_is_the_policy_of_the_run(run, entry) -> None:
  own, found = (saved_policy.load_policy(x) for x in (run, entry))
  jax.tree.map(np.testing.assert_array_equal, own.params, found.params)
  assert own.config == found.config
  assert own.iteration == found.iteration == 2
  made = zoo.read(entry)
  assert made.env_steps == 2 * own.config.collect.steps
  assert zoo.entries(entry.parent) == [entry]
  played = kept.replay(entry)
  assert played.return_mean == pytest.approx(made.return_mean, rel=1e-5)
  assert played.agrees and played.sentence.endswith(': as recorded')


def test_another_return_is_told(entry) -> None:
  """By four standard errors of the difference."""
  made = zoo.Entry(1, 10, 100, 0, 50.0, 3.0, 5.0, '')
  told = functools.partial(kept.Replay, entry, made, 100, return_std=4.0)
  assert told(return_mean=51.9).agrees and told(return_mean=48.1).agrees
  assert not told(return_mean=52.2).agrees
  assert 'NOT as recorded' in told(return_mean=47.8).sentence
  # More episodes take away one of the two errors, of 0.3 and 0.4.
  many = functools.partial(kept.Replay, entry, made, 10**6, return_std=4.0)
  assert many(return_mean=51.2).agrees and not many(return_mean=51.3).agrees


def test_other_first_steps_are_told(entry) -> None:
  """Although the return of whole episodes is the same."""
  made = zoo.Entry(1, 10, 100, 0, 50.0, 3.0, 5.0, '', 10, 2.0)
  told = functools.partial(kept.Replay, entry, made, 100, 50.0, 3.0)
  assert told((2.0004, 0.05)).agrees and told(None).agrees
  assert not told((2.001, 0.05)).agrees
  assert '2.001, recorded 2: NOT' in told((2.001, 0.05)).sentence
  assert kept.replay(entry).first is not None
  assert kept.replay(entry, episodes=3).first is None


def _alter_policy(root: pathlib.Path) -> None:
  data = bytearray((root / 'policy.npz').read_bytes())
  data[len(data) // 2] ^= 1
  (root / 'policy.npz').write_bytes(bytes(data))


def _add_world(root: pathlib.Path) -> None:
  """An environment that the run did not have, and a file of a desktop."""
  (root / '.DS_Store').write_text('')
  assert zoo.read(root).episodes
  (root / 'world.json').write_text('{}')


def _not_arrays(root: pathlib.Path) -> None:
  (root / 'policy.npz').write_text('none')
  manifest.write(root)


def _sealed(root: pathlib.Path, **fields) -> None:
  """A description that somebody changed, sums and all."""
  made = json.loads((root / 'entry.json').read_text()) | fields
  (root / 'entry.json').write_text(json.dumps(made))
  manifest.write(root)


@pytest.mark.parametrize(
  ('alter', 'said'),
  [
    (_alter_policy, 'its file policy.npz does not match SHA256SUMS'),
    (lambda x: (x / 'policy.npz').unlink(), 'its file policy.npz is missing'),
    (lambda x: (x / 'SHA256SUMS').unlink(), 'it has no SHA256SUMS'),
    (lambda x: (x / 'metrics.jsonl').unlink(), 'its file metrics.jsonl is'),
    (lambda x: (x / 'config.json').unlink(), 'its file config.json is missing'),
    (
      lambda x: [(x / y).unlink() for y in ('policy.npz', 'entry.json')],
      'its file entry.json is missing',
    ),
    (_add_world, 'its file world.json is not in SHA256SUMS'),
    (_not_arrays, 'policy.npz: must be an npz file of arrays'),
    (functools.partial(_sealed, episodes=0), 'episodes=0: must be >= 1'),
    (
      functools.partial(_sealed, return_mean='high'),
      "return_mean='high': must",
    ),
    (functools.partial(_sealed, reward=1), "argument 'reward'"),
  ],
)
def test_an_entry_that_was_altered_is_refused(entry, alter, said) -> None:
  alter(entry)
  with pytest.raises(zoo.ZooError, match=said) as error:
    saved_policy.load_policy(entry)
  assert '\n' not in str(error.value)


def test_what_is_not_there_is_refused(run, entry, tmp_path) -> None:
  with pytest.raises(config_lib.ConfigError, match="which='latest': must be"):
    saved_policy.load_policy(entry, 'latest')
  with pytest.raises(zoo.ZooError, match='contains no entry'):
    zoo.entries(tmp_path / 'nowhere')
  (run / 'metrics.jsonl').rename(run / 'aside')
  (run / 'metrics.jsonl').write_text((run / 'aside').read_text().split('\n')[0])
  try:
    with pytest.raises(
      config_lib.ConfigError, match='has 1 rows, none of iteration 1'
    ):
      kept.add(run, tmp_path / 'x', episodes=2)
  finally:
    (run / 'aside').rename(run / 'metrics.jsonl')


def test_what_is_in_the_way_is_not_deleted(run, entry, tmp_path) -> None:
  """An entry is replaced; a folder with anything else in it is not."""
  before = zoo.read(entry)
  assert kept.add(run, entry, episodes=4).entry == before
  assert not list(entry.parent.glob('.*'))
  (tmp_path / 'file').write_text('mine')
  (entry.parent / 'papers').mkdir()
  (entry.parent / 'papers' / 'thesis.txt').write_text('mine')
  within, around = run / 'zoo', run.parent
  for place, said in [
    (tmp_path / 'file', 'is a file'),
    (entry.parent / 'papers', "contains 'thesis.txt'"),
    (entry.parent, "contains 'mbmpo'"),
    (run, 'must not contain, or be in, the run'),
    (within, 'must not contain, or be in, the run'),
    (around, 'must not contain, or be in, the run'),
  ]:
    with pytest.raises(zoo.ZooError, match=said) as error:
      kept.add(run, place, episodes=4)
    assert '\n' not in str(error.value)
  assert (entry.parent / 'papers' / 'thesis.txt').read_text() == 'mine'
  assert (run / 'config.json').is_file() and zoo.read(entry) == before


def test_a_damaged_entry_is_found(entry) -> None:
  """Whichever of its files is gone."""
  for name in ('entry.json', 'policy.npz', 'SHA256SUMS'):
    (entry / name).rename(entry.parent / 'aside')
    assert zoo.entries(entry.parent) == [entry]
    with pytest.raises(zoo.ZooError):
      kept.replay(entry)
    (entry.parent / 'aside').rename(entry / name)


def test_a_page_of_another_policy_is_refused(run, tmp_path) -> None:
  """As of a run that went on without drawing its page again."""
  policy = saved_policy.load_policy(run)
  page = run / 'policy.html'
  try:
    page.write_text(f'<h1>{render.title(policy, "best")}</h1>')
    made = kept.add(run, tmp_path / 'zoo' / 'x', episodes=2)
    assert (made.root / 'policy.html').is_file()
    page.write_text(f'<h1>{render.title(policy, "latest")}</h1>')
    with pytest.raises(zoo.ZooError, match='shows another policy') as error:
      kept.add(run, tmp_path / 'zoo' / 'y', episodes=2)
    assert '\n' not in str(error.value)
  finally:
    page.unlink()


def test_an_entry_stays_sealed(entry) -> None:
  """What a desktop leaves is passed over; a page is not drawn into it."""
  (entry / '.DS_Store').write_text('')
  assert kept.replay(entry).agrees
  with pytest.raises(zoo.ZooError, match='use another --out'):
    zoo.check_page(entry / 'policy.html', entry)
  zoo.check_page(entry.parent / 'policy.html', entry)


def test_the_zoo_is_all_there() -> None:
  assert set(_NAMES) == _ENTRIES


@pytest.mark.parametrize('name', _NAMES)
def test_every_entry_is_whole_and_fits_its_algorithm(name) -> None:
  policy = saved_policy.load_policy(_ZOO / name)
  assert zoo.read(_ZOO / name).return_mean
  assert name.startswith(f'{policy.config.algorithm}/{policy.config.env.name}')
  page = (_ZOO / name / 'policy.html').read_text()
  assert render.title(policy, 'best') in page
  size = sum(file.stat().st_size for file in (_ZOO / name).iterdir())
  assert size < 2**20


@pytest.mark.parametrize(
  'name',
  ['mbmpo/half_cheetah', pytest.param('mbmpo/hopper', marks=pytest.mark.slow)],
)
def test_the_first_steps_of_a_body_are_as_recorded(name) -> None:
  """Ten steps of MJX's physics; `zoo` and a slow test play whole episodes."""
  root = _ZOO / name
  made = zoo.read(root)
  mean, std = kept._play_first(
    saved_policy.load_policy(root), made.first_steps, made.episodes, made.seed
  )
  now = kept.Replay(
    root, made, made.episodes, made.return_mean, made.return_std, (mean, std)
  )
  assert made.first_steps and now.agrees, now.sentence


@pytest.mark.parametrize(
  'name',
  [
    pytest.param(n, marks=[] if n.split('/')[1] in _LIGHT else pytest.mark.slow)
    for n in _NAMES
  ],
)
def test_every_entry_reaches_what_was_recorded(name) -> None:
  """The guard against changes of physics, of policies and of files."""
  assert kept.replay(_ZOO / name).agrees, kept.replay(_ZOO / name).sentence
