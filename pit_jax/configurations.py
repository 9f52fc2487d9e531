"""Configurations as commands name them: a file with a size, and values set over its own."""

import ast
import contextlib
import importlib
import importlib.util
import inspect
import pathlib
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_dict, config_flags
from ml_collections.config_flags import config_path

from pit_jax import comments, config_keys, value_files

SHIPPED = pathlib.Path(__file__).resolve().parent / "configs"  # in a checkout a link to configs/
SHARED = ("__init__", "common", "chat")  # files of that folder that are no configuration
PREFIX = "--config."
VALUES = "--values="
ALONE = "value"  # what a value is called in a configuration of its own
SHAPE = tuple(  # of models that start from nothing
  f"model.{name}"
  for name in ["width", "layers", "heads", "kv_heads", "head_width", "hidden", "tied", "rope_theta"]
)
FORM = (
  "it has to be a function that returns a ConfigDict, without arguments or with one, the size "
  "after the colon"
)


def load(named: str) -> ml_collections.ConfigDict:
  """Returns the configuration that NAME, NAME:SIZE, FILE.py or FILE.py:SIZE names.

  Args:
    named: one that the library has, such as "pit:tiny", or a file, and after the colon the argument
      of its `get_config`.

  Raises:
    ValueError: there is no such file, no configuration in it, or none of this size.
  """
  get_config, arguments = _making(named)
  path = place(named.partition(":")[0])
  try:
    config = get_config(*arguments)
  except ValueError as error:
    raise ValueError(f"--config={named}: {error}") from error
  except Exception as error:  # whatever somebody else's file does
    raise ValueError(f"--config={named}: get_config() fails ({_failure(error, path)})") from error

  if not isinstance(config, ml_collections.ConfigDict):
    kind = type(config).__name__
    raise ValueError(f"--config={named}: its get_config() returns {kind}, and no ConfigDict")
  return config


def meanings(named: str) -> dict[str, str]:
  """Returns the meaning of every key of a configuration: key → the comment where it is made.

  That is the comment beside the key's line or above it, without a blank line between. Comments
  within an `if`, and those where a key of a section that was made elsewhere is set, are about the
  value. The keys of a tuple of sections stand once, as in curriculum[].steps.

  Args:
    named: as `load` takes it.

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
  path = place(file)
  if path is None:
    raise ValueError(f"--config={named}: there is no file {file}; {_known()}")

  try:
    module = _module(path)
  except Exception as error:  # whatever somebody else's file does
    # What Python cannot read, such as a README, was hardly meant.
    hint = f"; {_known()}" if isinstance(error, ImportError | SyntaxError | UnicodeError) else ""
    problem = f"{file} has no get_config(), as importing it fails ({_failure(error, path)}){hint}"
    raise ValueError(f"--config={named}: {problem}") from error

  get_config = getattr(module, "get_config", None)
  if get_config is None:
    raise ValueError(f"--config={named}: {file} has no get_config(); {_known()}")
  if not callable(get_config):
    kind = type(get_config).__name__
    raise ValueError(f"--config={named}: get_config in {file} is {kind}; {FORM}")
  return get_config, _arguments(named, file, size, get_config)


def _arguments(named: str, file: str, size: str, get_config: Callable) -> tuple[str, ...]:
  """Returns what `get_config` is called with; raises a ValueError where it wants something else."""
  arguments = (size,) if size else ()
  if _takes(get_config, *arguments):
    return arguments
  if size and _takes(get_config):
    raise ValueError(f"--config={named}: {file} has one size alone; leave the size out")
  if not size and _takes(get_config, "tiny"):
    raise ValueError(f"--config={named}: {file} wants a size, as in FILE.py:tiny")
  raise ValueError(f"--config={named}: get_config in {file} wants other arguments; {FORM}")


def _takes(get_config: Callable, *arguments: str) -> bool:
  # Bound before it is called: a TypeError within get_config is not a wrong size.
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError:
    return False
  return True


def _failure(error: Exception, path: pathlib.Path) -> str:
  """Returns what went wrong in a configuration's file, and in which of its lines, in a line."""
  said = " ".join(str(error).split())
  what = f"{type(error).__name__}: {said}" if said else type(error).__name__
  if isinstance(error, SyntaxError):  # which says the line itself
    return what
  frames = traceback.extract_tb(error.__traceback__)
  lines = [frame.lineno for frame in frames if frame.filename == str(path)]
  return f"line {lines[-1]}, {what}" if lines else what


def place(file: str, room: str = "") -> pathlib.Path | None:
  """Returns where a file of configurations lies; None where there is none.

  Args:
    file: a path, or the name of one that the library has, with or without configs/ and .py.
    room: the folder below configs/ in which the library has them.
  """
  shipped = file.removeprefix("configs/").removeprefix(f"{room}/").removesuffix(".py")
  candidates = [pathlib.Path(file), SHIPPED / room / f"{shipped}.py"]
  return next((path for path in candidates if path.suffix and path.is_file()), None)


def change(config: ml_collections.ConfigDict, values: Sequence[str]) -> list[str]:
  """Sets values of a configuration, and returns the keys that were set.

  Args:
    config: in which they are set.
    values: arguments of the command line such as --config.evaluation.prompts=1024, or
      --values=FILE.yaml, which stands for one of each value in the file. Later ones count.

  Raises:
    ValueError: an argument is nothing that can be set.
  """
  keys = []
  for argument in values:
    if argument == VALUES.removesuffix("="):
      raise ValueError(f"{argument}: name the file after =, as in {VALUES}mine.yaml")
    if argument.startswith(VALUES):
      keys += _change_by_file(config, argument.removeprefix(VALUES))
    elif argument.startswith(PREFIX):
      keys += [_set(config, argument)]
    elif argument.startswith("-"):
      raise ValueError(f"{argument}: no such option; --help explains those there are")
    else:
      raise ValueError(f"{argument}: give values as --config.evaluation.prompts=1024")

  return keys


def _change_by_file(config: ml_collections.ConfigDict, file: str) -> list[str]:
  """Sets what a YAML file holds: sections of keys, or keys with dots, and their values."""
  if not file:
    raise ValueError(f"{VALUES} names no file; give one, as in {VALUES}mine.yaml")

  keys = []
  for given in value_files.read(file):
    try:
      config_keys.check(given.key, config)
      current = config_path.get_value(given.key, config)
      # As text: each is read as on a command line, by the type that its key has.
      text = value_files.written(given, current)
      keys.append(_set(config, argument(given.key, text)))
    except ValueError as error:
      raise ValueError(f"{file}, line {given.line}: {error}") from error

  return keys


def _set(config: ml_collections.ConfigDict, given: str) -> str:
  """Sets the value of one argument, and returns its key."""
  key, sign, text = given.removeprefix(PREFIX).partition("=")
  config_keys.check(key, config)
  current = config_path.get_value(key, config)
  config_keys.check_value(key, current, sign, text)
  if isinstance(current, tuple):
    config_path.set_value(key, config, config_keys.parts(key, current, text))
    return key
  if _is_ours(key, current, text):
    config_path.set_value(key, config, _literal(given, text))
    return key

  # Flags of its own: those of the process are global, and stay as they are. They are read as
  # sys.argv is, whose first element is the program. Of a whole configuration they would write all
  # keys down as text first, for each value anew; so they see one that has this value alone.
  parser = flags.FlagValues()
  kind = _type(config, key)
  held = config_dict.placeholder(kind) if current is None else current
  alone = ml_collections.ConfigDict({ALONE: held})
  arguments = ["", f"{PREFIX}{ALONE}{sign}{text}"]
  config_flags.DEFINE_config_dict("config", alone, flag_values=parser, sys_argv=arguments)
  try:
    parser(arguments)
  except flags.Error as error:
    raise ValueError(config_keys.wrong_type(key, kind, current, text)) from error

  config_path.set_value(key, config, alone[ALONE])
  return key


def _type(config: ml_collections.ConfigDict, key: str) -> type:
  """Returns the type that a key's value may have, None apart."""
  section, _, name = key.rpartition(".")
  parent = config_path.get_value(section, config) if section else config
  return parent.get_ref(name).get_type()


def without_effect(config: ml_collections.ConfigDict, keys: Sequence[str]) -> list[str]:
  """Returns the keys of the models' shape that are set, and that a base model decides itself.

  Args:
    config: in which they are set.
    keys: what `change` returned.
  """
  if "model" not in config:  # of a recipe that trains no network
    return []
  base = config.model.base
  if base == "none" or (base == "auto" and not config_keys.is_embedded(config.data.source)):
    return []
  return [key for key in dict.fromkeys(keys) if key in SHAPE]


def argument(key: str, value: Any) -> str:
  """Returns the argument that sets a value, as `change` reads it."""
  return f"{PREFIX}{key}={value}"


def _is_ours(key: str, current: Any, text: str) -> bool:
  """Returns whether config_flags has no words for a value: None, and lists."""
  is_none = text == "None" and (not isinstance(current, str) or config_keys.is_optional(key))
  return isinstance(current, list) or is_none


def _literal(argument: str, text: str) -> Any:
  with contextlib.suppress(SyntaxError, ValueError):
    value = ast.literal_eval(text)
    if isinstance(value, list | None):
      return value

  raise ValueError(f"{argument}: {text!r} is no list; write it as in [1, 2]")


def _module(path: pathlib.Path) -> Any:
  spec = importlib.util.spec_from_file_location(f"config_{path.stem}", path)
  if spec is None:
    raise ImportError("it is no Python file")
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)

  return module


def _known() -> str:
  """Returns which configurations there are, in words."""
  return (
    f"use one of {', '.join(names())}, with a size such as :tiny after it, or a Python file of "
    "your own"
  )


def names() -> list[str]:
  """Returns the names of the configurations that the library has."""
  return sorted({path.stem for path in SHIPPED.glob("*.py")} - {*SHARED})


def function(name: str) -> Callable:
  """Returns the Python function that "package.module:function" names.

  Raises:
    ValueError: it cannot be imported, or is no function.
  """
  module, _, attribute = name.partition(":")
  try:
    found = getattr(importlib.import_module(module), attribute)
  except Exception as error:  # whatever a module of somebody else raises while it is imported
    problem = f"{name} cannot be imported ({type(error).__name__}: {error})"
    todo = "see that Python finds the module from here (PYTHONPATH), and that it has this function"
    raise ValueError(f"{problem}; {todo}") from error

  if not callable(found):
    raise ValueError(f"{name} is no function but {type(found).__name__}")
  return found
