"""Policies that are adapted on real rollouts, and what is said of it."""

import dataclasses
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mbmpo_jax import config as config_lib
from mbmpo_jax import envs
from mbmpo_jax.algorithms import model_based_config
from mbmpo_jax.algorithms.me_trpo import config as me_trpo
from mbmpo_jax.objectives import returns as returns_lib
from mbmpo_jax.policies import gaussian
from mbmpo_jax.rollouts import real
from mbmpo_jax.training import adaptation
from mbmpo_jax.training.figures import adaptation as figure
from mbmpo_jax.training.figures import report
from mbmpo_jax.training.storage import saved_policy

_POLICY = gaussian.make(2, 2, config_lib.GaussianPolicy(hidden_sizes=(8,)))
_ADVANTAGE = config_lib.Advantage()


def _adapt(**values) -> adaptation.Adapt:
  return adaptation.make_adapt(
    envs.make('point'),
    _POLICY,
    adaptation.Settings(**values),
    episode_length=30,
    advantage=_ADVANTAGE,
  )


def test_a_step_is_of_policy_gradient_and_goes_so_far():
  """What is played before it and after it, and by what KL they are apart."""
  settings = dict(num_steps=1, num_rollouts=50, max_kl=0.02)
  params = _POLICY.init(jax.random.PRNGKey(0))
  key = jax.random.PRNGKey(1)
  course = _adapt(**settings)(params, None, key)

  first, second = jax.random.split(key, 2)
  play = jax.jit(
    lambda params, key: real.rollout(
      envs.make('point'), _POLICY, params, key, num_envs=50, horizon=30
    )[0]
  )
  before = play(params, first)
  returns = np.sum(before.reward, 0)
  np.testing.assert_allclose(course.return_mean[0], returns.mean(), rtol=1e-5)
  np.testing.assert_allclose(course.return_std[0], returns.std(), rtol=1e-4)

  def objective(params, advantages):
    dist = _POLICY.over(params, before)
    return jnp.mean(dist.log_prob(before.action) * advantages)

  @jax.jit
  def step(params, rate):
    advantages = returns_lib.advantages(
      before, discount=0.99, gae_lambda=1.0, ridge=1e-5
    )
    gradient = jax.grad(objective)(params, advantages)
    moved = jax.tree.map(lambda p, g: p + rate * g, params, gradient)
    return moved, _POLICY.over(params, before).kl(_POLICY.over(moved, before))

  moved, kl = step(params, course.rate[0])
  after = np.sum(play(moved, second).reward, 0)
  np.testing.assert_allclose(course.return_mean[1], after.mean(), rtol=1e-3)
  np.testing.assert_allclose(jnp.mean(kl), 0.02, rtol=0.3)


def test_many_steps_help_and_alpha_is_a_bound():
  params = _POLICY.init(jax.random.PRNGKey(0))
  key = jax.random.PRNGKey(2)
  course = _adapt(num_steps=30, num_rollouts=30, max_kl=0.03)(params, None, key)
  assert course.return_mean.shape == (31,)
  assert np.mean(course.return_mean[-5:]) > np.mean(course.return_mean[:5]) + 8
  small = _adapt(num_steps=1, num_rollouts=4, inner_lr=1e-3)(params, None, key)
  np.testing.assert_allclose(small.rate, 1e-3, rtol=1e-6)


def test_bodies_are_scaled():
  env = envs.make('swimmer')
  assert adaptation.default_bodies(env)[0] == adaptation.NOMINAL
  made = adaptation.physics_of(env, 'mass=2+damping=0.5+friction=3')
  np.testing.assert_allclose(made.body_mass, 2 * env.model.body_mass)
  np.testing.assert_allclose(made.dof_damping, 0.5 * env.model.dof_damping)
  np.testing.assert_allclose(made.geom_friction, 3 * env.model.geom_friction)
  nominal = adaptation.physics_of(env, 'nominal')
  np.testing.assert_allclose(nominal.body_mass, env.model.body_mass)
  assert adaptation.physics_of(envs.make('point'), 'nominal') is None
  assert adaptation.default_bodies(envs.make('point')) == ('nominal',)


@pytest.mark.parametrize(
  'body', ['mas=2', 'mass', 'mass=0', 'mass=x', 'mass=2+mass=3', 'mass=nan']
)
def test_bodies_that_are_none_are_one_line(body):
  with pytest.raises(adaptation.AdaptationError, match='must be') as error:
    adaptation.factors(body)
  assert str(error.value).startswith(f'--bodies={body}')
  assert '\n' not in str(error.value)


def test_what_cannot_be_adapted_is_one_line():
  with pytest.raises(adaptation.AdaptationError, match='has no body'):
    adaptation.physics_of(envs.make('point'), 'mass=2')
  with pytest.raises(adaptation.AdaptationError, match='has no density'):
    adaptation.make_adapt(
      envs.make('point'),
      _POLICY._replace(over=None),
      adaptation.Settings(),
      episode_length=30,
      advantage=_ADVANTAGE,
    )


# --- the figure


def _saved(name: str = 'point') -> saved_policy.SavedPolicy:
  config = me_trpo.Config(
    env=config_lib.Env(name=name),
    collect=model_based_config.Collect(episode_length=10),
  )
  params = _POLICY.init(jax.random.PRNGKey(3))
  return saved_policy.SavedPolicy(config, params, 7, _POLICY)


def test_courses_are_kept_and_made_once(tmp_path: pathlib.Path, capsys):
  saved = _saved()
  begun = figure.starts(saved, 'here', (saved, 'there'))
  assert [start.key for start in begun] == ['meta', 'other', 'scratch']
  drawn = [begun[2].params(seed) for seed in (0, 1)]
  assert any(
    np.any(a != b) for a, b in zip(*map(jax.tree.leaves, drawn), strict=True)
  )
  settings = adaptation.Settings(num_steps=2, num_rollouts=3)
  lines: list[str] = []

  def make(settings) -> list[figure.Adapted]:
    return figure.make(
      begun, ['nominal'], settings, tmp_path, num_seeds=2, say=lines.append
    )

  found = make(settings)
  assert len(lines) == 6 and found[0].returns.shape == (2, 3)
  again = make(settings)
  assert len(lines) == 6
  np.testing.assert_array_equal(found[2].returns, again[2].returns)
  course = tmp_path / 'courses/nominal/meta/seed=0.json'
  whole = json.loads(course.read_text())
  damaged = ['{', '[]', json.dumps(whole | {'return_mean': [1.0]})]
  for count, text in enumerate(damaged, 7):
    course.write_text(text)
    make(settings)
    assert len(lines) == count and json.loads(course.read_text()) == whole
  # Another policy in the same folder, after as many iterations.
  params = jax.tree.map(lambda x: x + 1, saved.params)
  begun = figure.starts(
    dataclasses.replace(saved, params=params), 'here', None
  )[:1]
  lines.clear()
  make(settings)
  assert len(lines) == 2
  begun = figure.starts(saved, 'here', (saved, 'there'))
  make(settings)
  lines.clear()
  claims = figure.show(found, settings, tmp_path)
  said = capsys.readouterr().out
  assert claims[0].sentence in said
  assert '| nominal | from scratch |' in said
  written = json.loads((tmp_path / 'adapt.json').read_text())
  assert written['courses'][0]['source'] == 'here'
  for ending in ('txt', 'md', 'png', 'pdf'):
    assert (tmp_path / f'adapt.{ending}').stat().st_size
  make(settings.__class__(num_steps=1, num_rollouts=3))
  assert len(lines) == 6


def test_all_starts_play_as_long(tmp_path: pathlib.Path):
  """As the first was trained to, however long the other's episodes are."""
  saved, settings = _saved(), adaptation.Settings(num_steps=0, num_rollouts=3)
  longer = dataclasses.replace(
    saved.config, collect=model_based_config.Collect(episode_length=40)
  )
  begun = figure.starts(
    saved, 'here', (dataclasses.replace(saved, config=longer), 'there')
  )[:2]
  own, other = figure.make(
    begun, ['nominal'], settings, tmp_path, num_seeds=1, say=lambda _: None
  )
  np.testing.assert_array_equal(own.returns, other.returns)


def test_what_is_said_follows_from_the_numbers():
  saved = _saved()
  meta, scratch = figure.starts(saved, 'here', None)
  rises = np.array([[1.0, 5.0], [2.0, 6.1], [1.5, 5.4]])
  falls = np.array([[5.0, 1.0], [6.1, 2.0], [5.4, 1.5]])
  low = np.zeros((3, 2)) + np.arange(3)[:, None] * 0.1
  found = [
    figure.Adapted('nominal', meta, rises),
    figure.Adapted('nominal', scratch, low),
    figure.Adapted('mass=2', meta, falls),
    figure.Adapted('mass=2', scratch, low + 9),
  ]
  overall, first, second, *leads = figure.claims(found)
  assert first.verdict == report.HELD
  assert second.verdict == overall.verdict == report.FAILED
  assert 'from 1.5 to 5.5' in first.sentence
  assert [claim.verdict for claim in leads] == [report.HELD, report.FAILED]
  assert figure.table(found)[0] == ('body', 'start', 'after 0', 'after 1')
  assert figure.table(found)[1][2].startswith('1.5 ±')


def test_another_world_is_one_line():
  with pytest.raises(adaptation.AdaptationError, match="must be 'point'"):
    figure.starts(_saved(), 'here', (_saved('point_direc'), 'there'))
  with pytest.raises(adaptation.AdaptationError) as error:
    figure.given_other(str(pathlib.Path(__file__).parent / 'nothing'))
  assert str(error.value).startswith('--other=')
  assert '\n' not in str(error.value)


def test_the_zoos_policy_is_compared_where_it_fits(monkeypatch):
  """Not with itself, and not in a world of other physics."""
  monkeypatch.chdir(pathlib.Path(__file__).parents[1])
  saved = _saved()
  found = figure.default_other(saved, 'here')
  assert found is not None and found[1] == 'zoo/me_trpo/point'
  assert figure.default_other(saved, 'zoo/me_trpo/point') is None
  config = config_lib.replaced(saved.config, {'env.physics': 'warp'})
  other = dataclasses.replace(saved, config=config)
  assert figure.default_other(other, 'here') is None
  with pytest.raises(adaptation.AdaptationError, match="physics='mjx'"):
    figure.starts(other, 'here', found)
