"""Configurations as commands name them: a file with a size, and values set over its own."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from pit_jax import comments

ROOT = pathlib.Path(__file__).resolve().parents[1]  # of the repository, where configs/ lies
PREFIX = "--config."
SHAPE = tuple(  # of models that start from nothing
  f"model.{name}"
  for name in ["width", "layers", "heads", "kv_heads", "head_width", "hidden", "tied", "rope_theta"]
)
NO_SUCH_KEY = (AttributeError, LookupError, TypeError, ValueError)  # what config_path raises


def load(named: str) -> ml_collections.ConfigDict:
  """Returns the configuration that FILE.py or FILE.py:SIZE names.

  Args:
    named: the file, from the working folder or from the repository, and the argument of its
      `get_config`.

  Raises:
    ValueError: there is no such file, no configuration in it, or none of this size.
  """
  get_config, arguments = _making(named)
  try:
    config = get_config(*arguments)
  except ValueError as error:
    raise ValueError(f"--config={named}: {error}") from error

  if not isinstance(config, ml_collections.ConfigDict):
    raise ValueError(f"--config={named}: its get_config() returns no ConfigDict")
  return config


def meanings(named: str) -> dict[str, str]:
  """Returns the meaning of every key of a configuration: key → the comment where it is made.

  That is the comment beside the key's line or above it, without a blank line between. Comments
  within an `if`, and those where a key of a section that was made elsewhere is set, are about the
  value. The keys of a tuple of sections stand once, as in curriculum[].steps.

  Args:
    named: FILE.py or FILE.py:SIZE, as `load` takes it.

  Raises:
    ValueError: as `load`.
  """
  get_config, _ = _making(named)
  return comments.keys_of(get_config)


def _making(named: str) -> tuple[Callable, tuple[str, ...]]:
  """Returns the `get_config` of a configuration's file, and its arguments.

  Raises:
    ValueError: as `load`.
  """
  file, _, size = named.partition(":")
  path = next((path for path in (pathlib.Path(file), ROOT / file) if path.is_file()), None)
  if path is None:
    raise ValueError(f"--config={named}: there is no file {file}; {_known()}")

  try:
    get_config = _module(path).get_config
  except (AttributeError, ImportError, SyntaxError, UnicodeDecodeError) as error:
    line = str(error).splitlines()[0]
    raise ValueError(
      f"--config={named}: {file} has no get_config() ({line}); {_known()}"
    ) from error

  arguments = (size,) if size else ()
  # Bound before it is called: a TypeError within get_config is not a wrong size.
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    todo = "has one size alone; leave the size out" if size else "wants a size, as in FILE.py:tiny"
    raise ValueError(f"--config={named}: {file} {todo}") from error

  return get_config, arguments


def change(config: ml_collections.ConfigDict, values: Sequence[str]) -> None:
  """Sets values of a configuration.

  Args:
    config: in which they are set.
    values: arguments of the command line such as --config.evaluation.prompts=1024.

  Raises:
    ValueError: an argument is nothing that can be set.
  """
  # Flags are read as sys.argv is, whose first element is the program.
  arguments = [""]
  for argument in values:
    key, _, text = argument.removeprefix(PREFIX).partition("=")
    if argument.startswith(PREFIX):
      check_key(key, config)
    elif argument.startswith("-"):
      raise ValueError(f"{argument}: no such option; --help explains those there are")

    if argument.startswith(PREFIX) and _is_ours(config_path.get_value(key, config), text):
      config_path.set_value(key, config, _literal(argument, text))
    else:
      arguments.append(argument)

  # Flags of its own: those of the process are global, and stay as they are.
  parser = flags.FlagValues()
  config_flags.DEFINE_config_dict("config", config, flag_values=parser, sys_argv=arguments)
  try:
    _, *unknown = parser(arguments)
  except flags.Error as error:
    raise ValueError(" ".join(str(error).split()).removeprefix("flag ")) from error

  if unknown:
    raise ValueError(f"{' '.join(unknown)}: give values as --config.evaluation.prompts=1024")


def without_effect(config: ml_collections.ConfigDict, values: Sequence[str]) -> list[str]:
  """Returns the keys of the models' shape that are set, and that a base model decides itself.

  Args:
    config: in which they are set.
    values: arguments of the command line, as `change` takes them.
  """
  base = config.model.base
  if base == "none" or (base == "auto" and config.data.source != "synthetic"):
    return []
  keys = [value.removeprefix(PREFIX).partition("=")[0] for value in values]
  return [key for key in dict.fromkeys(keys) if key in SHAPE]


def argument(key: str, value: Any) -> str:
  """Returns the argument that sets a value, as `change` reads it."""
  return f"{PREFIX}{key}={value}"


def _is_ours(current: Any, text: str) -> bool:
  """Returns whether config_flags has no words for a value: None, and lists."""
  return isinstance(current, list) or (text == "None" and not isinstance(current, str))


def _literal(argument: str, text: str) -> Any:
  try:
    value = ast.literal_eval(text)
  except (SyntaxError, ValueError) as error:
    raise ValueError(f"{argument}: {text!r} is no list; write it as in [1, 2]") from error

  if not isinstance(value, list | None):
    raise ValueError(f"{argument}: {text!r} is no list; write it as in [1, 2]")
  return value


def check_key(key: str, config: ml_collections.ConfigDict) -> None:
  """Raises a ValueError for what is no key of a configuration, such as rl.stepz."""
  try:
    config_path.get_value(key, config)
  except NO_SUCH_KEY:
    keys = [path for path, _ in leaves(config)]
    near = difflib.get_close_matches(key, keys, n=3)
    hint = f"near it are {', '.join(near)}" if near else f"its sections are {', '.join(config)}"
    raise ValueError(f"{key!r} is no key of the configuration; {hint}") from None


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
  """Returns (key, value) of everything that a configuration holds, nested ones by their path."""
  if isinstance(tree, ml_collections.ConfigDict):
    return [leaf for key in tree for leaf in leaves(tree.get_ref(key).get(), f"{path}.{key}")]
  return [(path.removeprefix("."), tree)]


def _module(path: pathlib.Path) -> Any:
  spec = importlib.util.spec_from_file_location(f"configs.{path.stem}", path)
  if spec is None:
    raise ImportError("it is no Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)

  return module


def _known() -> str:
  """Returns which configurations there are, in words."""
  files = sorted(path.name for path in (ROOT / "configs").glob("*.py"))
  names = ", ".join(f"configs/{name}" for name in files if name not in ("__init__.py", "common.py"))
  return f"use one of {names}, with a size such as :tiny after it"


def function(name: str) -> Callable:
  """Returns the Python function that "package.module:function" names.

  Raises:
    ValueError: it cannot be imported, or is no function.
  """
  module, _, attribute = name.partition(":")
  try:
    found = getattr(importlib.import_module(module), attribute)
  except Exception as error:  # whatever a module of somebody else raises while it is imported
    raise ValueError(
      f"{name} cannot be imported ({type(error).__name__}: {error}); see that Python finds the "
      "module from here (PYTHONPATH), and that it has this function"
    ) from error

  if not callable(found):
    raise ValueError(f"{name} is no function but {type(found).__name__}")
  return found
