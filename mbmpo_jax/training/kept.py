"""Adds policies of runs to the zoo, and replays policies of the zoo."""

import importlib.metadata
import pathlib
import platform
from typing import NamedTuple

import jax
import numpy as np

from mbmpo_jax.training import evaluate
from mbmpo_jax.training.storage import saved_policy
from mbmpo_jax.training.storage import zoo

_VERSIONS = ('mbmpo-jax', 'jax', 'jaxlib', 'mujoco', 'mujoco-mjx')
# A replay may differ by this many standard errors of the difference.
_TOLERANCE = 4.0


class Replay(NamedTuple):
  """The return of a saved policy now, beside its recorded return.

  Attributes:
    root: the entry's folder.
    entry: the recorded results.
    return_mean: mean return now.
    return_std: standard deviation over episodes now.
  """

  root: pathlib.Path
  entry: zoo.Entry
  return_mean: float
  return_std: float

  @property
  def agrees(self) -> bool:
    """Whether the means differ by at most 4 standard errors plus 0.1%."""
    spread = np.hypot(self.entry.return_std, self.return_std)
    error = spread / self.entry.episodes**0.5
    allowed = _TOLERANCE * error + 1e-3 * abs(self.entry.return_mean)
    return bool(abs(self.return_mean - self.entry.return_mean) <= allowed)

  @property
  def sentence(self) -> str:
    """The result in one line."""
    verdict = 'as recorded' if self.agrees else 'NOT as recorded'
    return (
      f'{self.root}: return {self.return_mean:.4g} mean,'
      f' {self.return_std:.4g} std over {self.entry.episodes} episodes;'
      f' recorded {self.entry.return_mean:.4g}, {self.entry.return_std:.4g}:'
      f' {verdict}'
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
  """
  policy = saved_policy.load_policy(workdir)
  config = policy.config
  if root is None:
    variant = f'-{config.env.variant}' if config.env.variant else ''
    root = pathlib.Path('zoo', config.algorithm, config.env.name + variant)
  zoo.check_place(root, workdir)
  steps = zoo.env_steps(workdir, policy.iteration)
  mean, std, length = _play(policy, episodes, seed)
  entry = zoo.Entry(
    iteration=policy.iteration,
    env_steps=steps,
    episodes=episodes,
    seed=seed,
    return_mean=mean,
    return_std=std,
    length_mean=length,
    made_with=_made_with(),
  )
  zoo.write(root, workdir, policy.params, entry)
  return Replay(root, entry, mean, std)


def replay(root: pathlib.Path, *, episodes: int | None = None) -> Replay:
  """Evaluates a policy of the zoo as it was evaluated for its entry.

  Args:
    root: the entry's folder.
    episodes: by default as many as recorded.

  Raises:
    ZooError: if one of its files is missing or altered.
  """
  entry = zoo.read(root)
  if episodes is not None:
    entry = entry._replace(episodes=episodes)
  policy = saved_policy.load_policy(root)
  mean, std, _ = _play(policy, entry.episodes, entry.seed)
  return Replay(root, entry, mean, std)


def _made_with() -> str:
  versions = [f'{n} {importlib.metadata.version(n)}' for n in _VERSIONS]
  device = jax.devices()[0].device_kind
  return f'{", ".join(versions)}, Python {platform.python_version()}, {device}'


def _play(
  policy: saved_policy.SavedPolicy, episodes: int, seed: int
) -> tuple[float, float, float]:
  play = evaluate.make_evaluate(
    policy.make_env(),
    policy.policy,
    num_episodes=episodes,
    episode_length=policy.config.collect.episode_length,
  )
  found = play(policy.params, jax.random.PRNGKey(seed))
  mean, std, length = (float(found[name]) for name in evaluate.METRICS)
  return mean, std, length
