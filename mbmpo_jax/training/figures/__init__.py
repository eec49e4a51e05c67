"""Figures of papers: many runs, a picture, and verdicts on the claims."""
