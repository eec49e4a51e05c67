"""Pages and videos that show a policy."""
