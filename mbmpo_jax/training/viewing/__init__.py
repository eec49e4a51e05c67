"""A policy at work, to be looked at: pages and videos."""
