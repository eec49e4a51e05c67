"""Figures of papers: many runs, a picture, and whether a claim held."""
