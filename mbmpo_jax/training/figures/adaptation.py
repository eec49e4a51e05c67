"""Compares policies that are adapted in the real environment.

A start is a trained or untrained policy. A body is the one that the policy was
trained with, or another. Every adaptation is saved in its own file, so that an
interrupted comparison can be resumed.
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from mbmpo_jax import config as config_lib
from mbmpo_jax import errors
from mbmpo_jax import types
from mbmpo_jax.algorithms import appearance
from mbmpo_jax.training import adaptation
from mbmpo_jax.training.figures import intervals
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.figures import verdicts
from mbmpo_jax.training.reporting import plot_paper
from mbmpo_jax.training.storage import atomic
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import zoo

SCRATCH = 'scratch'
_SCRATCH_COLOR = '#555555'
# Steps shown in the table, if the adaptation has as many.
_SHOWN = (0, 1, 5, 20)


class Start(NamedTuple):
  """A policy to adapt.

  Attributes:
    key: `meta`, `other` or `scratch`.
    label: in the picture.
    color: of its curve.
    saved: the policy's run; for `scratch`, the run that defines its network.
    source: the run's folder, as given by the user.
  """

  key: str
  label: str
  color: str
  saved: saved_policy.SavedPolicy
  source: str

  def params(self, seed: int) -> types.Params:
    """Returns the initial parameters; `scratch` draws them for each seed."""
    if self.key != SCRATCH:
      return self.saved.params
    key = jax.random.fold_in(jax.random.PRNGKey(seed), 2**31 - 1)
    return self.saved.policy.init(key)


class Adapted(NamedTuple):
  """The adaptations of one start on one body.

  Attributes:
    body: its name, as for `adaptation.factors`.
    start: the policy.
    returns: mean returns over episodes, [seeds, S + 1].
  """

  body: str
  start: Start
  returns: np.ndarray


def default_other(
  saved: saved_policy.SavedPolicy, source: str
) -> tuple[saved_policy.SavedPolicy, str] | None:
  """The zoo's ME-TRPO policy and its folder, if it fits.

  It fits if its environment is that of `saved` in every field, and it is not
  `saved` itself. The zoo is that around `source` if `source` is an entry,
  otherwise the folder `zoo`.

  Raises:
    ZooError: if it is damaged.
  """
  env = saved.config.env
  variant = f'-{env.variant}' if env.variant else ''
  given = pathlib.Path(source)
  # Entries are in <zoo>/<algorithm>/<environment>.
  root = pathlib.Path('zoo')
  if zoo.is_entry(given):
    root = given.resolve().parents[1]
  place = root / 'me_trpo' / (env.name + variant)
  same = place.resolve() == given.resolve()
  if same or not place.is_dir():
    return None
  other = saved_policy.load_policy(place)
  return (other, str(place)) if other.config.env == env else None


def given_other(place: str) -> tuple[saved_policy.SavedPolicy, str]:
  """The policy of a folder that the flag --other names.

  Raises:
    UserError: as `load_policy` does, naming that flag.
  """
  try:
    return saved_policy.load_policy(place), place
  except errors.UserError as error:
    raise adaptation.AdaptationError(
      str(error).replace('--workdir=', '--other=', 1)
    ) from None


def starts(
  saved: saved_policy.SavedPolicy,
  source: str,
  other: tuple[saved_policy.SavedPolicy, str] | None,
) -> list[Start]:
  """Returns the trained policy, the other one if given, and an untrained one.

  Raises:
    AdaptationError: if the other policy has another environment.
  """
  made = [_trained('meta', saved, source)]
  if other is not None:
    theirs, ours = (config_lib.flatten(x.config) for x in (other[0], saved))
    for name in (x for x in ours if x.startswith('env.')):
      if theirs.get(name) != ours[name]:
        raise adaptation.AdaptationError(
          f'--other={other[1]}: {name}={theirs.get(name)!r}: must be'
          f' {ours[name]!r}, as in --workdir'
        )
    made.append(_trained('other', *other))
  made.append(Start(SCRATCH, 'from scratch', _SCRATCH_COLOR, saved, source))
  return made


def make(
  begun: Sequence[Start],
  bodies: Sequence[str],
  settings: adaptation.Settings,
  root: pathlib.Path,
  *,
  num_seeds: int,
  say: Callable[[str], None] = print,
) -> list[Adapted]:
  """Adapts every start on every body, once for each seed.

  Args:
    begun: the starts; environment and episode length are those of the first.
    bodies: names as for `adaptation.factors`.
    settings: the settings of the adaptation.
    root: the folder; adaptations saved there are not repeated.
    num_seeds: number of seeds for rollouts and for untrained policies.
    say: receives one line per adaptation.

  Raises:
    AdaptationError: if a body does not exist, or a policy cannot be adapted.
    WriteError: if a file cannot be written.
  """
  env = begun[0].saved.make_env()
  worlds = {body: adaptation.physics_of(env, body) for body in bodies}
  length = begun[0].saved.config.collect.episode_length
  programs = {
    start.key: _program(env, start, settings, length) for start in begun
  }
  found = []
  for body, physics in worlds.items():
    for start in begun:
      courses = []
      for seed in range(num_seeds):
        path = root / 'courses' / body / start.key / f'seed={seed}.json'
        params = start.params(seed)
        about = _about(start, settings, length, params)
        course = _read(path, about)
        if course is None:
          key = jax.random.PRNGKey(seed)
          made = programs[start.key](params, physics, key)
          course = {
            k: np.asarray(v).tolist() for k, v in made._asdict().items()
          }
          _write(path, about | course)
          first, last = course['return_mean'][0], course['return_mean'][-1]
          say(
            f'{body}, {start.label}, seed {seed}: return {first:.4g}, and'
            f' {last:.4g} after {settings.num_steps} steps'
          )
        courses.append(course['return_mean'])
      found.append(Adapted(body, start, np.asarray(courses, float)))
  return found


def claims(found: Sequence[Adapted]) -> list[report.Claim]:
  """Returns claims on whether adaptation improves the first start.

  One claim is for all bodies together, one for each body, and one for each
  comparison with another start.
  """
  helped, others = [], []
  for body, own in _by_body(found).items():
    meta, *rest = own
    label, last = meta.start.label, meta.returns.shape[1] - 1
    text = (
      f'{last} steps on real rollouts raise the return of {label} on {body}'
    )
    before, after = meta.returns[:, 0].tolist(), meta.returns[:, -1].tolist()
    gain = intervals.mean((meta.returns[:, -1] - meta.returns[:, 0]).tolist())
    reason = (
      f'from {np.mean(before):.4g} to {np.mean(after):.4g}, by {gain.text()}'
    )
    numbers = {'panel': body, 'before': before, 'after': after, 'gain': gain}
    verdict = report.verdict(gain, 0.0, strict=True)
    helped.append(report.Claim(text, verdict, reason, numbers))
    for entry in rest:
      ends = entry.returns[:, -1].tolist()
      lead = intervals.difference(after, ends)
      other = entry.start.label
      others.append(
        report.Claim(
          f'this policy of {label} is ahead of the start {other!r} after'
          f' {last} steps on {body}',
          report.verdict(lead, 0.0, strict=True),
          f'{np.mean(after):.4g} and {np.mean(ends):.4g}, {lead.text()}',
          {'panel': body, 'method': entry.start.key, 'lead': lead},
        )
      )
  label = found[0].start.label
  text = f'{label} adapts to the real world by policy gradient, on every body'
  return [verdicts.all_of(text, helped), *helped, *others]


def table(found: Sequence[Adapted]) -> list[tuple[str, ...]]:
  """Returns a row for each body and start: returns after some steps."""
  last = found[0].returns.shape[1] - 1
  shown = sorted({step for step in (*_SHOWN, last) if step <= last})
  rows: list[tuple[str, ...]] = [
    ('body', 'start', *(f'after {step}' for step in shown))
  ]
  for entry in found:
    returns = [entry.returns[:, step] for step in shown]
    spread = [x.std(ddof=1) if x.size > 1 else 0.0 for x in returns]
    cells = [
      f'{x.mean():.4g} ± {s:.3g}' for x, s in zip(returns, spread, strict=True)
    ]
    rows.append((entry.body, entry.start.label, *cells))
  return rows


def draw(found: Sequence[Adapted]) -> Any:
  """Draws a panel for each body: a curve per start, and no adaptation."""
  panels = []
  for body, own in _by_body(found).items():
    steps = [np.arange(own[0].returns.shape[1])] * len(own[0].returns)
    series = [
      plot_paper.Series(x.start.label, x.start.color, steps, list(x.returns))
      for x in own
    ]
    still = plot_paper.Level(
      f'{own[0].start.label}, not adapted',
      float(own[0].returns[:, 0].mean()),
      own[0].start.color,
    )
    panels.append(
      plot_paper.Panel(body, series, x='policy-gradient steps', levels=[still])
    )
  return plot_paper.curves(panels)


def show(
  found: Sequence[Adapted], settings: adaptation.Settings, root: pathlib.Path
) -> list[report.Claim]:
  """Prints the table and the claims' verdicts, and writes `adapt.*`.

  Raises:
    WriteError: if a file cannot be written.
  """
  made, rows = claims(found), table(found)
  numbers = {
    'settings': dataclasses.asdict(settings),
    'courses': [
      {
        'body': entry.body,
        'start': entry.start.key,
        'label': entry.start.label,
        'source': entry.start.source,
        'returns': entry.returns,
      }
      for entry in found
    ],
  }
  files = report.write(root, 'adapt', draw(found), made, numbers, rows)
  print(report.markdown(rows), end='')
  for claim in made:
    print(claim.sentence)
  for path in files:
    print(f'  {path}')
  return made


def _trained(key: str, saved: saved_policy.SavedPolicy, source: str) -> Start:
  look = appearance.of(saved.config.algorithm)
  return Start(key, look.label, look.color, saved, source)


def _program(
  env: Any, start: Start, settings: adaptation.Settings, episode_length: int
) -> adaptation.Adapt:
  config: Any = start.saved.config
  section = getattr(config, 'advantage', None)
  if not isinstance(section, config_lib.Advantage):
    section = config_lib.Advantage()
  return adaptation.make_adapt(
    env,
    start.saved.policy,
    settings,
    episode_length=episode_length,
    advantage=section,
  )


def _by_body(found: Sequence[Adapted]) -> dict[str, list[Adapted]]:
  bodies: dict[str, list[Adapted]] = {}
  for entry in found:
    bodies.setdefault(entry.body, []).append(entry)
  return bodies


def _about(
  start: Start,
  settings: adaptation.Settings,
  episode_length: int,
  params: types.Params,
) -> dict[str, Any]:
  """Returns everything that determines an adaptation, besides its file name."""
  digest = hashlib.sha256()
  for leaf in jax.tree.leaves(params):
    digest.update(np.asarray(leaf).tobytes())
  return {
    'settings': dataclasses.asdict(settings),
    'source': start.source,
    'iteration': start.saved.iteration,
    'episode_length': episode_length,
    'params': digest.hexdigest(),
  }


def _read(
  path: pathlib.Path, about: Mapping[str, Any]
) -> dict[str, Any] | None:
  """Reads a saved adaptation if its policy and settings are the same."""
  try:
    read: Any = json.loads(path.read_text(encoding='utf-8'))
    if any(read[name] != value for name, value in about.items()):
      return None
    returns = np.asarray(read['return_mean'], float)
  except (OSError, ValueError, TypeError, KeyError):
    return None
  return (
    read if returns.shape == (about['settings']['num_steps'] + 1,) else None
  )


def _write(path: pathlib.Path, course: Mapping[str, Any]) -> None:
  with atomic.writing(path.parent):
    path.parent.mkdir(parents=True, exist_ok=True)
  atomic.write_output(path, (json.dumps(course) + '\n').encode())
