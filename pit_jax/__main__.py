"""The command `pit COMMAND …`; `python -m pit_jax COMMAND …` is the same.

Each command is a file of `pit_jax/commands`, whose docstring explains it.
"""

import ast
import importlib
import pathlib
import sys
import textwrap
from collections.abc import Sequence

import pit_jax
from pit_jax import terminal

WIDTH = 80  # columns
ROOM = pathlib.Path(__file__).resolve().parent / "commands"


def names() -> list[str]:
  """Returns the names of the commands."""
  return sorted(path.stem for path in ROOM.glob("*.py") if path.stem != "__init__")


def summary(name: str) -> str:
  """Returns the first sentence of what explains a command, without importing it."""
  tree = ast.parse((ROOM / f"{name}.py").read_text(encoding="utf-8"))
  return ast.get_docstring(tree).splitlines()[0]


def _line(name: str) -> str:
  """Returns the name of a command and what it does, no wider than a terminal."""
  return textwrap.fill(
    summary(name), WIDTH, initial_indent=f"  {name:10}", subsequent_indent=" " * 12
  )


@terminal.command
def main(arguments: Sequence[str]) -> None:
  """Runs the command that the first argument names."""
  name = arguments[0] if arguments else "--help"
  if name in ("-h", "--help"):
    listed = [_line(command) for command in names()]
    print("\n".join(["usage: pit COMMAND …      pit COMMAND --help explains it", "", *listed]))
    return
  if name == "--version":
    print(pit_jax.__version__)
    return
  if name not in names():
    raise ValueError(f"there is no command {name!r}; use one of {', '.join(names())}")

  # What explains the options names the command by it.
  sys.argv = [f"pit {name}", *arguments[1:]]
  importlib.import_module(f"pit_jax.commands.{name}").main()


if __name__ == "__main__":
  main()
