"""Labels and colours of algorithms, the same in all figures.

The first colours are Okabe and Ito's, which people with colour blindness can
tell apart; the others are from Paul Tol's muted set. Algorithms that papers
compare have colours that differ most.
"""

import zlib
from typing import NamedTuple


class Appearance(NamedTuple):
  """The appearance of an algorithm in figures.

  Attributes:
    label: its name in papers.
    color: of its curves, `#rrggbb`.
  """

  label: str
  color: str


_KNOWN = {
  'mbmpo': Appearance('MB-MPO', '#0072B2'),
  'me_trpo': Appearance('ME-TRPO', '#D55E00'),
  'mb_mpc': Appearance('MB-MPC', '#009E73'),
  'trpo': Appearance('TRPO', '#CC79A7'),
  'ppo': Appearance('PPO', '#E69F00'),
  'acktr': Appearance('ACKTR', '#882255'),
  'sac': Appearance('SAC', '#56B4E9'),
  'ddpg': Appearance('DDPG', '#999933'),
  'm3po': Appearance('M3PO', '#332288'),
  'pe_ppo': Appearance('PE-PPO', '#AA4499'),
  'pearl': Appearance('PEARL', '#CC6677'),
  'l2a': Appearance('L2A', '#AA4499'),
  'gssm': Appearance('GSSM', '#117733'),
}
# For variants of one algorithm, and for algorithms that are not listed above.
PALETTE = (
  '#0072B2',
  '#D55E00',
  '#009E73',
  '#CC79A7',
  '#E69F00',
  '#56B4E9',
  '#882255',
  '#999933',
)


def of(name: str) -> Appearance:
  """The appearance of an algorithm, listed above or not.

  Example:
    >>> of('me_trpo').label
    'ME-TRPO'
    >>> of('my_own') == of('my_own')
    True
  """
  if name in _KNOWN:
    return _KNOWN[name]
  return Appearance(name, PALETTE[zlib.crc32(name.encode()) % len(PALETTE)])
