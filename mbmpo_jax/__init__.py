"""Model-based meta-policy optimisation in JAX.

Functions, not frameworks: `algorithms.mbmpo.make` composes what the other
modules offer one by one.
"""

__version__ = '0.1.0'
