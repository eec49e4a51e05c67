"""What lies on the disk: folders of runs, checkpoints, policies."""
