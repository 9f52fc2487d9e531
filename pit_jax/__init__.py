"""Implicit self-improvement of language models from preference data, in JAX."""

import os

__version__ = "0.1.0"

# Of transformers the tokenizers alone are used, so that its advice to install PyTorch is none.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
