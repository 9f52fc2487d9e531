"""Implicit self-improvement of language models from preference data, in JAX.

run = pit_jax.load("runs/demo")
run.improve(["Write to Mia."], ["Dear Mia"])[0].text
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what follows below is for those who only read
  from pit_jax.api.preferences import Preferences
  from pit_jax.api.runs import Improved, Round, Run, load
  from pit_jax.api.training import train
  from pit_jax.configurations import load as get_config

__version__ = "0.2.0"
__all__ = ["Improved", "Preferences", "Round", "Run", "get_config", "load", "train"]

# Name → module and name there. They are imported when they are asked for: commands that explain
# themselves need none of them.
_OFFERED = {
  "Improved": ("api.runs", "Improved"),
  "Preferences": ("api.preferences", "Preferences"),
  "Round": ("api.runs", "Round"),
  "Run": ("api.runs", "Run"),
  "get_config": ("configurations", "load"),
  "load": ("api.runs", "load"),
  "train": ("api.training", "train"),
}

# Of transformers the tokenizers alone are used, so that its advice to install PyTorch is none.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")


def __getattr__(name: str) -> Any:
  if name not in _OFFERED:
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
  module, attribute = _OFFERED[name]
  return getattr(importlib.import_module(f"pit_jax.{module}"), attribute)


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
