"""Bounds proved in the papers, as functions of the assumed errors."""
