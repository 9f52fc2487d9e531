"""YAML files of values: which keys they set, where each stands, and what it says."""

import pathlib
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import yaml

from pit_jax import config_keys, utf8

TAG = "tag:yaml.org,2002:"  # before the names of YAML's own types
NAMES = {"seq": "a list", "str": "a text", "bool": "True or False"}  # of types, in words
UNREADABLE = (RecursionError, ValueError, yaml.YAMLError)  # ValueError: dates, other encodings


class Given(NamedTuple):
  """A value in a file.

  Attributes:
    key: with the sections that it is in, such as rl.steps.
    line: where the value stands, counted from 1.
    kind: YAML's name of its type: str, int, float, bool, null, timestamp, seq, …
    text: as it is written, without quotes; "" of a list.
    value: what it is.
  """

  key: str
  line: int
  kind: str
  text: str
  value: Any


def read(file: str) -> list[Given]:
  """Returns what a file sets, in its order.

  Args:
    file: sections of keys, or keys with dots, and their values.

  Raises:
    ValueError: it is no YAML, or no mapping, holds a key twice, a section without keys, or what is
      within itself.
  """
  try:
    loader = yaml.SafeLoader(pathlib.Path(file).read_text(encoding="utf-8"))
    root = loader.get_single_node()
  except UNREADABLE as error:
    raise ValueError(_unreadable(file, error)) from error

  if not isinstance(root, yaml.MappingNode):
    kind = "nothing" if root is None else NAMES.get(_kind(root), _kind(root))
    raise ValueError(f"{file} holds {kind}; give keys with values, as in `rl.steps: 9`")
  try:
    _check(root, file, ())
    given = list(_given(root, loader, file, ""))
  except UNREADABLE as error:
    if isinstance(error, ValueError) and str(error).startswith(file):
      raise
    raise ValueError(_unreadable(file, error)) from error

  first: dict[str, int] = {}
  for one in given:  # `rl: {steps: 3}` and `rl.steps: 4` are the same key
    if one.key in first:
      raise ValueError(_twice(file, one.line, one.key, first[one.key]))
    first[one.key] = one.line

  return given


def written(given: Given, current: Any) -> str:
  """Returns a value as a command line has it, for a key whose value is of a type.

  Args:
    given: the value.
    current: what the key is set to now.

  Raises:
    ValueError: the key wants a text, and the value is none; or a value is missing.
  """
  is_none = given.kind == "null" and not config_keys.is_optional(given.key)
  if is_none and isinstance(current, str):
    raise ValueError(f'{given.key} holds no value; write "" for an empty text')
  if isinstance(current, str):
    if given.kind in ("bool", "seq"):
      what = given.text or str(given.value)
      advice = f'write it in quotes, "{what}"' if given.kind == "bool" else "give one"
      kind = NAMES[given.kind]
      raise ValueError(f"{given.key}: {what} is {kind}, and the key wants a text; {advice}")
    return str(None) if given.kind == "null" else given.text

  return str(_as_tuples(given.value) if isinstance(current, tuple) else given.value)


def _check(node: yaml.Node, file: str, within: Sequence[yaml.Node]) -> None:
  """Refuses what YAML lets pass: a key that stands twice, and what is within itself."""
  if any(node is outer for outer in within):
    raise ValueError(f"{file}, line {_line(node)}: what stands here is within itself; write it out")
  if isinstance(node, yaml.SequenceNode):
    for one in node.value:
      _check(one, file, [*within, node])
  if not isinstance(node, yaml.MappingNode):
    return

  first: dict[str, int] = {}
  for key, value in node.value:
    line = _line(key)
    if not isinstance(key, yaml.ScalarNode):
      raise ValueError(f"{file}, line {line}: a key has to be a name, such as rl.steps")
    if key.value in first:
      raise ValueError(_twice(file, line, key.value, first[key.value]))
    first[key.value] = line
    _check(value, file, [*within, node])


def _given(
  section: yaml.MappingNode, loader: yaml.SafeLoader, file: str, prefix: str
) -> Iterator[Given]:
  # Writes out what << takes over, before the section's own keys, which count.
  loader.flatten_mapping(section)
  for name, node in {name.value: node for name, node in section.value}.items():
    key = f"{prefix}{name}"
    if isinstance(node, yaml.MappingNode):
      if not node.value:
        at = f"{file}, line {_line(node)}"
        raise ValueError(f"{at}: {key} holds no key; give some, or leave it out")
      yield from _given(node, loader, file, f"{key}.")
      continue

    text = node.value if isinstance(node, yaml.ScalarNode) else ""
    yield Given(key, _line(node), _kind(node), text, loader.construct_document(node))


def _kind(node: yaml.Node) -> str:
  return node.tag.removeprefix(TAG)


def _line(node: yaml.Node) -> int:
  return node.start_mark.line + 1


def _as_tuples(value: Any) -> Any:
  return tuple(map(_as_tuples, value)) if isinstance(value, list) else value


def _twice(file: str, line: int, key: str, first: int) -> str:
  return f"{file}, line {line}: {key} stands in line {first} already; leave one out"


def _unreadable(file: str, error: Exception) -> str:
  if isinstance(error, UnicodeDecodeError):
    return f"{file}: {utf8.told(error)}"
  line = " ".join(str(error).split())
  return f"{file} cannot be read as YAML: {line}"
