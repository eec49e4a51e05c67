"""The programs behind `mbmpo <command>` and `experiments/<command>.py`."""
