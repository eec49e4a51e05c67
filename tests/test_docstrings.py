"""The examples in docstrings give what they say."""

import doctest
import importlib
import pathlib

import pytest

import mbmpo_jax

_ROOT = pathlib.Path(mbmpo_jax.__file__).parent


def _modules() -> list[str]:
  """Those with an example."""
  found = []
  for path in sorted(_ROOT.rglob('*.py')):
    if '>>> ' in path.read_text(encoding='utf-8'):
      parts = path.relative_to(_ROOT.parent).with_suffix('').parts
      found.append('.'.join(p for p in parts if p != '__init__'))
  return found


def test_there_are_examples() -> None:
  assert len(_modules()) >= 9


@pytest.mark.parametrize('name', _modules())
def test_examples(name) -> None:
  """A traceback's last line counts, and what it leaves out by `...`."""
  module = importlib.import_module(name)
  result = doctest.testmod(module, optionflags=doctest.ELLIPSIS)
  assert result.attempted
  assert not result.failed
