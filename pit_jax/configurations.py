"""Configurations as commands name them: a file with a size, and values set over its own."""

import ast
import contextlib
import difflib
import importlib
import importlib.util
import inspect
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import yaml
from absl import flags
from ml_collections import config_flags
from ml_collections.config_flags import config_path

from pit_jax import comments

SHIPPED = pathlib.Path(__file__).resolve().parent / "configs"  # in a checkout a link to configs/
PREFIX = "--config."
VALUES = "--values="
ALONE = "value"  # what a value is called in a configuration of its own
SHAPE = tuple(  # of models that start from nothing
  f"model.{name}"
  for name in ["width", "layers", "heads", "kv_heads", "head_width", "hidden", "tied", "rope_theta"]
)
NO_SUCH_KEY = (AttributeError, LookupError, TypeError, ValueError)  # what config_path raises


def load(named: str) -> ml_collections.ConfigDict:
  """Returns the configuration that NAME, NAME:SIZE, FILE.py or FILE.py:SIZE names.

  Args:
    named: one that the library has, such as "pit:tiny", or a file, and after the colon the argument
      of its `get_config`.

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
    get_config = _module(path).get_config
  except (AttributeError, ImportError, SyntaxError, UnicodeDecodeError) as error:
    problem = f"{file} has no get_config() ({str(error).splitlines()[0]})"
    raise ValueError(f"--config={named}: {problem}; {_known()}") from error

  arguments = (size,) if size else ()
  # Bound before it is called: a TypeError within get_config is not a wrong size.
  try:
    inspect.signature(get_config).bind(*arguments)
  except TypeError as error:
    todo = "has one size alone; leave the size out" if size else "wants a size, as in FILE.py:tiny"
    raise ValueError(f"--config={named}: {file} {todo}") from error

  return get_config, arguments


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
  try:
    content = yaml.safe_load(pathlib.Path(file).read_text(encoding="utf-8"))
  except (UnicodeDecodeError, yaml.YAMLError) as error:
    line = " ".join(str(error).split())
    raise ValueError(f"{file} cannot be read as YAML: {line}") from error

  if not isinstance(content, dict):
    kind = type(content).__name__
    raise ValueError(f"{file} holds {kind}; give keys with values, as in `rl.steps: 9`")
  try:
    # As text: each is read as on a command line, by the type that its key has.
    return [_set(config, argument(key, value)) for key, value in _flat(content, config)]
  except ValueError as error:
    raise ValueError(f"{file}: {error}") from error


def _flat(
  content: Mapping, config: ml_collections.ConfigDict, path: str = ""
) -> Iterator[tuple[str, Any]]:
  """Yields (key, value) of nested mappings; a list becomes a tuple where the key has one."""
  for name, value in content.items():
    key = f"{path}{name}"
    check_key(key, config)
    is_tuple = isinstance(config_path.get_value(key, config), tuple)
    if isinstance(value, Mapping):
      if is_tuple:
        pairs = ", ".join(f"[{one}, {inner}]" for one, inner in value.items())
        raise ValueError(f"{key} is a list and has no keys; give a list of pairs, as in [{pairs}]")
      yield from _flat(value, config, f"{key}.")
      continue

    yield key, _as_tuples(value) if is_tuple else value


def _as_tuples(value: Any) -> Any:
  return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _set(config: ml_collections.ConfigDict, given: str) -> str:
  """Sets the value of one argument, and returns its key."""
  key, sign, text = given.removeprefix(PREFIX).partition("=")
  check_key(key, config)
  current = config_path.get_value(key, config)
  if _has_sections(current):
    raise ValueError(
      f"{key} is a list of sections; set their keys one by one, as in {key}[0]."
      f"{list(current[0])[-1]}, or write a configuration file of your own, which has other sections"
    )
  if _is_ours(current, text):
    config_path.set_value(key, config, _literal(given, text))
    return key

  # Flags of its own: those of the process are global, and stay as they are. They are read as
  # sys.argv is, whose first element is the program. Of a whole configuration they would write all
  # keys down as text first, for each value anew; so they see one that has this value alone.
  parser = flags.FlagValues()
  alone = ml_collections.ConfigDict({ALONE: current})
  arguments = ["", f"{PREFIX}{ALONE}{sign}{text}"]
  config_flags.DEFINE_config_dict("config", alone, flag_values=parser, sys_argv=arguments)
  try:
    parser(arguments)
  except flags.Error as error:
    said = " ".join(str(error).split()).removeprefix("flag ")
    raise ValueError(said.replace(f"config.{ALONE}", f"config.{key}")) from error

  config_path.set_value(key, config, alone[ALONE])
  return key


def without_effect(config: ml_collections.ConfigDict, keys: Sequence[str]) -> list[str]:
  """Returns the keys of the models' shape that are set, and that a base model decides itself.

  Args:
    config: in which they are set.
    keys: what `change` returned.
  """
  base = config.model.base
  if base == "none" or (base == "auto" and config.data.source != "synthetic"):
    return []
  return [key for key in dict.fromkeys(keys) if key in SHAPE]


def argument(key: str, value: Any) -> str:
  """Returns the argument that sets a value, as `change` reads it."""
  return f"{PREFIX}{key}={value}"


def _is_ours(current: Any, text: str) -> bool:
  """Returns whether config_flags has no words for a value: None, and lists."""
  return isinstance(current, list) or (text == "None" and not isinstance(current, str))


def _literal(argument: str, text: str) -> Any:
  with contextlib.suppress(SyntaxError, ValueError):
    value = ast.literal_eval(text)
    if isinstance(value, list | None):
      return value

  raise ValueError(f"{argument}: {text!r} is no list; write it as in [1, 2]")


def check_key(key: str, config: ml_collections.ConfigDict) -> None:
  """Raises a ValueError for what is no key of a configuration, such as rl.stepz.

  Nor is an element of a tuple one, such as data.folds[0].
  """
  _check_is_whole(key, config)
  try:
    config_path.get_value(key, config)
  except NO_SUCH_KEY:
    keys = [path for path, _ in leaves(config)]
    near = difflib.get_close_matches(key, keys, n=3)
    hint = f"near it are {', '.join(near)}" if near else f"its sections are {', '.join(config)}"
    raise ValueError(f"{key!r} is no key of the configuration; {hint}") from None


def _check_is_whole(key: str, config: ml_collections.ConfigDict) -> None:
  """Raises a ValueError where a key names an element of a tuple, which cannot be set."""
  path, dot, name = key.rpartition(".")
  name, bracket, _ = name.partition("[")
  if not bracket:
    return

  whole = f"{path}{dot}{name}"
  value = None
  with contextlib.suppress(*NO_SUCH_KEY):
    value = config_path.get_value(whole, config)
  if _has_sections(value):
    raise ValueError(
      f"{key} is a section; set its keys one by one, as in {whole}[0].{list(value[0])[-1]}"
    )
  if isinstance(value, tuple):
    raise ValueError(
      f"{key} is an element of a tuple, and those are given as a whole; set {whole}, which is "
      f"{value!r}"
    )


def _has_sections(value: Any) -> bool:
  return isinstance(value, tuple | list) and any(hasattr(one, "keys") for one in value)


def leaves(tree: Any, path: str = "") -> list[tuple[str, Any]]:
  """Returns (key, value) of everything that a configuration holds, nested ones by their path."""
  if isinstance(tree, ml_collections.ConfigDict):
    return [leaf for key in tree for leaf in leaves(tree.get_ref(key).get(), f"{path}.{key}")]
  return [(path.removeprefix("."), tree)]


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
  return sorted({path.stem for path in SHIPPED.glob("*.py")} - {"__init__", "common"})


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
