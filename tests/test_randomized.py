"""Randomised physics is MuJoCo's own, and every episode keeps to its own."""

import copy
import functools

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx as mujoco_mjx

from mbmpo_jax import envs
from mbmpo_jax.algorithms.mbmpo import algorithm as mbmpo
from mbmpo_jax.envs import mjx
from mbmpo_jax.envs import physics
from mbmpo_jax.envs import randomized
from mbmpo_jax.policies import base as policies
from mbmpo_jax.policies import distributions
from mbmpo_jax.rollouts import real
from tests import tiny

_LIMITS = dict(mass=1.5, damping=1.3, friction=1.5, gear=1.2)

# Each case that `mj_setConst` tells apart.
_ALL_KINDS = """
<mujoco>
  <worldbody>
    <body name="welded" pos="2 0 0"><geom size=".1"/></body>
    <body name="free" pos="0 0 3">
      <freejoint/>
      <geom type="capsule" size=".1 .2" pos=".1 .2 0"/>
      <body pos="0 0 .5">
        <joint name="ball" type="ball" armature=".02"/>
        <geom type="capsule" size=".05 .2" pos="0 0 .2"/>
        <body pos=".1 0 .5">
          <joint name="hinge" axis="0 1 0" damping=".3" range="-1 1"/>
          <geom type="capsule" size=".05 .2" pos=".1 0 .2"/>
          <body><geom size=".1" pos="0 .1 0"/></body>
          <body>
            <joint name="last" axis="1 0 0"/>
            <geom size=".1" pos=".1 .2 .3"/>
          </body>
        </body>
      </body>
    </body>
    <body name="lone sphere" pos="0 3 3"><freejoint/><geom size=".1"/></body>
    <body name="lone slide" pos="0 6 3">
      <joint name="slide" type="slide" armature=".5"/><geom size=".1"/>
    </body>
    <body name="carrying slide" pos="0 9 3">
      <joint type="slide"/>
      <geom size=".1"/>
      <body><joint type="slide" axis="1 0 0"/><geom size=".1"/></body>
    </body>
  </worldbody>
  <tendon>
    <fixed name="tendon" armature=".3" range="-1 1">
      <joint joint="hinge" coef="2"/><joint joint="last" coef="-.5"/>
    </fixed>
  </tendon>
  <actuator>
    <motor joint="hinge" gear="3" ctrlrange="-1 1"/>
    <motor joint="ball" gear="1 2 3" ctrlrange="-1 1"/>
    <motor tendon="tendon" gear="2" ctrlrange="-1 1"/>
    <motor joint="slide" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""

_POLE = """
<mujoco>
  <option timestep="0.02"/>
  <worldbody>
    <body>
      <joint name="hinge" axis="0 1 0" damping=".1"/>
      <geom type="capsule" size=".05" fromto="0 0 0 0 0 1"/>
    </body>
  </worldbody>
  <actuator><motor joint="hinge" gear="20" ctrlrange="-1 1"/></actuator>
</mujoco>
"""


class Pole(mjx.MjxEnvironment):
  """Falls over in a few steps; observes angle, speed and its own mass."""

  max_episode_steps = 50
  observation_size = 3

  def initial_state(self, rng):
    qpos, qvel = 0.3 * jax.random.normal(rng, (2, 1))
    return self.data(qpos, qvel)

  def observe(self, pipeline_state):
    mass = self.model.body_mass[1:]
    return jnp.concatenate([pipeline_state.qpos, pipeline_state.qvel, mass])

  def reward(self, obs, action, next_obs):
    return jnp.cos(next_obs[..., 0])

  def done(self, next_obs):
    return (jnp.abs(next_obs[..., 0]) > 0.5).astype(next_obs.dtype)


@pytest.fixture(scope='module')
def pole(tmp_path_factory) -> Pole:
  path = tmp_path_factory.mktemp('pole') / 'pole.xml'
  path.write_text(_POLE)
  return Pole(path, frame_skip=1)


@pytest.fixture(scope='module')
def many_poles(pole) -> randomized.Randomized:
  return randomized.Randomized(pole, randomized.log_uniform(pole, **_LIMITS))


def _half_cheetah_file() -> str:
  return (mjx.ASSETS / 'half_cheetah.xml').read_text()


def _compiled_with(
  model: mujoco.MjModel, scales: physics.Scales
) -> mujoco.MjModel:
  """What MuJoCo makes of a body with these parameters."""
  model = copy.deepcopy(model)
  model.body_mass *= scales.mass
  inertia = scales.mass if scales.inertia is None else scales.inertia
  model.body_inertia *= inertia[:, None]
  model.dof_damping *= scales.damping
  model.geom_friction *= scales.friction[:, None]
  model.actuator_gear *= scales.gear[:, None]
  model.geom_size *= scales.size[:, None]
  model.geom_pos *= scales.offset[:, None]
  mujoco.mj_setConst(model, mujoco.MjData(model))
  return model


def _stack(*arrays: np.ndarray) -> np.ndarray:
  return np.stack(arrays)


def _random_scales(model: mujoco.MjModel, seed: int) -> physics.Scales:
  rng = np.random.default_rng(seed)
  num = model.nbody, model.nv, model.ngeom, model.nu
  sizes = (*num, model.nbody, model.ngeom, model.ngeom)
  scales = physics.Scales(*(1.5 ** rng.uniform(-2, 2, size) for size in sizes))
  return scales if seed % 2 else scales._replace(inertia=None)


@pytest.mark.parametrize(
  ('text', 'seed'),
  [
    pytest.param(_half_cheetah_file(), 0, marks=pytest.mark.slow),
    (_ALL_KINDS, 1),
  ],
)
def test_derived_fields_are_those_mujoco_compiles(text, seed, x64):
  """All that MJX loads is equal, but for what its step does not read."""
  nominal = mujoco.MjModel.from_xml_string(text)
  scales = _random_scales(nominal, seed)

  model = mujoco_mjx.put_model(nominal)
  drawn = jax.jit(physics.scaled)(model, scales)
  model = model.replace(**drawn._asdict())
  expected = mujoco_mjx.put_model(_compiled_with(nominal, scales))

  unread = ('.dof_M0', '.cam_poscom0', '.light_poscom0')
  unread += ('.geom_aabb', '.geom_rbound', '._impl.geom_rbound_hfield')
  changed = set()
  for (path, leaf), right, before in zip(
    jax.tree.leaves_with_path(model),
    jax.tree.leaves(expected),
    jax.tree.leaves(mujoco_mjx.put_model(nominal)),
    strict=True,
  ):
    name = jax.tree_util.keystr(path)
    if name not in unread:
      np.testing.assert_allclose(leaf, right, rtol=1e-12, err_msg=name)
      if np.any(right != before):
        changed.add(name.removeprefix('.'))
  assert changed >= set(physics.Physics._fields) - {'tendon_invweight0'}
  assert changed <= set(physics.Physics._fields)


@pytest.mark.slow
def test_step_of_a_batch_of_bodies_is_mujocos_own(x64):
  """Float64, solver limits at MuJoCo's defaults, no warm start."""
  env = envs.make('half_cheetah')
  nominal = copy.deepcopy(env.mj_model)
  for name in ('iterations', 'ls_iterations', 'tolerance', 'ls_tolerance'):
    setattr(nominal.opt, name, getattr(mujoco.MjOption(), name))
  env.model = mujoco_mjx.put_model(nominal)
  rng = np.random.default_rng(0)

  all_scales, states, expected, touching = [], [], [], []
  for seed in range(20):
    scales = _random_scales(nominal, seed)
    model = _compiled_with(nominal, scales)
    data = mujoco.MjData(model)
    for _ in range(rng.integers(100)):
      data.ctrl[:] = rng.uniform(-1, 1, model.nu)
      mujoco.mj_step(model, data, env.frame_skip)
    state = data.qpos.copy(), data.qvel.copy(), rng.uniform(-1, 1, model.nu)
    mujoco.mj_resetData(model, data)  # Clears the warm start, too.
    data.qpos[:], data.qvel[:], data.ctrl[:] = state
    touched = False
    for _ in range(env.frame_skip):
      mujoco.mj_step(model, data)
      touched |= bool(np.any(data.contact.dist < 0))
    all_scales.append(scales)
    states.append(state)
    expected.append((data.qpos.copy(), data.qvel.copy()))
    touching.append(touched)
  assert 1 / 4 <= np.mean(touching) < 1

  @jax.jit
  @jax.vmap
  def step(scales, state):
    qpos, qvel, action = state
    body = physics.with_physics(env, physics.scaled(env.model, scales))
    data = body.advance(body.data(qpos, qvel), action)
    return data.qpos, data.qvel

  found = step(*(jax.tree.map(_stack, *x) for x in (all_scales, states)))
  errors = jax.tree.map(
    lambda x, right: np.max(np.abs(x - right), axis=1),
    found,
    jax.tree.map(_stack, *expected),
  )
  print('largest errors of each, qpos and qvel:', *errors, touching, sep='\n')
  assert np.max(errors) <= 1e-9


def test_unit_scales_change_nothing(pole):
  model = envs.make('half_cheetah').model
  drawn = physics.scaled(model, physics.Scales())
  for name, field in drawn._asdict().items():
    np.testing.assert_allclose(
      field, getattr(model, name), rtol=1e-5, err_msg=name
    )

  same_pole = randomized.Randomized(pole, lambda _: physics.Scales())
  state = pole.reset(jax.random.PRNGKey(0))
  drawn = physics.scaled(pole.model, physics.Scales())
  same_state = state.replace(
    pipeline_state=randomized.RandomizedState(drawn, state.pipeline_state)
  )
  action = jnp.array([0.5])
  after, same_after = (
    jax.jit(env.step)(*args)
    for env, args in (
      (pole, (state, action)),
      (same_pole, (same_state, action)),
    )
  )
  for name in ('obs', 'reward', 'done'):
    np.testing.assert_allclose(
      getattr(same_after, name), getattr(after, name), rtol=1e-6, err_msg=name
    )


def test_log_uniform_draws_each_element_within_its_limit():
  env = envs.make('half_cheetah')
  draw = randomized.log_uniform(env, mass=1.5, damping=1.3, friction=2)
  model = env.mj_model
  scales = jax.vmap(draw)(jax.random.split(jax.random.PRNGKey(0), 1000))

  sizes = (model.nbody, model.nv, model.ngeom, model.nu)
  assert [x.shape for x in scales[:4]] == [(1000, size) for size in sizes]
  exponents = np.concatenate(
    [
      np.log(factors) / np.log(limit)
      for factors, limit in zip(scales[:3], (1.5, 1.3, 2), strict=True)
    ],
    axis=1,
  )
  assert np.all(np.abs(exponents) <= 1 + 1e-5)
  np.testing.assert_allclose(np.mean(exponents, axis=0), 0, atol=0.1)
  np.testing.assert_allclose(np.std(exponents, axis=0), 3**-0.5, atol=0.05)
  np.testing.assert_allclose(
    np.corrcoef(exponents.T), np.eye(exponents.shape[1]), atol=0.2
  )
  assert np.all(scales.gear == 1)


def test_instances_have_bodies_of_their_own(many_poles):
  keys = jax.random.split(jax.random.PRNGKey(0), 3)
  reset = jax.jit(jax.vmap(many_poles.reset))
  step = jax.jit(jax.vmap(many_poles.step))
  state = reset(keys)
  drawn = state.pipeline_state.physics
  for name in ('body_mass', 'dof_damping', 'geom_friction', 'actuator_gear'):
    assert len(np.unique(getattr(drawn, name)[:, -1], axis=0)) == 3, name
  np.testing.assert_array_equal(reset(keys).obs, state.obs)

  other = reset(keys.at[1].set(jax.random.PRNGKey(1)))
  swapped = state.replace(
    pipeline_state=state.pipeline_state._replace(
      physics=other.pipeline_state.physics
    )
  )
  actions = jnp.ones((3, 1))
  speed, swapped_speed = (
    np.asarray(step(s, actions).obs[:, 1]) for s in (state, swapped)
  )
  np.testing.assert_array_equal(swapped_speed[[0, 2]], speed[[0, 2]])
  assert abs(swapped_speed[1] - speed[1]) > 1e-3


def test_an_episode_keeps_its_body_and_the_next_has_another(many_poles):
  policy = policies.memoryless(
    lambda key: (),
    lambda params, obs: distributions.Gaussian(
      jnp.zeros((*obs.shape[:-1], 1)), jnp.zeros((1, 1))
    ),
    noise=functools.partial(distributions.normal_noise, action_size=1),
  )
  trajectory, _ = jax.jit(
    lambda key: real.rollout(
      many_poles, policy, (), key, num_envs=4, horizon=40
    )
  )(jax.random.PRNGKey(0))

  mass, next_mass = trajectory.obs[..., 2], trajectory.next_obs[..., 2]
  np.testing.assert_array_equal(mass, next_mass)
  ended = trajectory.terminated[:-1] > 0
  assert np.any(ended) and not np.all(ended)
  np.testing.assert_array_equal(mass[1:] != mass[:-1], ended)


def test_initial_obs_is_that_of_a_reset_and_costs_no_physics(many_poles):
  """What observes the body needs its mass, but nothing derived from it."""
  key = jax.random.PRNGKey(0)
  initial_obs = jax.jit(many_poles.initial_obs)
  reset = jax.jit(many_poles.reset)
  np.testing.assert_allclose(
    initial_obs(key), reset(key).obs, rtol=1e-6, atol=1e-6
  )
  flops = [
    function.lower(key).compile().cost_analysis()['flops']
    for function in (initial_obs, reset)
  ]
  assert flops[0] < flops[1] / 2


@pytest.mark.slow
def test_randomised_half_cheetah_keeps_the_contract():
  env = envs.make('half_cheetah')
  env = randomized.Randomized(env, randomized.log_uniform(env, **_LIMITS))
  assert not env.can_terminate
  envs.check_environment(env)


@pytest.mark.slow
def test_mbmpo_runs_on_it(many_poles):
  algorithm = mbmpo.make(many_poles, tiny.point_config())
  state = jax.jit(algorithm.init)(jax.random.PRNGKey(0))
  state, metrics = jax.jit(algorithm.update)(state)
  assert metrics['env_steps'] == 40
  assert np.all(np.isfinite(jax.tree.leaves(metrics)))


@pytest.mark.parametrize('limit', [0.9, -1, float('inf'), float('nan'), '2'])
def test_bad_limits_are_refused(limit, pole):
  with pytest.raises(physics.PhysicsError) as error:
    randomized.log_uniform(pole, friction=limit)
  assert str(error.value).startswith(f'friction={limit!r}: must be a finite')


def test_factors_that_fit_no_body_are_refused(pole):
  bad = randomized.Randomized(pole, lambda _: physics.Scales(gear=jnp.ones(7)))
  with pytest.raises(
    physics.PhysicsError, match=r'gear has shape \[7\]: .*\[1\]'
  ):
    bad.reset(jax.random.PRNGKey(0))
