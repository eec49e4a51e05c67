"""GSSM: a surrogate that infers its task, a policy that is told (Wang 2022)."""
