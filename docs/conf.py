"""Sphinx: pages in Markdown, the API from docstrings; `make docs` builds it."""

import pathlib
import sys

# The package as it is here, and `docstrings`.
sys.path[:0] = [str(pathlib.Path(__file__).parents[1]), str(pathlib.Path())]

import docstrings

import mbmpo_jax

project = 'mbmpo_jax'
version = release = mbmpo_jax.__version__
copyright = 'the mbmpo_jax authors'

extensions = [
  'myst_nb',
  'sphinx.ext.apidoc',
  'sphinx.ext.autodoc',
  'sphinx.ext.napoleon',
  'sphinx.ext.viewcode',
]
exclude_patterns = ['_build']

# One page per module, whichever there are.
apidoc_modules = [
  {
    'path': '../mbmpo_jax',
    'destination': 'generated',
    'separate_modules': True,
    'module_first': True,
    'automodule_options': {'members', 'show-inheritance'},
  }
]
autodoc_member_order = 'bysource'
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

myst_heading_anchors = 3
# The notebook's outputs are those that are committed.
nb_execution_mode = 'off'

html_theme = 'furo'
html_title = 'mbmpo_jax'
html_copy_source = False


def setup(app):
  """Before napoleon, which reads the sections, at 500."""
  app.connect('autodoc-process-docstring', docstrings.process, priority=400)
