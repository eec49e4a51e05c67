"""Classifies the fields of a compiled MJCF file by how MJX treats them.

MJX reads some fields of `mujoco.MjModel` and silently ignores the others, so it
could simulate a different body. Every field is therefore classified as read, as
harmless (it does not affect the motion), or as refused unless it has its
default value. A field in none of these classes, such as a new field of a later
MuJoCo release, is refused too.
"""

import fnmatch
import functools
from collections.abc import Iterator
from typing import Any

import mujoco
import numpy as np


def _words(text: str) -> list[str]:
  return text.split()


# Fields that MJX reads, in a step or when it puts the model on the device.
READ = frozenset(
  _words("""
  M_colind M_rowadr M_rownnz actuator_acc0 actuator_actadr actuator_actlimited
  actuator_actnum actuator_actrange actuator_biasprm actuator_biastype
  actuator_ctrllimited actuator_ctrlrange actuator_dynprm actuator_dyntype
  actuator_forcelimited actuator_forcerange actuator_gainprm actuator_gaintype
  actuator_gear actuator_lengthrange actuator_trnid actuator_trntype body_dofadr
  body_dofnum body_geomadr body_geomnum body_gravcomp body_inertia
  body_invweight0 body_ipos body_iquat body_mass body_mocapid body_parentid
  body_pos body_quat body_rootid body_subtreemass body_weldid dof_armature
  dof_bodyid dof_damping dof_frictionloss dof_invweight0 dof_jntid dof_parentid
  dof_solimp dof_solref eq_active0 eq_data eq_obj1id eq_obj2id eq_objtype
  eq_solimp eq_solref eq_type exclude_signature flg_gravcomp geom_bodyid
  geom_conaffinity geom_condim geom_contype geom_dataid geom_friction
  geom_margin geom_pos geom_priority geom_quat geom_rbound geom_size geom_solimp
  geom_solmix geom_solref geom_type hfield_adr hfield_data hfield_ncol
  hfield_nrow hfield_size jnt_actfrclimited jnt_actfrcrange jnt_actgravcomp
  jnt_axis jnt_bodyid jnt_dofadr jnt_limited jnt_margin jnt_pos jnt_qposadr
  jnt_range jnt_solimp jnt_solref jnt_stiffness jnt_type mesh_graph
  mesh_graphadr mesh_vert mesh_vertadr numeric_data opt.cone opt.density
  opt.disableflags opt.enableflags opt.gravity opt.impratio opt.integrator
  opt.iterations opt.jacobian opt.ls_iterations opt.ls_tolerance opt.magnetic
  opt.sdf_initpoints opt.solver opt.timestep opt.tolerance opt.viscosity
  opt.wind pair_dim pair_friction pair_geom1 pair_geom2 pair_margin pair_solimp
  pair_solref pair_solreffriction qpos0 qpos_spring sensor_adr sensor_cutoff
  sensor_datatype sensor_dim sensor_intprm sensor_needstage sensor_objid
  sensor_objtype sensor_refid sensor_reftype sensor_type site_bodyid site_pos
  site_quat site_size site_type stat.meaninertia tendon_actfrclimited
  tendon_actfrcrange tendon_adr tendon_armature tendon_damping
  tendon_frictionloss tendon_invweight0 tendon_length0 tendon_lengthspring
  tendon_limited tendon_margin tendon_num tendon_range tendon_solimp_fri
  tendon_solimp_lim tendon_solref_fri tendon_solref_lim tendon_stiffness
  ten_J_colind ten_J_rowadr ten_J_rownnz wrap_objid wrap_prm wrap_type
  """)
)

# Fields for rendering, names, file paths and histories; limits of searches; and
# fields that duplicate others. A pattern covers all fields of an element that
# does not affect the motion.
HARMLESS = tuple(
  _words("""
  bvh_* cam_* hfield_pathadr key_* light_* mat_* mesh_* name_* names_map oct_*
  skin_* tex_* text_* tuple_* *_group *_matid *_rgba *_user numeric_adr
  numeric_size signature stat.center stat.extent stat.meanmass stat.meansize
  B_* D_* mapD2M mapM2D mapM2M efm0_* efmC_perm flexedge_* flexvert_*
  actuator_cranklength actuator_ctrladr actuator_ctrlspec actuator_historyadr
  actuator_length0 actuator_outadr
  body_bvhadr body_bvhnum body_conaffinity body_contype body_jntadr body_jntnum
  body_margin body_sameframe body_simple body_treeid dof_M0 dof_Madr dof_length
  dof_simplenum dof_treeid flg_adhesion flg_surfacevel geom_aabb geom_gap
  geom_sameframe jnt_actuatorid opt.ccd_iterations opt.ccd_tolerance
  opt.noslip_tolerance opt.o_friction opt.o_margin opt.o_solimp opt.o_solref
  opt.sdf_iterations opt.sleep_tolerance pair_gap pair_signature plugin
  plugin_* site_dataid site_sameframe sensor_delay sensor_history
  sensor_historyadr sensor_interval sensor_noise sensor_plugin
  tendon_actuatorid tendon_treeid tendon_treenum tendon_width
  tree_bodyadr tree_bodynum tree_dofadr tree_dofnum tree_sleep_policy
  nB nC nD nJfe nJfv nJmom nJten nM na nactuator narena nbody nbuffer nbvh
  nbvhdynamic nbvhstatic ncam nconmax nefm0L nefm0dof nefmCvert nemax neq
  nexclude ngeom ngravcomp nhfield nhfielddata nhistory njmax njnt nkey nlight
  nmat nmesh nmesh* nmocap nnames nnames_map nnumeric nnumericdata noct nout
  npair npaths nplugin npluginattr npluginstate npolygonmax nq nsensor
  nsensordata nsite nskin nskin* ntendon ntex ntexdata ntext ntextdata ntree
  ntuple ntupledata nu nuser_* nuserdata nv nwrap
  """)
)

# Field -> message: the element or attribute in the file, and what to do.
REFUSED = {
  'nflex': '<flex>, deformable bodies: replace them by rigid bodies, or'
  ' remove them',
  'opt.noslip_iterations': '<option noslip_iterations>: set it to 0, and'
  ' raise impratio to reduce slip',
  'opt.disableactuator': '<option actuatorgroupdisable>: delete the actuators'
  ' of these groups from the file, and the attribute',
  'actuator_delay': 'delay: remove it; a delay can be part of `advance`',
  'actuator_history': 'nsample: remove it; a delay can be part of `advance`',
  'actuator_actearly': 'actearly: set it to "false"',
  'actuator_armature': 'armature of an actuator: add it to the armature of the'
  ' joint that it moves',
  'actuator_damping': 'damping of an actuator: add it to the damping of the'
  ' joint that it moves',
  'actuator_dampingpoly': 'polynomial damping: keep its first number only',
  'actuator_plugin': 'a plugin: use a built-in actuator',
  'actuator_ctrlnum': 'several controls: use an actuator of one control each',
  'actuator_outnum': 'several outputs: use an actuator for each',
  'body_plugin': 'a plugin: model it with bodies and joints',
  'geom_plugin': 'a signed distance field: use a mesh or a primitive',
  'dof_dampingpoly': 'polynomial damping: keep its first number only',
  'jnt_stiffnesspoly': 'polynomial stiffness: keep its first number only',
  'tendon_dampingpoly': 'polynomial damping: keep its first number only',
  'tendon_stiffnesspoly': 'polynomial stiffness: keep its first number only',
  'geom_fluid': 'fluidshape="ellipsoid": remove it; the forces are then'
  " computed from the bodies' inertia boxes",
  'geom_surfacevel': 'surfacevel: model the belt as a body on a joint',
  'geom_adhesion': 'adhesion: remove it',
  'pair_adhesion': 'adhesion: remove it',
}  # fmt: skip

# Flags of `opt.enableflags` and `opt.disableflags`; all others are read or
# harmless.
REFUSED_FLAGS = {
  'mjENBL_OVERRIDE': 'override="enable": set solref, solimp, margin and'
  ' friction of the geoms',
  'mjENBL_SLEEP': 'sleep="enable": remove it',
  'mjENBL_DIAGEXACT': 'diagexact="enable": remove it',
  'mjENBL_IPC': 'ipc="enable": remove it',
  'mjDSBL_SPRING': 'spring="disable": set stiffness="0" at joints and tendons',
  'mjDSBL_DAMPER': 'damper="disable": set damping="0" at joints and tendons',
}
# MJX refuses these flags, but they do not affect the motion, so they are
# switched off.
DROPPED_FLAGS = ('mjENBL_ENERGY', 'mjENBL_FWDINV', 'mjENBL_INVDISCRETE')

# One element of each kind, with all fields at their defaults.
_REFERENCE = """
<mujoco>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 1"/>
    <body><joint name="j"/><geom name="g" size=".1"/><site name="s"/></body>
  </worldbody>
  <contact><pair geom1="floor" geom2="g"/></contact>
  <tendon><fixed name="t"><joint joint="j" coef="1"/></fixed></tendon>
  <equality><joint joint1="j"/></equality>
  <actuator><motor joint="j"/></actuator>
  <sensor><jointpos joint="j"/></sensor>
</mujoco>
"""
_KINDS = {'actuator': 'actuator', 'body': 'body', 'dof': 'joint',
  'eq': 'equality', 'geom': 'geom', 'jnt': 'joint', 'pair': 'pair',
  'sensor': 'sensor', 'site': 'site', 'tendon': 'tendon'}  # fmt: skip


def unclassified(model: mujoco.MjModel) -> list[str]:
  """Returns the names of fields that are in no class."""
  return [
    name
    for name, _ in _fields(model)
    if name not in READ and name not in REFUSED and not _harmless(name)
  ]


def refusals(model: mujoco.MjModel) -> Iterator[str]:
  """Yields a message for each feature that MJX would ignore."""
  for flag, said in REFUSED_FLAGS.items():
    if _is_set(model, flag):
      yield f'<flag {said}'.replace(':', '/>:', 1)
  found = dict(_fields(model))
  for name in (*REFUSED, *unclassified(model)):
    if name not in found or not _matters(model, name):
      continue
    row = _first_unusual(name, found[name])
    if row is not None:
      said = REFUSED.get(
        name,
        f'MjModel.{name}, a field of MuJoCo {mujoco.__version__} that is not'
        ' known here: leave it at its default, or use an older MuJoCo',
      )
      yield _element(model, name, row) + said


def switch_off(model: mujoco.MjModel) -> None:
  """Switches off flags that do not affect the motion, in place."""
  for flag in DROPPED_FLAGS:
    model.opt.enableflags &= ~int(getattr(mujoco.mjtEnableBit, flag))


def name_of(model: mujoco.MjModel, kind: str, index: int) -> str:
  """Returns the name of an element, or its number if it has none."""
  named = getattr(model, kind)(index).name
  return repr(named) if named else f'#{index}'


def _is_set(model: mujoco.MjModel, flag: str) -> bool:
  if flag.startswith('mjENBL'):
    return bool(model.opt.enableflags & getattr(mujoco.mjtEnableBit, flag))
  return bool(model.opt.disableflags & getattr(mujoco.mjtDisableBit, flag))


def _matters(model: mujoco.MjModel, name: str) -> bool:
  """Whether a field can affect the motion of this model."""
  option = model.opt
  if name == 'geom_fluid':
    return option.density > 0 or option.viscosity > 0
  if name == 'opt.disableactuator':
    groups = [g for g in model.actuator_group if 0 <= g <= 30]
    return any(option.disableactuator & (1 << int(g)) for g in groups)
  if name == 'actuator_actearly':
    return bool(np.any(model.actuator_actearly & (model.actuator_actnum > 0)))
  return True


def _harmless(name: str) -> bool:
  flexible = name.startswith(('flex_', 'nflex')) and name != 'nflex'
  return flexible or any(fnmatch.fnmatchcase(name, x) for x in HARMLESS)


def _fields(model: mujoco.MjModel) -> Iterator[tuple[str, Any]]:
  """Yields the numbers and arrays of a model, its options and statistics."""
  for prefix, part in (
    ('', model),
    ('opt.', model.opt),
    ('stat.', model.stat),
  ):
    for name in dir(part):
      if not name.startswith('_'):
        value = getattr(part, name)
        if isinstance(value, np.ndarray | np.generic | int | float):
          yield prefix + name, value


@functools.cache
def _defaults() -> dict[str, Any]:
  return dict(_fields(mujoco.MjModel.from_xml_string(_REFERENCE)))


def _first_unusual(name: str, value: Any) -> int | None:
  """Returns the first row that differs from the default, or `None`."""
  default = _defaults().get(name)
  if np.ndim(value) == 0:
    usual = 0 if default is None else default
    return None if value == usual else 0
  rows = np.asarray(value)
  if not rows.size:
    return None
  if name.startswith('opt.'):
    return None if np.array_equal(rows, np.asarray(default)) else 0
  rows = rows.reshape(len(rows), -1)
  usual = np.zeros((1, rows.shape[1]))
  if default is not None and np.size(default):
    usual = np.asarray(default).reshape(len(default), -1)
  same = (rows[:, None] == usual[None]).all(-1).any(-1)
  return None if same.all() else int(np.argmin(same))


def _element(model: mujoco.MjModel, name: str, row: int) -> str:
  """Returns `joint 'knee': `, or '' for options and unknown kinds."""
  prefix = name.split('_')[0]
  kind = _KINDS.get(prefix)
  if kind is None or '.' in name:
    return ''
  if prefix == 'dof':
    row = int(model.dof_jntid[row])
  return f'{kind} {name_of(model, kind, row)}: '
