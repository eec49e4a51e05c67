"""Published results of GSSM's paper: tables 1, 2 and 6."""

MODEL, RETURN, SECONDS = 'model error', 'return', 'adaptation, s'
# By environment, then method: mean and standard deviation over tasks (tables 1,
# 2 and 6).
VALUES: dict[str, dict[str, dict[str, str]]] = {
  MODEL: {
    'cartpole_swingup': {
      'gssm': '0.0291 ± 0.040',
      'm_dpilco': '0.0475 ± 0.051',
      'mlsm_v0': '0.0626 ± 0.081',
      'mlsm_v1': '0.0310 ± 0.036',
      'l2a': '0.0397 ± 0.040',
    },
    'acrobot': {
      'gssm': '0.0022 ± 0.00082',
      'm_dpilco': '0.0056 ± 0.0039',
      'mlsm_v0': '0.0058 ± 0.0011',
      'mlsm_v1': '0.0023 ± 0.0013',
      'l2a': '0.0039 ± 0.0017',
    },
    'half_cheetah_mass_damping': {
      'gssm': '0.530 ± 0.22',
      'm_dpilco': '0.678 ± 0.14',
      'mlsm_v0': '0.533 ± 0.14',
      'mlsm_v1': '0.636 ± 0.14',
      'l2a': '0.785 ± 0.084',
    },
    'slim_humanoid': {
      'gssm': '1.680 ± 0.19',
      'm_dpilco': '1.991 ± 0.34',
      'mlsm_v0': '1.728 ± 0.16',
      'mlsm_v1': '1.638 ± 0.19',
      'l2a': '2.364 ± 0.078',
    },
  },
  RETURN: {
    'cartpole_swingup': {
      'gssm': '-0.5957 ± 0.058',
      'm_dpilco': '-0.6354 ± 0.077',
      'mlsm_v0': '-0.6406 ± 0.098',
      'mlsm_v1': '-0.5935 ± 0.082',
      'l2a': '-0.892 ± 0.033',
    },
    'acrobot': {
      'gssm': '-0.4658 ± 0.061',
      'm_dpilco': '-0.9444 ± 0.089',
      'mlsm_v0': '-0.5524 ± 0.096',
      'mlsm_v1': '-0.5286 ± 0.053',
      'l2a': '-0.7775 ± 0.054',
      'dr_ppo': '-0.433 ± 0.043',
      'pe_ppo': '-0.420 ± 0.050',
    },
    'half_cheetah_mass_damping': {
      'gssm': '1597 ± 200',
      'm_dpilco': '862 ± 280',
      'mlsm_v0': '827 ± 190',
      'mlsm_v1': '1227 ± 64',
      'l2a': '-17.9 ± 13',
      'dr_ppo': '1360 ± 130',
      'pe_ppo': '608 ± 73',
    },
    'slim_humanoid': {
      'gssm': '1659 ± 110',
      'm_dpilco': '1181 ± 54',
      'mlsm_v0': '486 ± 85',
      'mlsm_v1': '780 ± 170',
      'l2a': '125 ± 570',
      'dr_ppo': '3533 ± 110',
      'pe_ppo': '1248 ± 150',
    },
  },
  SECONDS: {
    'cartpole_swingup': {
      'gssm': 'none',
      'm_dpilco': '0.26',
      'mlsm_v0': '0.34',
      'mlsm_v1': '0.55',
    },
    'acrobot': {
      'gssm': 'none',
      'm_dpilco': '4.3',
      'mlsm_v0': '5.2',
      'mlsm_v1': '6.5',
    },
    'half_cheetah_mass_damping': {
      'gssm': 'none',
      'm_dpilco': '2.5',
      'mlsm_v0': '2.9',
      'mlsm_v1': '4.6',
    },
    'slim_humanoid': {
      'gssm': 'none',
      'm_dpilco': '2.4',
      'mlsm_v0': '3.1',
      'mlsm_v1': '4.9',
    },
  },
}
