"""Plain docstrings, as they are in the code, made reStructuredText.

An indented paragraph is literal, `code` is in single backquotes, nothing else
means anything. A field of a named tuple is described by the comment beside it.
"""

import importlib
import inspect
import re
from collections.abc import Sequence

_SECTION = re.compile(r'(Args|Returns|Raises|Attributes|Example|Examples):$')
_MARKUP = re.compile(r'(`[^`]+`)|([*|\\]|(?<=\w)_(?!\w))')


def process(
  app: object,
  what: str,
  name: str,
  obj: object,
  options: object,
  lines: list[str],
) -> None:
  """Rewrites `lines` in place; a handler of autodoc-process-docstring."""
  del app, obj, options
  if what == 'attribute' and lines[:1] and lines[0].startswith('Alias for f'):
    lines[:] = [_comment(name)]
  lines[:] = _rewrite(lines)


def _comment(name: str) -> str:
  """What stands beside the field of this full name."""
  path, field = name.rsplit('.', 1)
  module, owner = path.rsplit('.', 1)
  source = inspect.getsource(getattr(importlib.import_module(module), owner))
  match = re.search(rf'^\s+{field}: .*?#\s*(.+)$', source, re.MULTILINE)
  return match[1] if match else ''


def _rewrite(lines: Sequence[str]) -> list[str]:
  """Literal where indented outside of sections, escaped elsewhere."""
  rewritten: list[str] = []
  literal = in_section = example = False
  for index, line in enumerate(lines):
    if line and not line.startswith(' '):
      literal, in_section = False, bool(_SECTION.match(line))
    starts = line.startswith('  ') and not (index and lines[index - 1].strip())
    if starts and not literal and not in_section:
      rewritten += ['::', '']
      literal = True
    # A doctest, with its output, lasts to the next empty line.
    example = bool(line) and (example or line.lstrip().startswith('>>> '))
    as_it_is = literal or example
    rewritten.append(line if as_it_is else _MARKUP.sub(_escape, line))
  return rewritten


def _escape(match: re.Match[str]) -> str:
  # Twice, as napoleon then leaves the colons within alone.
  return f'`{match[1]}`' if match[1] else f'\\{match[2]}'
