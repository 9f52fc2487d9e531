"""What the comments in a configuration's file say of its keys."""

import ast
import inspect
import io
import pathlib
import tokenize
import types
from collections.abc import Callable, Iterator

Keys = dict[str, str]  # path of a key, from the section that holds it → its comment
IN_TUPLE = "[]"  # in the place of an index: the sections of a tuple have the same keys


def keys_of(function: Callable) -> Keys:
  """Returns the keys of the section that a function makes and returns, with their comments.

  The function is read and not run. Sections that it takes from functions of other configurations'
  files, or hands to them, are followed there.

  Args:
    function: such as `get_config`.
  """
  return _Reading(function).returned


class _Reading:
  """A function as its source has it.

  Attributes:
    parameters: the names of its parameters.
    sections: local name → the keys of the section that it holds.
    returned: the keys of the section that is returned.
  """

  def __init__(self, function: Callable):
    self._function = inspect.unwrap(function)  # a decorator has another file
    text = pathlib.Path(self._function.__code__.co_filename).read_text(encoding="utf-8")
    self._comments = Comments(text)
    definition = next(
      node
      for node in ast.parse(text).body
      if isinstance(node, ast.FunctionDef) and node.name == self._function.__name__
    )
    self.parameters = [argument.arg for argument in definition.args.args]
    self.sections: dict[str, Keys] = {name: {} for name in self.parameters}
    self.returned: Keys = {}

    # Statements of the function itself: what stands within an `if` sets values.
    for statement in definition.body:
      self._read(statement)

  def _read(self, statement: ast.stmt) -> None:
    if isinstance(statement, ast.Return) and statement.value is not None:
      self.returned = self._section(statement.value)
    elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
      self._hand_over(statement.value)
    elif isinstance(statement, ast.Assign):
      for target in _targets(statement.targets):
        self._assign(target, statement)

  def _assign(self, target: ast.expr, statement: ast.Assign) -> None:
    if isinstance(target, ast.Name):
      self.sections[target.id] = self._section(statement.value)
      return
    name, *path = _path(target)
    if name not in self.sections:
      return

    made = self._within(statement.value)
    if made:
      key = ".".join(path)
      self.sections[name] |= {f"{key}{inner}": comment for inner, comment in made.items()}
    elif comment := self._comments.of(statement):
      keys = self.sections[name]
      key = ".".join(path)
      # What lies deeper was made with its section, and here has another value.
      keys[key] = keys.get(key, comment) if len(path) > 1 else comment

  def _within(self, value: ast.expr) -> Keys:
    """Returns the keys inside a value, each with what stands before it: a dot, or a tuple's []."""
    if isinstance(value, ast.Tuple | ast.List):
      inside = {key: comment for one in value.elts for key, comment in self._section(one).items()}
      return {f"{IN_TUPLE}.{key}": comment for key, comment in inside.items()}
    return {f".{key}": comment for key, comment in self._section(value).items()}

  def _section(self, value: ast.expr) -> Keys:
    """Returns the keys of a section: of a local name, or of what another function makes."""
    if isinstance(value, ast.Name):
      return dict(self.sections.get(value.id, {}))
    if not isinstance(value, ast.Call):
      return {}
    if called := self._called(value):
      return keys_of(called)
    # A method of a section, such as lock(), returns the section.
    inner = value.func.value if isinstance(value.func, ast.Attribute) else None
    return self._section(inner) if inner is not None else {}

  def _hand_over(self, call: ast.Call) -> None:
    """Reads what a function makes in a section that it is given."""
    called = self._called(call)
    if called is None:
      return
    reading = _Reading(called)
    for parameter, argument in zip(reading.parameters, call.args, strict=False):
      if isinstance(argument, ast.Name) and argument.id in self.sections:
        mine = self.sections[argument.id]
        self.sections[argument.id] = reading.sections[parameter] | mine

  def _called(self, call: ast.Call) -> Callable | None:
    """Returns the function that is called, where it belongs to the files of configurations."""
    names = self._function.__globals__
    if isinstance(call.func, ast.Name):
      found = names.get(call.func.id)
    elif isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name):
      found = getattr(names.get(call.func.value.id), call.func.attr, None)
    else:
      found = None

    if not isinstance(found, types.FunctionType):
      return None
    called = inspect.unwrap(found)
    return called if _is_of_a_configuration(called, self._function) else None


class Comments:
  """The comments of a Python file, by the lines that they are about."""

  def __init__(self, text: str):
    self._beside: dict[int, str] = {}
    self._alone: dict[int, str] = {}
    code: set[int] = set()
    blank = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
      line = token.start[0]
      if token.type == tokenize.COMMENT:
        kept = self._beside if line in code else self._alone
        kept[line] = token.string.lstrip("# ").rstrip()
      elif token.type not in blank:
        code |= {*range(line, token.end[0] + 1)}

  def of(self, node: ast.AST) -> str:
    """Returns what is said above a statement or a value, and then beside and within it."""
    lines = range(node.lineno, node.end_lineno + 1)
    beside = [kept[line] for line in lines for kept in (self._beside, self._alone) if line in kept]
    return " ".join(filter(None, [self.above(node), *beside]))

  def above(self, node: ast.AST) -> str:
    """Returns what is said above a statement or a value, without a blank line between."""
    first = node.lineno
    while first - 1 in self._alone:
      first -= 1
    return " ".join(self._alone[line] for line in range(first, node.lineno))


def _targets(targets: list[ast.expr]) -> Iterator[ast.expr]:
  for target in targets:
    if isinstance(target, ast.Tuple):
      yield from _targets(target.elts)
    elif isinstance(target, ast.Name) or _path(target):
      yield target


def _path(target: ast.expr) -> list[str]:
  """Returns the names of `config.data.rows`; none of what is no such chain."""
  if isinstance(target, ast.Name):
    return [target.id]
  if isinstance(target, ast.Attribute):
    before = _path(target.value)
    return [*before, target.attr] if before else []
  return []


def _is_of_a_configuration(function: types.FunctionType, caller: Callable) -> bool:
  """Returns whether a function is of the shipped configurations, or of a file beside the caller."""
  folders = [pathlib.Path(one.__code__.co_filename).parent for one in (function, caller)]
  return "configs" in function.__module__.split(".") or folders[0] == folders[1]
