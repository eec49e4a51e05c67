"""Models that infer a task from a set of its transitions: GSSM and MLSM."""
