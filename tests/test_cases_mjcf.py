"""MJCF files of strangers: refused by name, mended, or loaded and said so."""

import pathlib
import warnings

import mujoco
import numpy as np
import pytest

from mbmpo_jax.envs import actuators
from mbmpo_jax.envs import mjcf
from mbmpo_jax.envs import mjx_fields

_WORLD = """
<mujoco>
  <option timestep="0.005" {option}>{flag}</option>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 .1"/>
    <body name="a" pos="0 0 1">
      <joint name="j" axis="0 1 0" {joint}/>
      <geom name="g" type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" {geom}/>
    </body>
    <body name="b" pos="0 0 .06">
      <freejoint/><geom name="c" size="0.05"/>
    </body>
  </worldbody>
  <tendon><fixed name="t" {tendon}><joint joint="j" coef="1"/></fixed></tendon>
  <actuator>{actuator}</actuator>
  <sensor>{sensor}</sensor>
</mujoco>
"""
_PARTS = dict.fromkeys(
  ('option', 'flag', 'joint', 'geom', 'tendon', 'sensor'), ''
)
_MOTOR = '<motor name="m" joint="j" ctrlrange="-5 5" {}/>'


def _world(**parts: str) -> str:
  return _WORLD.format(**{**_PARTS, 'actuator': _MOTOR.format(''), **parts})


def _motor(attributes: str) -> str:
  return _world(actuator=_MOTOR.format(attributes))


def _written(text: str, folder: pathlib.Path) -> pathlib.Path:
  path = folder / 'world.xml'
  path.write_text(text)
  return path


def _refusal(text: str, folder: pathlib.Path) -> str:
  with pytest.raises(mjcf.MjcfError) as error:
    mjcf.load(_written(text, folder))
  message = str(error.value)
  assert '\n' not in message
  return message


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    (_world(option='noslip_iterations="3"'), ['noslip_iterations', 'to 0']),
    (_motor('delay="0.02" nsample="5"'), ["actuator 'm'", 'delay', 'remove']),
    (
      _world(
        option='actuatorgroupdisable="2"', actuator=_MOTOR.format('group="2"')
      ),
      ['actuatorgroupdisable', 'delete the actuators'],
    ),
    (
      _world(
        actuator='<general name="m" joint="j" ctrlrange="-1 1" actearly="true"'
        ' dyntype="filter" dynprm="0.1"/>'
      ),
      ["actuator 'm'", 'actearly'],
    ),
    (_motor('damping="1"'), ["actuator 'm'", 'damping of the joint']),
    (_motor('armature="1"'), ["actuator 'm'", 'armature of the joint']),
    (_world(joint='damping="0.1 0.5 0.2"'), ["joint 'j'", 'polynomial damp']),
    (_world(joint='stiffness="1 2"'), ["joint 'j'", 'polynomial stiffness']),
    (
      _world(flag='<flag spring="disable"/>'),
      ['<flag spring="disable"/>', 'stiffness="0"'],
    ),
    (
      _world(flag='<flag damper="disable"/>'),
      ['<flag damper="disable"/>', 'damping="0"'],
    ),
    # Further ones of the kind.
    (_world(tendon='damping="1 2"'), ["tendon 't'", 'polynomial damping']),
    (_world(tendon='stiffness="1 2"'), ["tendon 't'", 'polynomial stiff']),
    (_world(flag='<flag sleep="enable"/>'), ['<flag sleep="enable"/>']),
    (_world(flag='<flag override="enable"/>'), ['override', 'solref']),
    (_world(flag='<flag diagexact="enable"/>'), ['diagexact', 'remove']),
    (_world(option='integrator="discrete"'), ['"discrete"', 'implicitfast']),
    (
      _world(geom='fluidshape="ellipsoid"', option='density="1.2"'),
      ["geom 'g'", 'fluidshape'],
    ),
    (
      _world(option='density="1.2" integrator="implicitfast"'),
      ['fluid', '"Euler"'],
    ),
    (_world(geom='surfacevel="1 0 0 0 0 0"'), ["geom 'g'", 'surfacevel']),
    (_world(geom='adhesion="1"'), ["geom 'g'", 'adhesion']),
    # Refused by MJX itself, in names of its own.
    (
      _world(actuator='<adhesion name="x" body="a" ctrlrange="0 1" gain="3"/>'),
      ["actuator 'x'", 'adhesion', 'remove'],
    ),
    (
      '<mujoco><worldbody><flexcomp name="f" type="grid" count="3 3 1" dim="2"'
      ' spacing=".1 .1 .1" mass="1" radius=".01"/></worldbody></mujoco>',
      ['<flex>', 'rigid'],
    ),
  ],
)
def test_what_mjx_leaves_out_is_refused(text, said, tmp_path):
  message = _refusal(text, tmp_path)
  for words in said:
    assert words in message
  assert 'mjt' not in message


@pytest.mark.parametrize(
  'text',
  [
    _world(geom='fluidshape="ellipsoid"'),  # Nothing flows.
    _world(option='actuatorgroupdisable="2"'),  # Nothing is in that group.
    # It has no activation.
    _world(actuator='<general joint="j" ctrlrange="-1 1" actearly="true"/>'),
  ],
)
def test_what_changes_nothing_is_not_refused(text, tmp_path):
  mjcf.load(_written(text, tmp_path))


def test_every_field_of_this_mujoco_is_classed():
  model = mujoco.MjModel.from_xml_string(_world())
  assert mjx_fields.unclassified(model) == []


def test_no_field_is_in_two_classes():
  assert not mjx_fields.READ & mjx_fields.REFUSED.keys()
  for name in (*mjx_fields.READ, *mjx_fields.REFUSED):
    if name.startswith('mesh_'):
      continue  # Some are read; all are of shapes that are drawn, too.
    assert not mjx_fields._harmless(name), name


def test_a_field_of_the_next_release_is_refused(tmp_path, monkeypatch):
  """As if stiffness and impratio were new; their defaults do no harm."""
  new = {'jnt_stiffness', 'opt.impratio'}
  monkeypatch.setattr(mjx_fields, 'READ', mjx_fields.READ - new)
  model = mujoco.MjModel.from_xml_string(_world())
  assert set(mjx_fields.unclassified(model)) == new
  mjcf.load(_written(_world(), tmp_path))
  message = _refusal(_world(joint='stiffness="1"'), tmp_path)
  assert "joint 'j': MjModel.jnt_stiffness" in message
  message = _refusal(_world(option='impratio="2"'), tmp_path)
  assert 'MjModel.opt.impratio' in message and 'older MuJoCo' in message


@pytest.mark.parametrize(
  'parts',
  [
    dict(geom='gap=".1"'),
    dict(option='noslip_tolerance="1" ccd_iterations="2" sleep_tolerance="1"'),
    dict(option='o_margin="1" sdf_iterations="1"'),
    dict(flag='<flag energy="enable" fwdinv="enable" invdiscrete="enable"/>'),
    dict(flag='<flag midphase="disable" nativeccd="disable"/>'),
    dict(flag='<flag island="disable" autoreset="disable"/>'),
    dict(geom='group="3" rgba="1 0 0 1"'),
  ],
)
def test_what_is_called_harmless_moves_nothing(parts, tmp_path):
  def motion(text: str) -> np.ndarray:
    model = mujoco.MjModel.from_xml_string(text)
    data = mujoco.MjData(model)
    data.qvel[:], data.ctrl[:] = 0.3, 1.0
    for _ in range(60):
      mujoco.mj_step(model, data)
    assert data.ncon
    return np.concatenate([data.qpos, data.qvel])

  changed, plain = _world(**parts), _world()
  np.testing.assert_allclose(motion(changed), motion(plain), atol=1e-12)
  loaded, _ = mjcf.load(_written(changed, tmp_path))
  assert loaded.opt.enableflags == 0


def test_sensors_that_mjx_lacks_are_left_out_and_named(tmp_path):
  text = _world(
    sensor='<jointpos name="here" joint="j"/><user name="own" dim="3"/>'
    '<distance name="far" geom1="g" geom2="c" cutoff="1"/>'
    '<clock name="late" delay="0.02" nsample="5"/>'
  )
  with pytest.warns(UserWarning, match='left out sensors') as told:
    model, device_model = mjcf.load(_written(text, tmp_path))
  (line,) = told
  for words in ("'own' (user)", "'far' (geomdist)", "'late' (clock)"):
    assert words in str(line.message)
  assert model.nsensor == device_model.nsensor == 1
  assert model.sensor('here').adr == 0


def test_accelerations_that_mjx_leaves_at_zero_are_not_read(tmp_path):
  """Without any constraint, MJX computes no sensor of that stage."""
  text = """<mujoco><worldbody><body><joint/><geom size=".1"/><site name="s"/>
    </body></worldbody><sensor><accelerometer name="x" site="s"/>
    <gyro name="y" site="s"/></sensor></mujoco>"""
  with pytest.warns(UserWarning, match=r"'x' \(accelerometer\);"):
    model, _ = mjcf.load(_written(text, tmp_path))
  assert model.nsensor == 1
  bound = text.replace('<joint/>', '<joint frictionloss=".1"/>')
  assert mjcf.load(_written(bound, tmp_path))[0].nsensor == 2


_TWO = """
<mujoco>
  <worldbody>
    <body name="p"><joint axis="0 1 0"/>
      <geom name="cyl" type="cylinder" size=".05 .2"/>
      {inside}
    </body>
    <body name="q" pos="0 0 .3"><freejoint/>
      <geom name="first" type="box" size=".05 .05 .05"/></body>
    <body name="r" pos="1 0 0"><freejoint/>
      <geom name="far" type="{far}" size=".05 .05 .05" {margin}/></body>
  </worldbody>
  <contact>{contact}<exclude body1="p" body2="q"/></contact>
</mujoco>
"""
_CHILD = """<body name="kid"><joint/><geom name="childbox" type="box"
  size=".1 .1 .1"/></body>"""
_WELDED = '<body><geom name="same" type="box" size=".1 .1 .1"/></body>'


@pytest.mark.parametrize(
  ('parts', 'pair'),
  [
    (dict(), ('cyl', 'far')),
    (dict(inside=_CHILD), ('cyl', 'far')),
    (dict(inside=_WELDED), ('cyl', 'far')),
    (
      dict(far='ellipsoid', contact='<pair geom1="cyl" geom2="first"/>'),
      ('cyl', 'first'),
    ),
  ],
)
def test_the_pair_that_collides_is_named(parts, pair, tmp_path):
  parts = {'inside': '', 'far': 'box', 'margin': '', 'contact': '', **parts}
  message = _refusal(_TWO.format(**parts), tmp_path)
  for name in pair:
    assert f"geom '{name}'" in message
  for other in {'childbox', 'same', 'first', 'far'} - set(pair):
    assert other not in message
  # A box as a mesh would be refused again, a cylinder as one is not.
  assert "make geom 'cyl' a sphere or capsule or box or mesh" in message
  ways = message.split(f"make geom '{pair[1]}' a ")[1].split(', or')[0]
  assert 'mesh' not in ways and 'capsule' in ways


def test_pairs_that_cannot_touch_are_no_hindrance(tmp_path):
  text = _TWO.format(inside=_CHILD, far='sphere', margin='', contact='')
  mjcf.load(_written(text, tmp_path))


_POSITION = '<position name="m" joint="j" kp="{}" {}/>'
_TENDON_MUSCLE = '<muscle name="m" tendon="t" lengthrange="0 1"/>'


@pytest.mark.parametrize(
  ('actuator', 'joint', 'expected', 'source'),
  [
    ('<motor name="m" joint="j" ctrlrange="-2 3"/>', '', (-2, 3), None),
    (
      '<motor name="m" joint="j" ctrlrange="-20 20" ctrllimited="false"/>',
      '', (-20, 20), 'ctrllimited',
    ),
    ('<motor name="m" joint="j" forcerange="-20 10"/>', '', (-20, 10), 'force'),
    (
      '<general name="m" joint="j" gainprm="-4" forcerange="-20 10"/>',
      '', (-2.5, 5), 'forcerange',
    ),
    (
      '<motor name="m" joint="j" gear="5"/>',
      'actuatorfrcrange="-20 10"', (-4, 2), 'actuatorfrcrange',
    ),
    (
      _POSITION.format(3, ''), 'range="-120 90"',
      (-2 * np.pi / 3, np.pi / 2), "joint's range",
    ),
    (
      _POSITION.format(3, 'gear="-2"'), 'range="-120 90"',
      (-np.pi, 4 * np.pi / 3), "joint's range",
    ),
    (_POSITION.format(3, ''), '', (-1, 1), 'to controls in [-1, 1]; give it'),
    ('<motor name="m" joint="j"/>', '', (-1, 1), 'give it a ctrlrange'),
    (_TENDON_MUSCLE, '', (0, 1), 'muscle'),
    ('<velocity name="m" joint="j"/>', 'range="-9 9"', (-1, 1), 'give it'),
  ],
)  # fmt: skip
def test_an_actuator_without_a_range_is_named(
  actuator, joint, expected, source
):
  model = mujoco.MjModel.from_xml_string(_world(actuator=actuator, joint=joint))
  ranges, lines = actuators.control_ranges(model)
  np.testing.assert_allclose(ranges, [expected], rtol=1e-12)
  if source is None:
    assert lines == []
  else:
    (line,) = lines
    assert "actuator 'm': no ctrlrange" in line and source in line


def test_nothing_is_said_where_nothing_is_left_out(tmp_path):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    mjcf.load(_written(_world(), tmp_path))
