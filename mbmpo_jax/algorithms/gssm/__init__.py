"""GSSM: a surrogate that infers tasks and its policy (Wang & van Hoof 2022)."""
