"""Keys of a configuration: which there are, and what can be set at each."""

import ast
import contextlib
import difflib
import re
import shlex
from typing import Any

import ml_collections
from ml_collections.config_flags import config_path

# Keys that may be None, whatever they are; what may be what else says `run.allowed`.
OPTIONAL = (
  "data.rows",
  *(
    f"curriculum[].{name}"
    for name in ("estimator", "samples", "scale_rewards", "loss_kl_coefficient")
  ),
)
# What `data.source` calls the embedded task, the same with prompts of three classes, its chains
# without letters, and letters to questions of five kinds.
EMBEDDED = "synthetic"
CLASSES = f"{EMBEDDED}:classes"
CHAINS = f"{EMBEDDED}:chains"
BY_KIND = f"{EMBEDDED}:kinds"
TASKS = (EMBEDDED, CLASSES, CHAINS, BY_KIND)
INSTRUCTIONS = "instructions"  # the task in plain English, for a pretrained model
# Types of values → what a text is called that is none, and one for where a key has none.
KINDS = {
  bool: ("neither True nor False", True),
  int: ("no whole number", 1),
  float: ("no number", 0.5),
}
NO_SUCH_KEY = (AttributeError, LookupError, TypeError, ValueError)  # what config_path raises


def is_embedded(source: str) -> bool:
  """Returns whether a source is the embedded task, whose words its base knows."""
  return source in TASKS


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
  if text == "None" and not is_text and current is not None and not is_optional(key):
    raise ValueError(f"{given}: it has to have a value; {_advice(key, current)}")


def is_optional(key: str) -> bool:
  """Returns whether a key may be None, whatever it is."""
  return re.sub(r"\[\d+\]", "[]", key) in OPTIONAL


def wrong_type(key: str, kind: type, current: Any, text: str) -> str:
  """Returns what is wrong with a text that is no value of the type that a key has.

  Args:
    key: of the value.
    kind: its type.
    current: what it is now; None where it has none.
    text: what follows "=".
  """
  words, some = KINDS.get(kind, (f"no {kind.__name__}", current))
  advice = _advice(key, some if current is None else current)
  return f"--config.{key}={text}: {text!r} is {words}; {advice}"


def _advice(key: str, some: Any) -> str:
  """Returns how a value is written, by one that the key could have."""
  if not isinstance(some, tuple):
    return f"give one, as in {shlex.join([f'--config.{key}={some}'])}"
  is_flat = bool(some) and all(isinstance(one, str | int | float) for one in some)
  words = ",".join(map(str, some)) if is_flat else "a,b"
  return f'write a list as in --config.{key}={words} or --config.{key}="{some or ("a", "b")}"'


def parts(key: str, current: tuple, text: str) -> tuple:
  """Returns a tuple written in Python, as in ('a', 'b'), or as words with commas, as in a,b.

  Args:
    key: of the value.
    current: what it is now.
    text: what follows "="; an empty one is an empty tuple.

  Raises:
    ValueError: it is neither.
  """
  with contextlib.suppress(SyntaxError, ValueError, MemoryError, RecursionError):
    value = ast.literal_eval(text.strip())
    if not isinstance(value, dict | set):
      return tuple(value) if isinstance(value, tuple | list) else (value,)

  words = [word.strip() for word in text.split(",")] if text.strip() else []
  if not all(words) or re.search(r"[()\[\]{}'\"]", text):
    raise ValueError(f"--config.{key}={text}: {text!r} is no list; {_advice(key, current)}")
  return tuple(words)


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
