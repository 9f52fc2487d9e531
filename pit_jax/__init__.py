"""Implicit self-improvement of language models from preference data, in JAX.

run = pit_jax.load("runs/demo")
run.improve(["Write to Mia."], ["Dear Mia"])[0].text
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from pit_jax.api import Improved, Preferences, Round, Run, load, train
  from pit_jax.configurations import load as get_config

__version__ = "0.2.0"
__all__ = ["Improved", "Preferences", "Round", "Run", "get_config", "load", "train"]

# Of transformers the tokenizers alone are used, so that its advice to install PyTorch is none.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def __getattr__(name: str) -> Any:
  """Imports what a program asks for; commands that explain themselves need none of it."""
  if name == "get_config":
    return importlib.import_module("pit_jax.configurations").load
  if name in __all__:
    return getattr(importlib.import_module("pit_jax.api"), name)
  raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
