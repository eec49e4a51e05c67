"""`python -m mbmpo_jax <command>`, where `mbmpo` is not on the path."""

from mbmpo_jax.training.launch import command

if __name__ == '__main__':
  command.main()
