"""What MJX cannot simulate is refused by the name of the element."""

import pathlib

import pytest

from mbmpo_jax.envs import mjcf

_WORLD = """
<mujoco>
  <option {option}/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <body><freejoint/><geom name="a" type="{a}" size=".1 .1 .1"/></body>
    <body><freejoint/><geom name="b" type="{b}" size=".1 .1 .1"/></body>
    <body><freejoint/><geom name="c" type="{b}" size=".1 .1 .1"
      contype="0" conaffinity="0"/></body>
  </worldbody>
</mujoco>
"""


def _write(folder: pathlib.Path, text: str) -> pathlib.Path:
  path = folder / 'world.xml'
  path.write_text(text)
  return path


def _world(option: str = '', a: str = 'sphere', b: str = 'sphere') -> str:
  return _WORLD.format(option=option, a=a, b=b)


@pytest.mark.parametrize(
  ('text', 'said'),
  [
    (_world('solver="PGS"'), ['PGS', 'solver="Newton"']),
    (
      _world('integrator="implicit"'),
      ['integrator="implicit"', 'implicitfast'],
    ),
    (_world(a='cylinder', b='box'), ["'a' (cylinder)", "'b' (box)", 'capsule']),
    (_world(a='box', b='cylinder'), ["'b' (cylinder)", "'a' (box)", 'exclude']),
    (_world('gravitty="0 0 0"'), ['gravitty', 'line 3']),
    ('<mujoco><worldbody>', ['XML']),
  ],
)
def test_refused_in_one_line_with_the_way_out(
  text: str, said: list[str], tmp_path: pathlib.Path
) -> None:
  path = _write(tmp_path, text)
  with pytest.raises(mjcf.MjcfError) as error:
    mjcf.load(path)
  message = str(error.value)
  assert message.startswith(f'{path}: ') and '\n' not in message
  for words in said:
    assert words in message


def test_missing_file_is_named(tmp_path: pathlib.Path) -> None:
  with pytest.raises(mjcf.MjcfError, match=r'nothing\.xml: no such file'):
    mjcf.load(tmp_path / 'nothing.xml')


def test_what_mjx_can_simulate_is_loaded(tmp_path: pathlib.Path) -> None:
  model, device_model = mjcf.load(_write(tmp_path, _world()))
  assert model.nq == device_model.nq == 21
