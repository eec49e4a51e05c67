"""Adds policies of runs to the zoo, and replays policies of the zoo."""

import html
import importlib.metadata
import pathlib
import platform
from typing import NamedTuple

import jax
import numpy as np

from mbmpo_jax.training import evaluate
from mbmpo_jax.training.storage import folder
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import zoo
from mbmpo_jax.training.viewing import render

_VERSIONS = ('mbmpo-jax', 'jax', 'jaxlib', 'mujoco', 'mujoco-mjx')
# A replay may differ by this many standard errors of the difference.
_TOLERANCE = 4.0
# In the first steps it may differ by this share of the deviation over episodes.
_FIRST_STEPS, _FIRST_TOLERANCE = 10, 0.01


class Replay(NamedTuple):
  """The return of a saved policy now, beside its recorded return.

  Attributes:
    root: the entry's folder.
    entry: the recorded results.
    episodes: number of episodes now.
    return_mean: mean return now.
    return_std: standard deviation over episodes now.
    first: mean return of the first steps now, and its standard deviation over
      episodes; `None` if they cannot be compared with the recorded ones.
  """

  root: pathlib.Path
  entry: zoo.Entry
  episodes: int
  return_mean: float
  return_std: float
  first: tuple[float, float] | None = None

  @property
  def agrees(self) -> bool:
    """Whether returns differ little.

    Mean returns may differ by 4 standard errors of the difference plus 0.1%,
    and those of the first steps by 1% of their deviation over episodes.
    """
    entry = self.entry
    error = np.hypot(
      entry.return_std / entry.episodes**0.5,
      self.return_std / self.episodes**0.5,
    )
    allowed = _TOLERANCE * error + 1e-3 * abs(entry.return_mean)
    same = abs(self.return_mean - entry.return_mean) <= allowed
    if self.first is not None:
      mean, std = self.first
      same &= abs(mean - entry.first_return) <= _FIRST_TOLERANCE * std + 1e-6
    return bool(same)

  @property
  def sentence(self) -> str:
    """The result in one line."""
    verdict = 'as recorded' if self.agrees else 'NOT as recorded'
    return (
      f'{self.root}: return {self.return_mean:.4g} mean,'
      f' {self.return_std:.4g} std over {self.episodes} episodes;'
      f' recorded {self.entry.return_mean:.4g}, {self.entry.return_std:.4g}'
      f'{self._first_sentence}: {verdict}'
    )

  @property
  def _first_sentence(self) -> str:
    if self.first is None:
      return ''
    return (
      f'; return of the first {self.entry.first_steps} steps'
      f' {self.first[0]:.6g}, recorded {self.entry.first_return:.6g}'
    )


def add(
  workdir: pathlib.Path,
  root: pathlib.Path | None = None,
  *,
  episodes: int = 100,
  seed: int = 0,
) -> Replay:
  """Evaluates the best policy of a run and adds it to the zoo.

  Args:
    workdir: the run's folder.
    root: the entry's folder; an existing entry is replaced. By default
      `zoo/<algorithm>/<env>`, followed by `-<variant>` if there is one.
    episodes: episodes of the evaluation.
    seed: seed of the evaluation.

  Returns:
    The results of the new entry.

  Raises:
    UserError: as `load_policy` and `zoo.write` do.
    ZooError: if the run's page shows another policy than its best.
  """
  policy = saved_policy.load_policy(workdir)
  _check_page(workdir, policy)
  config = policy.config
  if root is None:
    variant = f'-{config.env.variant}' if config.env.variant else ''
    root = pathlib.Path('zoo', config.algorithm, config.env.name + variant)
  zoo.check_place(root, workdir)
  steps = zoo.env_steps(workdir, policy.iteration)
  mean, std, length = _play(policy, episodes, seed)
  first = _play_first(policy, _FIRST_STEPS, episodes, seed)
  entry = zoo.Entry(
    iteration=policy.iteration,
    env_steps=steps,
    episodes=episodes,
    seed=seed,
    return_mean=mean,
    return_std=std,
    length_mean=length,
    made_with=_made_with(),
    first_steps=_FIRST_STEPS,
    first_return=first[0],
  )
  zoo.write(root, workdir, policy.params, entry)
  return Replay(root, entry, episodes, mean, std, first)


def replay(root: pathlib.Path, *, episodes: int | None = None) -> Replay:
  """Evaluates a policy of the zoo as it was evaluated for its entry.

  Args:
    root: the entry's folder.
    episodes: by default as many as recorded. Returns of the first steps are
      only compared for the same episodes.

  Raises:
    ZooError: if one of its files is missing or altered.
  """
  entry = zoo.read(root)
  num = entry.episodes if episodes is None else episodes
  policy = saved_policy.load_policy(root)
  mean, std, _ = _play(policy, num, entry.seed)
  first = None
  if entry.first_steps and num == entry.episodes:
    first = _play_first(policy, entry.first_steps, num, entry.seed)
  return Replay(root, entry, num, mean, std, first)


def _check_page(
  workdir: pathlib.Path, policy: saved_policy.SavedPolicy
) -> None:
  """Checks that a run's page, if it has one, shows its best policy."""
  page = folder.RunFolder(workdir).page
  title = html.escape(render.title(policy, 'best'))
  if page.is_file() and title not in page.read_text(encoding='utf-8'):
    raise zoo.ZooError(
      f'{page}: shows another policy: must show the'
      f' {policy.describe("best")}; draw it again by `mbmpo render'
      f' {workdir}`, or remove it'
    )


def _made_with() -> str:
  versions = [f'{n} {importlib.metadata.version(n)}' for n in _VERSIONS]
  device = jax.devices()[0].device_kind
  return f'{", ".join(versions)}, Python {platform.python_version()}, {device}'


def _play_first(
  policy: saved_policy.SavedPolicy, steps: int, episodes: int, seed: int
) -> tuple[float, float]:
  """Mean and standard deviation of the return of the first steps."""
  return _play(policy, episodes, seed, length=steps)[:2]


def _play(
  policy: saved_policy.SavedPolicy,
  episodes: int,
  seed: int,
  length: int | None = None,
) -> tuple[float, float, float]:
  play = evaluate.make_evaluate(
    policy.make_env(),
    policy.policy,
    num_episodes=episodes,
    episode_length=length or policy.config.collect.episode_length,
  )
  found = play(policy.params, jax.random.PRNGKey(seed))
  mean, std, steps = (float(found[name]) for name in evaluate.METRICS)
  return mean, std, steps
