"""`mbmpo`: its commands, presets by name, modules and networks of one's own."""

import contextlib
import functools
import io
import os
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from absl import flags

import mbmpo_jax
from mbmpo_jax import algorithms
from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax import validation
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.training import grid as grid_lib
from mbmpo_jax.training import loop
from mbmpo_jax.training import sweep
from mbmpo_jax.training.launch import cache
from mbmpo_jax.training.launch import command
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import imports
from mbmpo_jax.training.launch import presets
from mbmpo_jax.training.launch import tiny as tiny_lib
from mbmpo_jax.training.launch import waits
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.storage import saved_policy
from tests import fake
from tests import test_on_policy
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]
_POINT = presets.named('mbmpo/point')

# Environments that a user registers: one of a class, one of a function.
_OWN = """
import jax.numpy as jnp
from mbmpo_jax import envs
from mbmpo_jax.envs import point
SPEED = jnp.ones(()) / 2

class Ring(point.Point):
  pass

envs.register('ring', Ring)
envs.register('ring_by_function', lambda: Ring())
"""


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path):
  """A file that registers two environments; forgotten after the test."""
  monkeypatch.setattr(envs, '_FACTORIES', dict(envs._FACTORIES))
  monkeypatch.chdir(tmp_path)
  path = tmp_path / 'my_ring_world.py'
  path.write_text(_OWN)
  yield path
  sys.modules.pop('my_ring_world', None)


def _forget(monkeypatch: pytest.MonkeyPatch) -> None:
  """As in a process that has not imported it."""
  sys.modules.pop('my_ring_world', None)
  kept = {k: v for k, v in envs._FACTORIES.items() if 'ring' not in k}
  monkeypatch.setattr(envs, '_FACTORIES', kept)


def _parse(*arguments: str) -> training_flags.Arguments:
  return training_flags.parse(
    ['mbmpo train', *arguments],
    default_config=_POINT,
    flag_values=flags.FlagValues(),
  )


def _main(*arguments: str, monkeypatch: pytest.MonkeyPatch) -> tuple[int, str]:
  monkeypatch.setattr(sys, 'argv', ['mbmpo', *arguments])
  said = io.StringIO()
  with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
    try:
      command.main()
    except SystemExit as stopped:
      return int(stopped.code or 0), said.getvalue()
  return 0, said.getvalue()


def test_every_program_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
  """What `experiments/` runs; without arguments, all are listed."""
  programs = {path.stem for path in (_ROOT / 'experiments').glob('*.py')}
  assert programs <= set(command.names())
  code, said = _main(monkeypatch=monkeypatch)
  assert code == 0
  for name in command.names():
    assert f'  {name} ' in said
    thin = _ROOT / 'experiments' / f'{name}.py'
    assert f'commands.{name}' in thin.read_text()


@pytest.mark.parametrize('name', ['trian', '', '../train', '--workdir=x'])
def test_an_unknown_command_is_one_line(
  name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
  """And exits with 2."""
  code, said = _main(name, monkeypatch=monkeypatch)
  assert code == 2
  assert said.count('\n') == 1
  assert 'no such command' in said and 'train' in said


@pytest.mark.slow
@pytest.mark.parametrize(
  ('arguments', 'named'),
  [
    ('m3po/point_direc --config.history.length=61', 'history.length=61'),
    ('m3po/point_direc --config.learn.num_updates=0', 'learn.num_updates=0'),
    ('pearl/point_direc --config.learn.num_updates=0', 'learn.num_updates=0'),
    (
      'm3po/point_direc --config.model_rollouts.num_rollouts=0',
      'model_rollouts.num_rollouts=0',
    ),
    ('l2a/point_direc --config.env.name=point', "env.name='point'"),
    ('gssm/acrobot --config.improve.kind=bptt', "improve.kind='bptt'"),
    ('gssm/acrobot --config.model.context_size=0', 'model.context_size=0'),
  ],
)
def test_a_refused_setting_is_one_line(
  arguments: str, named: str, tmp_path: pathlib.Path
) -> None:
  """Which names the field, exits with 2, and leaves no folder behind."""
  workdir = tmp_path / 'run'
  program = [sys.executable, str(_ROOT / 'experiments' / 'train.py')]
  done = subprocess.run(
    [*program, *arguments.split(), '--num_devices=1', f'--workdir={workdir}'],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 2
  assert done.stderr.count('\n') == 1 and done.stderr.startswith('error: ')
  assert named in done.stderr
  assert not workdir.exists()


def test_the_first_argument_is_the_configuration() -> None:
  """Only the first, and not beside `--config`."""
  arguments = _parse('me_trpo/point', '--config.seed=0')
  assert arguments.config.algorithm == 'me_trpo'
  assert arguments.workdir == pathlib.Path('runs/me_trpo/point')
  for words in (['--workdir=x', 'me_trpo/point'], ['mbmpo/point', 'x']):
    with pytest.raises(config_lib.ConfigError, match='unexpected argument'):
      _parse(*words)


def test_a_preset_is_found_by_its_name_alone() -> None:
  """The default's algorithm's first; then the only one that has it."""
  assert _parse('point').config.algorithm == 'mbmpo'
  assert _parse('half_cheetah_td3').config.algorithm == 'ddpg'
  with pytest.raises(config_lib.ConfigError, match='several algorithms') as e:
    _parse('acrobot')
  assert '/acrobot, ' in str(e.value) and '\n' not in str(e.value)


def test_another_seed_has_a_folder_of_its_own() -> None:
  """Called as those of a sweep are."""
  assert _parse('--config.seed=3').workdir == pathlib.Path(
    'runs/mbmpo/point,seed=3'
  )
  grid = grid_lib.Grid(tiny.point_config(), {'meta.inner_lr': (0.1,)})
  assert list(grid.runs()) == ['meta.inner_lr=0.1,seed=0']


def test_helpfull_lists_every_field_with_its_range() -> None:
  """And its default; `--help` alone does not."""
  said = io.StringIO()
  values = flags.FlagValues()
  flags.DEFINE_flag(_help_flag(values), values)
  with contextlib.redirect_stdout(said), pytest.raises(SystemExit):
    training_flags.parse(
      ['x', '--helpfull'], default_config=_POINT, flag_values=values
    )
  text = ' '.join(said.getvalue().split())
  kind = algorithms.config('mbmpo')
  for name, allowed in validation.allowed_values(kind).items():
    assert f'--config.{name}: Must be {allowed}' in text


def _help_flag(values: flags.FlagValues) -> flags.Flag:
  """As absl's, of these flags."""

  class Help(flags.BooleanFlag):
    def __init__(self) -> None:
      super().__init__('helpfull', False, '')

    def parse(self, argument) -> None:
      print(values.get_help())
      sys.exit(1)

  return Help()


@pytest.mark.parametrize(
  ('name', 'field'),
  [
    ('inner_learning_rate', 'meta.inner_lr'),
    ('meta.inner_learning_rate', 'meta.inner_lr'),
    ('inner_lr', 'meta.inner_lr'),
    ('model.lr', 'model.learning_rate'),
    ('number_of_models', 'model.num_models'),
    ('trust_region.kl', 'trust_region.max_kl'),
    ('episode_length', 'collect.episode_length'),
  ],
)
def test_the_nearest_name_is_of_the_whole_field(name: str, field: str) -> None:
  """Whatever section it was looked for in, and however spelt out."""
  known = validation.allowed_values(algorithms.config('mbmpo'))
  assert f'{field!r}' in validation.nearest_field(name, known)


def test_nothing_is_near_nonsense() -> None:
  """Then the fields are listed instead."""
  known = validation.allowed_values(algorithms.config('mbmpo'))
  assert validation.nearest_field('xyzzy', known) == ''


def test_loop_is_public() -> None:
  """`mb.loop.train`."""
  assert mbmpo_jax.loop is loop


def test_the_cache_keeps_what_a_program_has_set(
  monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
  """It is not moved under an embedder's feet."""
  monkeypatch.delenv('JAX_COMPILATION_CACHE_DIR')
  before = jax.config.jax_compilation_cache_dir
  try:
    jax.config.update('jax_compilation_cache_dir', str(tmp_path / 'own'))
    assert cache.enable() == tmp_path / 'own'
    jax.config.update('jax_compilation_cache_dir', None)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert cache.enable() == tmp_path / 'mbmpo_jax' / 'xla'
  finally:
    jax.config.update('jax_compilation_cache_dir', before)


def test_a_long_wait_is_said(capsys: pytest.CaptureFixture[str]) -> None:
  """A short one is not."""
  with waits.announced('reading'):
    pass
  with waits.announced('thinking', after_s=0.01):
    for thread in __import__('threading').enumerate():
      if type(thread).__name__ == 'Timer':
        thread.join(10)
  assert capsys.readouterr().err == 'thinking ...\n'


def _train(name: str, workdir: pathlib.Path) -> None:
  config = tiny.point_config(run__num_iterations=1)
  config.env.name = name
  silent = progress_lib.Silent()
  loop.train(config, workdir, make_algorithm=fake.make, progress=silent)


@pytest.mark.parametrize('by', ['my_ring_world', 'my_ring_world.py'])
@pytest.mark.parametrize('name', ['ring', 'ring_by_function'])
def test_a_run_says_what_registered_its_environment(
  by: str, name: str, world: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Without the module one line; with what that line says, it is read back."""
  imports.load([by])
  _train(name, pathlib.Path('run'))
  assert saved_policy.load_policy('run').make_env().observation_size == 2

  _forget(monkeypatch)
  monkeypatch.chdir(world.parent.parent)
  folder = world.parent / 'run'
  for call in (
    functools.partial(saved_policy.load_policy, folder),
    functools.partial(_train, name, folder),
  ):
    with pytest.raises(envs.UnknownEnvironmentError) as error:
      call()
    assert f'--import={world}' in str(error.value)
    assert '\n' not in str(error.value)
    assert 'my_ring_world' not in sys.modules
  imports.load([str(world)])
  assert type(saved_policy.load_policy(folder).make_env()).__name__ == 'Ring'
  _train(name, folder)


def test_the_runs_of_a_sweep_say_it_too(
  world: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """And the sweep, when it is to go on."""
  imports.load([str(world)])
  config = tiny.point_config(run__num_iterations=1)
  config.env.name = 'ring'
  grid = grid_lib.Grid(config, {}, num_seeds=2)
  silent = progress_lib.Silent()
  go = functools.partial(
    sweep.sweep, grid, 'sweep', make_algorithm=fake.make, progress=silent
  )
  go()
  assert (pathlib.Path('sweep/seed=1') / 'environment.json').exists()
  _forget(monkeypatch)
  with pytest.raises(envs.UnknownEnvironmentError, match='--import='):
    go()


@pytest.mark.parametrize(
  'text',
  [
    '{"import": "\\u001b[2Jevil"}',
    '{"import": ["os"]}',
    '{"import": "' + 'x' * 10_000 + '"}',
    '[1]',
    '\x00',
  ],
)
def test_what_a_stranger_wrote_there_is_not_repeated(
  text: str, world: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """The line is then the ordinary one."""
  imports.load([str(world)])
  _train('ring', pathlib.Path('run'))
  _forget(monkeypatch)
  pathlib.Path('run/environment.json').write_text(text)
  with pytest.raises(envs.UnknownEnvironmentError) as error:
    saved_policy.load_policy('run')
  assert '--import' not in str(error.value)
  assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
  ('name', 'text', 'said'),
  [
    ('nowhere.py', None, 'no such file'),
    ('nowhere_at_all', None, 'nowhere_at_all'),
    ('broken.py', 'x = 1\ny = x +\n', 'SyntaxError'),
    ('raises.py', 'x = 1\nint("a")\n', 'raises.py line 2: ValueError'),
    ('leaves.py', 'import sys\nsys.exit(3)\n', 'SystemExit'),
    (
      'twice.py',
      'from mbmpo_jax import envs\nenvs.register("point", int)\n',
      "'point' is already registered",
    ),
  ],
)
def test_a_module_that_does_not_work_is_one_line(
  name: str,
  text: str | None,
  said: str,
  tmp_path: pathlib.Path,
  monkeypatch: pytest.MonkeyPatch,
) -> None:
  """Whatever it raises; it is not left half imported."""
  monkeypatch.chdir(tmp_path)
  if text is not None:
    pathlib.Path(name).write_text(text)
  with pytest.raises(config_lib.ConfigError, match=said) as error:
    imports.load([name])
  assert '\n' not in str(error.value)
  assert f'--import={name}' in str(error.value)
  assert pathlib.Path(name).stem not in sys.modules


def test_a_missing_file_is_refused_before_anything_else() -> None:
  """As a mistyped flag is."""
  with pytest.raises(config_lib.ConfigError, match='no such file'):
    _parse('--import=no.py')


def test_env_and_its_name_agree(world: pathlib.Path) -> None:
  """A run would be read back as another world; copies and unknown ones pass."""
  imports.load([str(world)])
  config = tiny.point_config()
  make = functools.partial(algorithms.make, 'mbmpo', check=False)
  config.env.name = 'half_cheetah'
  with pytest.raises(config_lib.ConfigError, match="must be 'point'") as error:
    make(env=envs.make('point'), config=config)
  assert '\n' not in str(error.value)
  ring = sys.modules['my_ring_world'].Ring
  for env in (envs.make('ring'), ring()):
    with pytest.raises(config_lib.ConfigError, match="must be 'ring'"):
      make(env=env, config=config)

  class Unknown(ring):
    pass

  envs.check_named(Unknown(), config.env)
  envs.check_named(envs.make('hopper'), config_lib.Env(name='hopper'))
  envs.check_named(
    envs.make('hopper'),
    config_lib.Env(name='hopper', variant=envs.variants('hopper')[0]),
  )
  with pytest.raises(config_lib.ConfigError, match='variant=None: must'):
    envs.check_named(
      envs.make('hopper', 'gymnasium'), config_lib.Env(name='hopper')
    )


def _straight() -> policies.Policy:
  """A line through the origin."""
  return policies.memoryless(
    lambda key: {'gain': jnp.zeros((2, 2))},
    lambda params, obs: distributions.Gaussian(
      obs @ params['gain'], jnp.full_like(obs, -1.0)
    ),
    noise=functools.partial(distributions.normal_noise, action_size=2),
  )


def test_a_policy_takes_the_place_of_the_configurations(
  tmp_path: pathlib.Path,
) -> None:
  """From the run to what is read back; without it, one line."""
  config = test_on_policy.settings(
    'trpo',
    **{
      'collect.normalize_observations': False,
      'run.num_iterations': 1,
      'run.eval_episodes': 2,
      'run.render': False,
    },
  )
  silent = progress_lib.Silent()
  loop.train(config, tmp_path, policy=_straight(), progress=silent)
  policy = saved_policy.load_policy(tmp_path, policy=_straight())
  assert policy.params['gain'].shape == (2, 2)
  assert policy.act(jnp.ones((3, 2))).shape == (3, 2)
  with pytest.raises(config_lib.ConfigError, match='does not fit'):
    saved_policy.load_policy(tmp_path)
  with pytest.raises(config_lib.ConfigError, match='make_algorithm'):
    loop.train(
      config, tmp_path, policy=_straight(), make_algorithm=algorithms.make
    )


@pytest.mark.parametrize('name', ['sac', 'mb_mpc'])
def test_who_takes_no_policy_says_so(name: str) -> None:
  """Before anything is made."""
  config = algorithms.config(name)()
  config.env.name = 'point'
  with pytest.raises(config_lib.ConfigError, match='policy: must be left') as e:
    algorithms.make(name, envs.make('point'), config, policy=_straight())
  assert '\n' not in str(e.value)


@pytest.mark.parametrize(
  'name', ['train', 'sweep', 'evaluate', 'external', 'offline', 'diagnose']
)
def test_what_xla_logs_is_off_before_jax_reads_it(name: str) -> None:
  """No command imports JAX before its `main` has begun."""
  program = (
    f'import sys, mbmpo_jax.training.commands.{name}\n'
    'sys.exit("jax" in sys.modules)'
  )
  done = subprocess.run([sys.executable, '-c', program], cwd=_ROOT, check=False)
  assert done.returncode == 0


@pytest.mark.slow
def test_commands_share_an_environment_of_ones_own(
  world: pathlib.Path,
) -> None:
  """Trained, gone on with, evaluated, exported, played, drawn: by programs."""

  def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
      [sys.executable, '-m', 'mbmpo_jax', *words],
      env={
        **os.environ,
        'PYTHONPATH': str(_ROOT),
        'XLA_FLAGS': '',
        tiny_lib.VARIABLE: '1',
      },
      capture_output=True,
      text=True,
      check=False,
    )

  own = f'--import={world}'
  train = ('train', 'mbmpo/point', '--config.env.name=ring', '--workdir=run')
  first = run(*train, own, '--config.run.num_iterations=1')
  assert first.returncode == 0, first.stderr
  for words in (
    ('evaluate', 'run'),
    ('render', 'run'),
    (*train, '--config.run.num_iterations=2'),
  ):
    refused = run(*words)
    assert refused.returncode == 2
    assert own in refused.stderr
    done = run(*words, own)
    assert done.returncode == 0, done.stderr
  exported = run('evaluate', 'run', own, '--export=p.bin')
  assert exported.stdout.startswith('p.bin: the best policy, a program')
  assert run('plot', 'run', own).returncode == 0
  swept = run(
    *('sweep', 'mbmpo/point', '--config.env.name=ring', '--workdir=swept'),
    *(own, '--config.run.num_iterations=1', '--num_seeds=2'),
  )
  assert swept.returncode == 0, swept.stderr
