"""Runs `python -m mbmpo_jax <command>`; needs no `mbmpo` on the path."""

from mbmpo_jax.training.launch import command

if __name__ == '__main__':
  command.main()
