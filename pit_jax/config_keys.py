"""Keys of a configuration: which there are, and what can be set at each."""

import contextlib
import difflib
import re
from typing import Any

import ml_collections
from ml_collections.config_flags import config_path

OPTIONAL = ("data.rows",)  # keys that may be None, whatever they are
NO_SUCH_KEY = (AttributeError, LookupError, TypeError, ValueError)  # what config_path raises


def check(key: str, config: ml_collections.ConfigDict) -> None:
  """Raises a ValueError for what is no key of a configuration, such as rl.stepz.

  Nor is an element of a tuple one, such as data.folds[0].
  """
  _check_is_whole(key, config)
  try:
    config_path.get_value(key, config)
  except NO_SUCH_KEY:
    near = difflib.get_close_matches(key, [path for path, _ in leaves(config)], n=3)
    hint = f"near it are {', '.join(near)}" if near else f"its sections are {', '.join(config)}"
    raise ValueError(f"{key!r} is no key of the configuration; {hint}") from None


def _check_is_whole(key: str, config: ml_collections.ConfigDict) -> None:
  """Raises a ValueError where a key names a part of a tuple that is set as a whole, or not at all.

  That is anything below a tuple of values, and a section of a tuple of them.
  """
  for border in re.finditer(r"[.\[]", key):
    whole = key[: border.start()]
    below = key[border.start() :]
    value = None
    with contextlib.suppress(*NO_SUCH_KEY):
      value = config_path.get_value(whole, config)
    if not isinstance(value, tuple):
      continue

    if _has_sections(value):
      if below.startswith("[") and "." not in below:
        some = f"{whole}[0].{list(value[0])[-1]}"
        raise ValueError(f"{key} is a section; set its keys one by one, as in {some}")
    elif below.startswith("["):
      problem = "is an element of a tuple, and those are given as a whole"
      raise ValueError(f"{key} {problem}; set {whole}, which is {value!r}")
    else:
      todo = f"give a list of pairs, as in [[{below[1:]}, 1.0]]"
      raise ValueError(f"{whole} is a list and has no keys; {todo}")


def check_value(key: str, current: Any, sign: str, text: str) -> None:
  """Refuses what config_flags would take, or would word by other names.

  Args:
    key: of the value.
    current: what it is now.
    sign: "=", or "" where there is none.
    text: what follows.

  Raises:
    ValueError: there is no value, or None where the key has to have one.
  """
  given = f"--config.{key}{sign}{text}"
  if _has_sections(current):
    inner = f"{key}[0]" if isinstance(current, tuple | list) else key
    some = next(iter(current[0] if isinstance(current, tuple | list) else current))
    raise ValueError(f"{given}: {key} has keys of its own; set those, as in {inner}.{some}=…")
  if not sign and not isinstance(current, bool):
    raise ValueError(f"{given}: give the value after =, as in --config.{key}={current}")
  is_text = isinstance(current, str)
  if text == "None" and not is_text and current is not None and key not in OPTIONAL:
    kind = type(current).__name__
    raise ValueError(f"{given}: it has to have a value; give {kind} such as {current!r}")


def _has_sections(current: Any) -> bool:
  inner = current if isinstance(current, tuple | list) else [current]
  return bool(inner) and all(isinstance(one, ml_collections.ConfigDict) for one in inner)


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
  """Returns (key, value) of everything that can be set, those of sections by their path.

  A tuple of sections has theirs, as in curriculum[0].steps.
  """
  if isinstance(tree, ml_collections.ConfigDict):
    return [leaf for key in tree for leaf in leaves(tree.get_ref(key).get(), f"{path}.{key}")]
  if _has_sections(tree):
    return [leaf for i, one in enumerate(tree) for leaf in leaves(one, f"{path}[{i}]")]
  return [(path.removeprefix("."), tree)]
