"""Implicit self-improvement of language models from preference data, in JAX."""

__version__ = "0.1.0"
