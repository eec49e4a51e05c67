r"""Figure 4 of M3PO's paper: bounds for branched and for full rollouts.

  python experiments/figures/m3po_fig4.py

C_Th2 - C_Th1 over the model error eps_m (0 to 1) and the branch length k (1 to
50), for gamma 0.85, 0.9 and 0.95: (a) with eps_pi = 0, (b) with eps_pi = 1 -
eps_m. Negative values mean that branched rollouts have the tighter bound; the
white line is 0. Claims: the difference is never positive for k = 1, and C_Th2
does not decrease with k.
"""

import pathlib
from typing import Any

import jax
import numpy as np

from mbmpo_jax.theory import bounds
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.launch import flags as training_flags
from mbmpo_jax.training.launch import folder_flag
from mbmpo_jax.training.reporting import plot_paper

_GAMMAS = (0.85, 0.9, 0.95)
_K = np.arange(1, 51)
_EPS_M = np.linspace(0, 1, 41)
_CASES = ('a', 'b')


def values() -> dict[str, dict[str, np.ndarray]]:
  """Returns C_Th2 and its difference from C_Th1, `[k, eps_m]`.

  Keyed by case and gamma; computed in double precision.
  """
  found: dict[str, dict[str, np.ndarray]] = {}
  k, eps_m = _K[:, None].astype(float), _EPS_M[None]
  with jax.enable_x64(True):
    for case in _CASES:
      eps_pi = 0 * eps_m if case == 'a' else 1 - eps_m
      for gamma in _GAMMAS:
        errors: dict[str, Any] = dict(gamma=gamma, eps_m=eps_m, eps_pi=eps_pi)
        branched = np.asarray(bounds.c_th2(k=k, **errors))
        whole = np.asarray(bounds.c_th1(**errors))
        found[f'{case}, gamma {gamma:g}'] = {
          'branched': branched,
          'difference': branched - whole,
        }
  return found


def claims(found: dict[str, dict[str, np.ndarray]]) -> list[report.Claim]:
  first = np.concatenate([entry['difference'][0] for entry in found.values()])
  grid = f'{first.size} points of k = 1'
  largest = float(first.max())
  zeros = int(np.sum(first == 0))
  steps = np.stack(
    [np.diff(entry['branched'], axis=0) for entry in found.values()]
  )
  least = float(steps.min())
  longest = np.concatenate(
    [entry['difference'][-1] for name, entry in found.items() if name[0] == 'b']
  )
  return [
    report.Claim(
      'with k = 1 branched rollouts are guaranteed at least as tightly as whole'
      ' ones (C_Th2 - C_Th1 <= 0)',
      report.HELD if largest <= 0 else report.FAILED,
      f'the difference is at most {largest:g} at {grid}',
      {'largest': largest},
    ),
    report.Claim(
      'with k = 1 the difference is always smaller than zero',
      report.HELD if largest < 0 else report.FAILED,
      f'it is exactly 0 at {zeros} of {grid}, where both errors are 0'
      if zeros
      else f'it is at most {largest:g} at {grid}',
      {'zeros': zeros},
    ),
    report.Claim(
      'C_Th2 never falls as branches grow longer',
      report.HELD if least >= -1e-9 else report.FAILED,
      f'its least change from k to k + 1 is {least:.3g}; at k = {_K[-1]} with'
      f' eps_pi = 1 - eps_m whole rollouts are tighter at'
      f' {np.mean(longest > 0):.0%} of the model errors',
      {'least_change': least},
    ),
  ]


def draw(found: dict[str, dict[str, np.ndarray]]) -> Any:
  words = {'a': r'$\epsilon_\pi = 0$', 'b': r'$\epsilon_\pi = 1 - \epsilon_m$'}
  entries = [
    plot_paper.Map(
      rf'({case}) $\gamma = {gamma:g}$, {words[case]}',
      found[f'{case}, gamma {gamma:g}']['difference'],
      (0.0, 1.0, 0.5, _K[-1] + 0.5),
      r'$C_{Th2} - C_{Th1}$',
      row,
      aspect='auto',
      zero=True,
    )
    for row, gamma in enumerate(_GAMMAS)
    for case in _CASES
  ]
  return plot_paper.maps(entries, x=r'model error $\epsilon_m$', y='$k$')


def main(root: pathlib.Path) -> None:
  """Computes and draws the figure, and prints the claims' verdicts."""
  with training_flags.one_line_errors():
    found = values()
    said = claims(found)
    numbers = {
      'k': _K,
      'eps_m': _EPS_M,
      'difference': {
        name: entry['difference'] for name, entry in found.items()
      },
    }
    files = report.write(root, 'm3po_fig4', draw(found), said, numbers)
  for claim in said:
    print(claim.sentence)
  for file in files:
    print(file)


if __name__ == '__main__':
  folder_flag.run(main, 'runs/figures/m3po_fig4')
