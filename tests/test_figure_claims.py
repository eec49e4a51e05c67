"""What figures say of made-up runs: where it must hold, and must not."""

import importlib
import pathlib
from collections.abc import Callable

import numpy as np
import pytest

from experiments.figures import gssm_tables
from experiments.figures import gssm_unseen as unseen
from mbmpo_jax.training.figures import command
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import study
from mbmpo_jax.training.figures import task_pools
from mbmpo_jax.training.figures import unseen_tasks

# Of a group: the return it climbs to, and the transitions of a run.
_Look = Callable[[study.Group], tuple[float, float]]
_BY_KEY: dict[str, dict[str, float]] = {
  'fig1': {'mbmpo': 2.0},
  'fig2': {'mbmpo': 2.0},
  'fig4': {'mbmpo': 2.0},
  'fig5': {'alpha=0.001': 2.0},
  'fig7': {'0.001': 2.0, '5': 1.9, '15': 2.0, '30': 2.0},
  'm3po_fig7': {'m3po': 2.0, 'm3po_h_long': 2.0},
  'm3po_fig9': {'m3po': 2.0},
  'gssm_fig2': {'gssm': 2.0},
  'gssm_fig3': {'small': 2.0, 'latent_32': 2.5, 'latent_64': 2.4},
}


def _study(name: str, look: _Look) -> tuple[command.Figure, study.Study]:
  figure = importlib.import_module(f'experiments.figures.{name}').FIGURE
  groups = figure.groups('quick', figure.methods)
  return figure, study.Study(
    'quick',
    pathlib.Path('nowhere'),
    tuple(
      study.Found(group, tuple(_rows(run, *look(group)) for run in group.runs))
      for group in groups
    ),
  )


def _rows(run: study.Run, level: float, transitions: float) -> list[dict]:
  """To its level, the better the sooner; seeds are 1% apart."""
  count = run.config.run.num_iterations
  steps = transitions / count
  begins = 0.2 if level > 1.5 else 0.5
  level *= 1 + 0.01 * run.config.seed
  return [
    {
      'iteration': index,
      'env_steps': steps * (index + 1),
      'eval/return_mean': level if index >= begins * count else 0.0,
      'real/return': level if index >= begins * count else 0.0,
      'time/eval_s': 1.0,
      'time/learn_s': 1.0,
    }
    for index in range(count)
  ]


def _verdicts(name: str, look: _Look) -> dict[str, str]:
  figure, found = _study(name, look)
  assert not found.missing
  return {claim.text: claim.verdict for claim in figure.claims(found)}


@pytest.mark.parametrize(
  'name', ['fig2', 'fig4', 'm3po_fig7', 'm3po_fig9', 'gssm_fig2', 'gssm_fig3']
)
def test_the_better_is_called_better(name, monkeypatch):
  """All claims hold; and fail, if ours are the worse."""
  known = _BY_KEY[name]

  def level(key: str, sign: int) -> float:
    return known.get(key, 1.0) if sign > 0 else 3.0 - known.get(key, 1.0)

  def verdicts(sign: int) -> dict[str, str]:
    def kept(folder: pathlib.Path, *_) -> unseen_tasks.Found:
      """In unseen tasks, runs are as good as while they learn."""
      rng = np.random.default_rng(len(folder.name))
      mean = level(folder.parent.name, sign)
      returns = (mean + 0.01 * rng.standard_normal(20)).tolist()
      return unseen_tasks.Found(returns, [], [], [], {}, [])

    monkeypatch.setattr(unseen_tasks, 'kept', kept)
    monkeypatch.setattr(task_pools, 'kept_pools', lambda *_: None)
    return _verdicts(
      name,
      lambda group: (
        level(group.key, sign),
        2000.0 if 'long' in group.key else 1000.0,
      ),
    )

  held = verdicts(1)
  assert set(held.values()) == {report.HELD}
  failed = verdicts(-1)
  # That it still runs forward holds, though it is the worse.
  assert {v for k, v in failed.items() if 'forward' not in k} == {report.FAILED}


@pytest.mark.parametrize(
  'name', ['fig1', 'fig2', 'fig4', 'm3po_fig7', 'm3po_fig9']
)
def test_a_part_of_the_environments_is_judged(name):
  """Each environment of a figure alone, as with --envs."""
  figure, found = _study(name, lambda group: (1.0, 1000.0))
  for env in {
    run.config.env.name for x in found.groups for run in x.group.runs
  }:
    part = tuple(
      x for x in found.groups if x.group.runs[0].config.env.name == env
    )
    figure.draw(found._replace(groups=part))
    for claim in figure.claims(found._replace(groups=part)):
      others = {x.group.panel for x in found.groups} - {
        x.group.panel for x in part
      }
      assert not any(other in claim.sentence for other in others)


def test_fewer_transitions_are_called_fewer():
  """Figure 1: a hundredth as many, and as many."""
  ratio = 100.0

  def look(group: study.Group) -> tuple[float, float]:
    ours = group.key == 'mbmpo'
    return 1.0, 1000 * (1.0 if ours else ratio)

  assert set(_verdicts('fig1', look).values()) == {report.HELD}
  ratio = 1.0
  assert set(_verdicts('fig1', look).values()) == {report.FAILED}


def test_adaptation_is_called_better_and_steadier():
  """Figure 5."""
  of = _BY_KEY['fig5']
  better, steadier = _verdicts(
    'fig5', lambda group: (of.get(group.key, 1.0), 100.0)
  ).values()
  # None of these runs unlearns anything.
  assert better == report.HELD and steadier == report.UNDECIDED
  better, _ = _verdicts(
    'fig5', lambda group: (3.0 - of.get(group.key, 1.0), 100.0)
  ).values()
  assert better == report.FAILED


@pytest.mark.parametrize(
  ('gain', 'verdict'),
  [(1.2, report.HELD), (1.12, report.HELD), (1.03, None), (0.8, report.FAILED)],
)
def test_tailored_data_are_called_better(gain, verdict):
  """Figure 6: by a fifth, by as much as published, by too little, by less."""
  found = _verdicts(
    'fig6', lambda group: (1.0 if 'meta' in group.key else gain, 100.0)
  )
  assert len(found) == 2
  expected = {verdict} if verdict else {report.FAILED, report.UNDECIDED}
  assert set(found.values()) <= expected


def test_more_is_called_better():
  """Figure 7: of alpha, of models, of meta-steps."""
  levels = {
    'alpha': {'0': 1.0},
    'models': {'1': 1.0},
    'meta_steps': {'5': 1.0},
  }

  def look(group: study.Group) -> tuple[float, float]:
    return levels[group.panel].get(group.key, 2.0), 100.0

  assert set(_verdicts('fig7', look).values()) == {report.HELD}
  flipped = {
    panel: dict.fromkeys(known, 3.0) for panel, known in levels.items()
  }
  levels.update(flipped)
  assert set(_verdicts('fig7', look).values()) == {report.FAILED}


def test_ppo_is_judged_by_its_best_ten_episodes_before_the_mark():
  """Figure 6 of GSSM: it is as good later, before the mark, and never."""
  figure, _ = _study('gssm_fig6', lambda group: (1.0, 1.0))
  transitions = {'gssm': 24_000.0}

  def verdicts_of(begins: float) -> set[str]:
    made = []
    for group in figure.groups('quick', figure.methods):
      runs = []
      for run in group.runs:
        steps = transitions.get(group.key, 120_000.0)
        rows = _rows(run, 1.0, steps)
        if group.key != 'gssm':
          for row in rows:
            row['real/return'] = float(row['env_steps'] >= begins)
        runs.append(rows)
      made.append(study.Found(group, tuple(runs)))
    found = study.Study('quick', pathlib.Path('nowhere'), tuple(made))
    return {claim.verdict for claim in figure.claims(found)}

  assert verdicts_of(26_000) == {report.HELD}
  # One iteration of PPO has ten episodes, so the first good one counts.
  assert report.HELD not in verdicts_of(24_000)


@pytest.mark.parametrize(
  ('own', 'other', 'rival', 'returns', 'seconds', 'verdict'),
  [
    (1.0, 3.0, 2.0, -80.0, 0.001, report.HELD),
    (1.0, 1.5, 0.5, -110.0, 0.02, report.FAILED),
  ],
)
def test_what_tables_say_of_errors_returns_and_seconds(
  own, other, rival, returns, seconds, verdict
):
  """GSSM's tables: twenty tasks and three seeds, with a little noise."""
  rng = np.random.default_rng(0)

  def noisy(value: float) -> list[float]:
    return (value + 0.01 * rng.standard_normal(20)).tolist()

  def seeds(own: float) -> list[unseen_tasks.Found]:
    return [
      unseen_tasks.Found(
        noisy(returns), [], noisy(own), noisy(other), {}, [seconds]
      )
      for _ in range(3)
    ]

  _, found = _study('gssm_tables', lambda group: (1.0, 1.0))
  entry = next(x for x in found.panels['acrobot'] if x.group.key == 'gssm')
  ours = seeds(own)
  made = [
    gssm_tables._apart('acrobot', ours),
    gssm_tables._lower('acrobot', ours, seeds(rival), 'the other'),
    gssm_tables._reached('acrobot', entry, ours),
    gssm_tables._fast('acrobot', ours),
  ]
  assert [claim.verdict for claim in made] == [verdict] * 4
  lower = [x._replace(returns=noisy(returns - 1)) for x in seeds(own)]
  measured = unseen.Measured(study.Study('quick', pathlib.Path('nowhere'), ()))
  measured._found |= {('acrobot', 'gssm'): ours, ('acrobot', 'mlsm_v0'): lower}
  theirs = next(x for x in found.panels['acrobot'] if x.group.key == 'mlsm_v0')
  above = unseen.higher(measured, entry, theirs)
  below = unseen.higher(measured, theirs, entry)
  assert (above.verdict, below.verdict) == (report.HELD, report.FAILED)
  assert gssm_tables._apart('acrobot', []).verdict == report.UNDECIDED


def test_tasks_and_seeds_must_agree():
  """All tasks are better by 1 on average; the seeds are, or differ by 20."""
  tasks = np.arange(5.0)
  others = [(tasks + noise).tolist() for noise in (-0.1, 0.0, 0.1)]
  for spread, verdict in ((0.1, report.HELD), (20.0, report.UNDECIDED)):
    values = [(tasks + 1 + x).tolist() for x in (-spread, 0.0, spread)]
    claim = unseen.more('it is more', values, others, 'it is')
    assert claim.verdict == verdict
