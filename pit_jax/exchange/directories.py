"""Checks that a name is a model's directory, and says what to do where it is none."""

import json
import os
import pathlib
import re
from typing import Any

ADAPTER = "adapter_config.json"  # a directory with such a file is what PEFT puts on a base
BASE = "model.base"  # the key of what a run starts from
OWN = "models/"  # where the shipped configurations look for models: no owner on the hub
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")  # OWNER/NAME


def check(key: str, named: str | os.PathLike) -> None:
  """Raises a ValueError that says what to do where a key names no directory of a whole model.

  The key is one of the configuration, or an option of a command; `named` is what it is set to.
  """
  name = os.fspath(named)
  place = pathlib.Path(name)
  refuse_adapters(place)
  if (place / "config.json").is_file():
    return
  target = f"models/{place.stem.lower()}"

  if place.suffix.lower() == ".gguf":
    todo = (
      f"is a GGUF file: pit convert import --source={name} --output={target}, then {key}={target}"
    )
  elif (
    key == BASE and not place.exists() and (name.startswith(OWN) or not HUB_NAME.fullmatch(name))
  ):
    todo = f"is no directory; set --config.{key}=DIRECTORY (`pit convert import` writes one)"
  elif HUB_NAME.fullmatch(name) and not place.exists():
    target = f"models/{place.name.lower()}"
    todo = (
      "is no directory here, and nothing is downloaded by itself; a model of the Hugging Face hub "
      f"comes by: hf download {name} --local-dir {target}, then {key}={target}"
    )
  elif place.is_dir():
    todo = "holds no config.json; give a model's directory, as pit convert import writes it"
  else:
    todo = "is no directory; give one with a config.json, as pit convert import writes it"

  raise ValueError(f"{key}={name} {todo}")


def refuse_adapters(directory: str | os.PathLike) -> None:
  """Raises a ValueError where a directory holds adapters and no whole model."""
  path = pathlib.Path(directory) / ADAPTER
  if not path.is_file():
    return

  try:
    base = json.loads(path.read_text(encoding="utf-8")).get("base_model_name_or_path")
  except (ValueError, AttributeError):
    base = None

  named = f", {base!r}" if base else ""
  raise ValueError(
    f"{directory} holds adapters of PEFT ({ADAPTER}), no whole model; make one of them and their "
    f"base{named}: pit convert import --source=BASE --adapter={directory} --output=NEW"
  )


def read_object(path: pathlib.Path, place: str = "") -> dict[str, Any]:
  """Returns the JSON object that a file of a model's directory has to hold.

  Raises:
    ValueError: it is no JSON, or something else in JSON; `place` stands before the file's name.
  """
  try:
    content = json.loads(path.read_text(encoding="utf-8"))
  except (OSError, ValueError) as error:
    raise ValueError(f"{place}{path.name} cannot be read as JSON: {error}") from error

  if not isinstance(content, dict):
    kind = type(content).__name__
    raise ValueError(f"{place}{path.name} must hold a JSON object, not {kind}")
  return content
