"""Files on disk: run folders, checkpoints, policies."""
