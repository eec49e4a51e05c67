"""Recordings of policies, the page that plays them, videos."""

import base64
import json
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.envs import base
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import loop
from mbmpo_jax.training.reporting import progress as progress_lib
from mbmpo_jax.training.viewing import recording as recording_lib
from mbmpo_jax.training.viewing import render
from mbmpo_jax.training.viewing import scene as scene_lib
from mbmpo_jax.training.viewing import video
from tests import browser as browser_lib
from tests import fake
from tests import tiny

_ROOT = pathlib.Path(__file__).parents[1]


def _moving(
  model: mujoco.MjModel, qpos: np.ndarray, dt: float = 0.05
) -> recording_lib.Recording:
  """One episode of the given coordinates [F, nq]."""
  count = len(qpos)
  none = np.zeros((count, 0, 3)), np.zeros((count, 0, 4))
  return recording_lib.Recording(
    model=model,
    dt=dt,
    pose=base.Pose(qpos, *none),
    episode=np.zeros(count, int),
    time=dt * np.arange(count),
    reward_so_far=2.0 * np.arange(count),
    terminated=np.zeros(count, bool),
  )


def _runner(count: int = 101) -> recording_lib.Recording:
  """A half-cheetah that glides along, 20 m, and moves its joints."""
  model = envs.make('half_cheetah').scene()
  time = np.linspace(0, 1, count)[:, None]
  qpos = 0.4 * np.sin(6 * time + np.arange(model.nq))
  qpos[:, 0], qpos[:, 1] = 20 * time[:, 0], 0.1
  return _moving(model, qpos)


# --- recordings


class Falling(tiny.Countdown):
  """A counter that is drawn: the point's ball at (counter, counter)."""

  def scene(self):
    return envs.make('point').scene()

  def pose(self, pipeline_state):
    none = jnp.zeros((0, 3)), jnp.zeros((0, 4))
    return base.Pose(jnp.tile(pipeline_state, 2), *none)


def test_recording_shows_every_state_ends_included():
  """Two frames where an episode ends: its last state, the next one's first."""
  recording = recording_lib.record(
    Falling(), tiny.NO_OP, (), jax.random.PRNGKey(0), num_steps=9
  )
  counter = recording.pose.qpos[:, 0]
  assert recording.episode[-1] >= 1
  assert len(counter) == 9 + recording.episode[-1] + 1
  for episode in range(recording.episode[-1] + 1):
    own = recording.episode == episode
    start = counter[own][0]
    length = own.sum()
    np.testing.assert_array_equal(counter[own], start + np.arange(length))
    np.testing.assert_array_equal(recording.time[own], np.arange(length))
    # A step pays the counter that it starts from.
    paid = np.concatenate([[0], np.cumsum(counter[own][:-1])])
    np.testing.assert_array_equal(recording.reward_so_far[own], paid)
  np.testing.assert_array_equal(recording.terminated, counter == 4)


def _retracing() -> policies.Policy:
  """Goes back by what it has observed, and sees nothing else."""

  def act(params, carry, obs, noise):
    return carry, policies.Action(carry, carry, jnp.zeros(obs.shape[0]))

  def observe(params, carry, step):
    return step.obs - 2 * step.next_obs

  return policies.Policy(
    init=lambda key: (),
    start=lambda params, key, context, num: jnp.ones((num, 2)),
    act=act,
    noise=lambda key, shape: jnp.zeros(shape),
    observe=observe,
  )


@pytest.mark.parametrize(
  'policy',
  [
    gaussian.make(2, 2, config_lib.GaussianPolicy(hidden_sizes=(4,))),
    _retracing(),
  ],
  ids=['gaussian', 'memory'],
)
def test_recording_is_the_rollout_that_evaluation_would_see(policy):
  env = envs.make('point')
  params = policy.init(jax.random.PRNGKey(0))
  key = jax.random.PRNGKey(1)
  recording = recording_lib.record(env, policy, params, key, num_steps=30)
  rollout, _ = real.rollout(env, policy, params, key, num_envs=1, horizon=30)
  np.testing.assert_allclose(
    recording.pose.qpos[:-1], rollout.obs[:, 0], rtol=1e-6
  )
  np.testing.assert_allclose(
    recording.reward_so_far[-1], rollout.reward.sum(), rtol=1e-5
  )


@pytest.mark.parametrize('name', envs.names())
def test_every_environment_can_be_drawn(name):
  env = envs.make(name)
  model = env.scene()
  state = jax.eval_shape(env.initial_state, jax.random.PRNGKey(0))
  pose = jax.eval_shape(env.pose, state)
  assert pose.qpos.shape == (model.nq,)
  assert pose.mocap_pos.shape == (model.nmocap, 3)
  assert pose.mocap_quat.shape == (model.nmocap, 4)


def test_recording_says_what_the_task_is():
  """Every frame, through changes within an episode; others say nothing."""
  env = envs.make('point_direc', switch_period=3)
  policy = gaussian.make(2, 2, config_lib.GaussianPolicy(hidden_sizes=(4,)))
  params = policy.init(jax.random.PRNGKey(0))
  found = recording_lib.record(
    env, policy, params, jax.random.PRNGKey(1), num_steps=8
  )
  assert len(found.task) == len(found.time) == 9
  first, other = found.task[0], found.task[3]
  assert {first, other} == {'to the right', 'to the left'}
  assert found.task == (first,) * 3 + (other,) * 3 + (first,) * 3
  assert _embedded(render.page(found, title=''))['task'] == list(found.task)
  assert not _runner().task


def test_what_wraps_an_environment_shows_what_is_inside():
  env = envs.make('half_cheetah')
  draw = envs.randomized.log_uniform(env, mass=1.5)
  wrapped = envs.Randomized(env, draw)
  state = jax.eval_shape(wrapped.initial_state, jax.random.PRNGKey(0))
  assert wrapped.scene() is env.scene()
  assert jax.eval_shape(wrapped.pose, state).qpos.shape == (9,)


def test_nothing_to_draw_is_refused_in_one_line():
  with pytest.raises(
    recording_lib.RecordingError, match='Countdown cannot be drawn: its scene'
  ):
    recording_lib.record(
      tiny.Countdown(), tiny.NO_OP, (), jax.random.PRNGKey(0), num_steps=2
    )


def test_a_rollout_that_diverges_is_refused_with_its_step():
  class Diverges(Falling):
    can_terminate = False

    def advance(self, pipeline_state, action):
      after = super().advance(pipeline_state, action)
      return jnp.where(after > 2, jnp.nan, after)

  with pytest.raises(
    recording_lib.RecordingError,
    match=r'Diverges is not drawn: the rollout is not finite after step [23]',
  ):
    recording_lib.record(
      Diverges(), tiny.NO_OP, (), jax.random.PRNGKey(0), num_steps=5
    )


# --- what is to be seen


def test_camera_follows_who_runs_away_and_no_one_else():
  runner = _runner()
  view = scene_lib.view(runner.model, scene_lib.motion(runner))
  assert runner.model.body(view.follow).name == 'torso'
  assert 0.5 < view.radius < 1.5
  # The square in which the point starts is in view, whatever the point does.
  model = envs.make('point').scene()
  point = _moving(model, np.linspace([-2, 0], [2, 1], 9), dt=1.0)
  view = scene_lib.view(model, scene_lib.motion(point))
  assert view.follow is None
  assert 2.8 < view.radius < 3


_ZOO = """
<mujoco>
  <asset>
    <material name="green" rgba="0 1 0 1"/>
    <mesh name="wedge" vertex="0 0 0  2 0 0  0 3 0  0 0 4"/>
    <hfield name="hills" nrow="2" ncol="2" size="1 1 1 1"/>
  </asset>
  <worldbody>
    <geom type="plane" size="0 0 1"/>
    <geom name="hills" type="hfield" hfield="hills"/>
    <geom type="sphere" size=".1" group="4"/>
    <geom type="sphere" size=".1" rgba="1 0 0 0"/>
    <body pos="0 0 1" euler="0 90 0">
      <freejoint/>
      <geom type="sphere" size=".5" material="green"/>
      <geom type="capsule" size=".2 .3" pos="1 0 0"/>
      <geom type="ellipsoid" size=".1 .2 .3" rgba="0 0 1 .5"/>
      <geom type="cylinder" size=".2 .5"/>
      <geom type="box" size=".1 .2 .3" material="green" rgba="1 0 0 1"/>
      <geom type="mesh" mesh="wedge"/>
    </body>
  </worldbody>
</mujoco>
"""


def _zoo() -> recording_lib.Recording:
  model = mujoco.MjModel.from_xml_string(_ZOO)
  return _moving(model, np.repeat(model.qpos0[None], 3, 0))


def _zoo_page() -> str:
  with pytest.warns(UserWarning, match="'hills' is not drawn: .* hfield"):
    return render.page(_zoo(), title='zoo')


def _embedded(page: str) -> dict:
  text = re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)
  return json.loads(text[1])


def test_page_holds_what_mujoco_shows():
  """Hidden and clear geoms are left out; colours by MuJoCo's precedence."""
  data = _embedded(_zoo_page())
  kinds = ['plane', 'sphere', 'capsule', 'ellipsoid', 'cylinder', 'box', 'mesh']
  assert [geom['type'] for geom in data['geoms']] == kinds
  colors = {geom['type']: geom['color'] for geom in data['geoms']}
  assert colors['sphere'] == [0, 1, 0, 1]  # of the material
  assert colors['box'] == [1, 0, 0, 1]  # its own
  assert colors['ellipsoid'] == [0, 0, 1, 0.5]


def test_page_has_the_poses_and_numbers_of_the_recording():
  runner = _runner(7)
  data = _embedded(render.page(runner, title='runner'))
  poses = np.frombuffer(base64.b64decode(data['poses']), np.float32)
  poses = poses.reshape(7, runner.model.nbody, 7)
  state = mujoco.MjData(runner.model)
  state.qpos[:] = runner.pose.qpos[3]
  mujoco.mj_forward(runner.model, state)
  np.testing.assert_allclose(poses[3, :, :3], state.xpos, atol=1e-6)
  np.testing.assert_allclose(poses[3, :, 3:], state.xquat, atol=1e-6)
  np.testing.assert_allclose(data['time'], runner.time)
  np.testing.assert_allclose(data['reward_so_far'], runner.reward_so_far)


def test_page_stands_alone_and_is_small():
  """Nothing is loaded, three.js says whose it is, titles are text."""
  page = render.page(_runner(1001), title='<script>alert(1)</script> & $x')
  assert not re.search(r'\b(src|href)=', page)
  assert page.count('</script>') == 3
  assert '&lt;script&gt;alert(1)&lt;/script&gt; &amp; $x' in page
  assert 'MIT licence' in page and 'three.js authors' in page
  assert len(page) < 2e6


# --- the page in a browser


@pytest.fixture(scope='module')
def browser(
  tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[browser_lib.Browser]:
  profile = tmp_path_factory.mktemp('browser')
  browser = browser_lib.Browser(profile, *browser_lib.SOFTWARE_GL)
  yield browser
  browser.close()


def _center(browser: browser_lib.Browser, selector: str) -> dict[str, float]:
  return browser.run(f"""(() => {{
    const box = document.querySelector('{selector}').getBoundingClientRect();
    return {{x: box.x, y: box.y + box.height / 2, width: box.width}};
  }})()""")


def _seek(browser: browser_lib.Browser, share: float) -> tuple[int, np.ndarray]:
  """Clicks on the time control; its value, and where the torso is then."""
  slider = _center(browser, '#time')
  place = slider['x'] + share * slider['width'], slider['y']
  browser.drag(place, place)
  frame = browser.run("document.querySelector('#time').valueAsNumber")
  torso = browser.run('viewer.bodies[1].matrixWorld.elements.slice(12, 15)')
  return frame, np.asarray(torso)


def test_page_plays_in_a_browser_without_network(
  browser: browser_lib.Browser, tmp_path: pathlib.Path
) -> None:
  """It draws, its time control moves the body, the mouse turns the view."""
  runner = _runner()
  path = tmp_path / 'policy.html'
  render.write_page(runner, path, title='runner')
  browser.open(path)
  size = browser.run('[canvas.clientWidth, canvas.clientHeight]')
  assert min(size) > 100

  # Of itself, first.
  start = browser.run('viewer.frame')
  for _ in range(40):
    browser.run('new Promise((done) => setTimeout(done, 300))')
    if browser.run('viewer.frame') != start:
      break
  else:
    pytest.fail('it does not play')

  motion = scene_lib.motion(runner)
  pictures, beside = [], []
  for share in (0.25, 0.75):
    frame, torso = _seek(browser, share)
    assert abs(frame - 100 * share) <= 3
    np.testing.assert_allclose(torso, motion.bodies[frame, 1, :3], atol=1e-4)
    text = browser.run("document.querySelector('#readout').textContent")
    assert f'time {0.05 * frame:.2f} s' in text
    assert f'return so far {2 * frame:.2f}' in text
    pictures.append(browser.picture()[60:-60])
    beside.append(browser.run('viewer.camera.position.toArray()') - torso)
  first, second = pictures
  assert first.std() > 10, 'the picture is empty'
  # The camera goes along, so the body is in the middle of both.
  np.testing.assert_allclose(beside[0][:2], beside[1][:2], atol=1e-3)
  assert np.abs(first - second)[150:350, 250:650].mean() > 2
  # The time control has stopped it.
  assert browser.run('viewer.frame') == frame
  np.testing.assert_array_equal(browser.picture()[60:-60], second)

  browser.drag((450, 300), (600, 260))
  browser.run('new Promise((done) => setTimeout(done, 100))')
  assert np.abs(browser.picture()[60:-60] - second).mean() > 2

  assert [u for u in browser.requests if not u.startswith('blob:')] == [
    path.as_uri()
  ]
  assert browser.problems == []


def test_shapes_are_mujocos(
  browser: browser_lib.Browser, tmp_path: pathlib.Path
) -> None:
  """Every type of geom fills the box, in its own frame, that it should."""
  path = tmp_path / 'zoo.html'
  path.write_text(_zoo_page())
  browser.open(path)
  boxes = browser.run("""viewer.bodies[1].children.map((mesh) => {
    mesh.geometry.computeBoundingBox();
    const box = mesh.geometry.boundingBox;
    return [box.min.toArray(), box.max.toArray()];
  })""")
  sizes = np.subtract(*np.swapaxes(boxes, 0, 1)[::-1])
  expected = [
    [1, 1, 1],
    [0.4, 0.4, 1.0],
    [0.2, 0.4, 0.6],
    [0.4, 0.4, 1.0],
    [0.2, 0.4, 0.6],
  ]
  np.testing.assert_allclose(sizes[:5], expected, atol=0.01)
  # MuJoCo turns a mesh to its axes of inertia.
  model = _zoo().model
  np.testing.assert_allclose(sizes[5], np.ptp(model.mesh_vert, 0), rtol=1e-4)
  # The body lies on its side: the capsule beside its middle is below it.
  places = browser.run("""viewer.bodies[1].children.map((mesh) => {
    mesh.updateWorldMatrix(true, false);
    return mesh.matrixWorld.elements.slice(12, 15);
  })""")
  np.testing.assert_allclose(places[1], [0, 0, 0], atol=1e-6)
  assert browser.problems == []


def test_page_says_that_it_needs_webgl(tmp_path: pathlib.Path) -> None:
  browser = browser_lib.Browser(tmp_path / 'profile', *browser_lib.NO_GL)
  path = tmp_path / 'policy.html'
  render.write_page(_runner(3), path, title='runner')
  browser.open(path)
  message = browser.run("document.querySelector('#message').innerText")
  hidden = browser.run("document.querySelector('#message').hidden")
  browser.close()
  assert not hidden
  assert 'WebGL, which this browser lacks' in message


# --- runs


def _train(workdir: pathlib.Path, progress=None, **overrides) -> None:
  config = tiny.point_config(run__num_iterations=2, run__render=True)
  for name, value in overrides.items():
    setattr(config.run, name, value)
  progress = progress or progress_lib.Silent()
  loop.train(config, workdir, make_algorithm=fake.make, progress=progress)


def test_a_finished_run_leaves_a_page(tmp_path: pathlib.Path) -> None:
  """Not one that was stopped; and not where it is switched off."""
  _train(tmp_path / 'off', render=False)
  assert not (tmp_path / 'off' / 'policy.html').exists()
  stop = fake.Interrupt(0, 'think', fake.sigterm)
  _train(tmp_path / 'run', progress=stop)
  page = tmp_path / 'run' / 'policy.html'
  assert not page.exists()
  _train(tmp_path / 'run')
  text = page.read_text()
  said = 'mbmpo on point, seed 0: best policy of 2 iterations'
  assert f'<h1>{said}</h1>' in text
  assert len(_embedded(text)['time']) == 11

  # Any of its policies, later on.
  out = tmp_path / 'latest.html'
  command = [sys.executable, 'experiments/render.py', '--which=latest']
  command += [f'--workdir={tmp_path / "run"}', f'--out={out}', '--steps=5']
  shown = subprocess.run(
    command, cwd=_ROOT, check=True, capture_output=True, text=True
  )
  assert shown.stdout.splitlines() == [str(out)]
  assert 'latest policy after 2 iterations' in out.read_text()
  assert len(_embedded(out.read_text())['time']) == 6


def test_a_finished_run_leaves_a_video_where_it_can(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  """Without a word where it cannot: the page is there."""

  def film(recording, path):
    path.write_text(f'{len(recording.time)} frames')

  def no_gl(recording, path):
    raise video.VideoError('no GL')

  for name, write in (('with', film), ('without', no_gl)):
    monkeypatch.setattr(video, 'write_video', write)
    _train(tmp_path / name)
    assert (tmp_path / name / 'policy.html').exists()
  assert (tmp_path / 'with' / 'policy.mp4').read_text() == '11 frames'
  assert not (tmp_path / 'without' / 'policy.mp4').exists()


def test_a_page_that_cannot_be_written_does_not_fail_the_run(
  tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
  monkeypatch.setattr(envs.point.Point, 'scene', lambda _: None)
  with pytest.warns(
    UserWarning, match='policy.html: not written: .*: Point cannot'
  ):
    _train(tmp_path)
  assert not (tmp_path / 'policy.html').exists()


# --- other libraries' environments


@pytest.mark.slow
# brax advertises MuJoCo Playground, and reads what MJX has moved elsewhere.
@pytest.mark.filterwarnings('ignore:Brax System, piplines:UserWarning')
@pytest.mark.filterwarnings('ignore:Accessing `:DeprecationWarning')
@pytest.mark.parametrize('backend', ['generalized', 'spring', 'mjx'])
def test_bodies_of_brax_are_where_brax_has_them(backend):
  env = envs.Adapted(
    base.brax_envs.get_environment('inverted_pendulum', backend=backend),
    reward=lambda obs, action, next_obs: jnp.ones(next_obs.shape[:-1]),
    done=None,
    max_episode_steps=1000,
  )
  with jax.numpy_rank_promotion('allow'):  # as these physics do on purpose
    state = jax.jit(env.reset)(jax.random.PRNGKey(0))
  model = env.scene()
  data = mujoco.MjData(model)
  data.qpos[:] = env.pose(state.pipeline_state).qpos
  mujoco.mj_kinematics(model, data)
  links = state.pipeline_state.pipeline_state.x.pos
  np.testing.assert_allclose(data.xpos[1:], links, atol=1e-5)


# --- videos


def test_video_is_as_long_as_the_recording(tmp_path: pathlib.Path) -> None:
  ffmpeg = pytest.importorskip('imageio_ffmpeg')
  path = tmp_path / 'policy.mp4'
  try:
    video.write_video(_runner(11), path, width=160, height=128)
  except video.VideoError as error:
    pytest.skip(str(error))
  command = [ffmpeg.get_ffmpeg_exe(), '-i', str(path), '-f', 'rawvideo']
  done = subprocess.run(
    [*command, '-pix_fmt', 'rgb24', '-'], capture_output=True, check=True
  )
  assert b'160x128' in done.stderr and b'20 fps' in done.stderr
  film = np.frombuffer(done.stdout, np.uint8).reshape(-1, 128, 160, 3)
  assert len(film) == 11
  assert film[0].std() > 10
  assert np.abs(film[0] - film[-1].astype(float)).mean() > 1


@pytest.mark.parametrize(
  ('gl', 'message'),
  [
    ('', 'no video: needs a GL library'),
    ('nonsense', 'no video: MUJOCO_GL=nonsense does not work here'),
  ],
)
def test_no_gl_is_one_clear_line(tmp_path, monkeypatch, gl, message):
  pytest.importorskip('imageio_ffmpeg')
  monkeypatch.setattr(video.ctypes.util, 'find_library', lambda _: None)
  monkeypatch.setenv('MUJOCO_GL', gl)
  with pytest.raises(video.VideoError, match=message):
    video.write_video(_runner(3), tmp_path / 'policy.mp4')
  assert list(tmp_path.iterdir()) == []


def test_no_ffmpeg_is_one_clear_line(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'imageio_ffmpeg', None)
  with pytest.raises(
    video.VideoError, match=r'pip install .mbmpo-jax\[video\]'
  ):
    video.write_video(_runner(3), tmp_path / 'policy.mp4')
