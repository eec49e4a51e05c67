"""What `mbmpo <command>` and `experiments/<command>.py` run."""
