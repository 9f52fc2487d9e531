"""Writes the pages of docs/reference that the code itself says: python docs/generate.py

A test compares them with what is committed.
"""

import ast
import contextlib
import importlib
import inspect
import io
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from unittest import mock

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import pit_jax  # noqa: E402
from pit_jax import __main__ as cli  # noqa: E402
from pit_jax import comments, configurations  # noqa: E402
from pit_jax.configs import common  # noqa: E402
from pit_jax.data import conversations, published, rows, schemas  # noqa: E402
from pit_jax.tools import keys  # noqa: E402

SCHEMAS = ("Schema", "_compared", "_given")  # what makes one in data/published.py
RECIPES = (
  "pit",
  "dpo",
  "rlaif",
  "irft",
  "rft",
  "salmon",
  "ser",
  "hrlaif",
  "cot",
  "ares",
  "instructors",
  "srt",
  "multicritique",
  "base",
  "bandit",
  "rlaif_alpaca",
  "salmon_chat",
  "pit_critique",
  "own_pairs",
  "pit_instructions",
)  # whose configurations have every key together
MADE = "<!-- Made by docs/generate.py: change the code that it reads, and run it again. -->\n"
SUBCOMMANDS = {"convert": ("import", "export")}
WIDTH = "100"  # characters of a line of help


def pages() -> dict[str, str]:
  """Returns file name below docs/reference → its text."""
  made = {"config.md": config, "fields.md": fields, "commands.md": helps, "python.md": python}
  return {name: f"{MADE}\n{page().rstrip()}\n" for name, page in made.items()}


def config() -> str:
  """Returns every key of every shipped configuration."""
  sections: dict[str, list[str]] = {}
  known: set[str] = set()
  for recipe in RECIPES:
    module = importlib.import_module(f"pit_jax.configs.{recipe}")
    by_size = {
      size: {key.key: key for key in keys.described(f"configs/{recipe}.py:{size}")}
      for size in getattr(module, "SIZES", common.SIZES)
    }
    # Some sizes have sections that others have not.
    every = {key: one for keys_of in reversed(by_size.values()) for key, one in keys_of.items()}
    for key, described in every.items():
      section = key.split(".")[0].split("[")[0] if "." in key else ""
      # A section of a recipe's name has the values of that recipe.
      if key in known or section in {*RECIPES} - {recipe}:
        continue
      known.add(key)
      values = {size: keys_of[key].value for size, keys_of in by_size.items() if key in keys_of}
      row = _row(f"`{key}`", _values(values), _meaning(described))
      sections.setdefault(section, []).append(row)

  text = """# Configuration keys

`--config.KEY=VALUE` sets a key in every command that takes a configuration, `--values=FILE.yaml`
many of them. `pit config pit:tiny` prints the keys of one configuration as they are here, `pit
config --diff pit:tiny pit:1b` what differs between two.

A recipe has only the sections that it uses: `pit` its curriculum, reward models and RL; `rlhf` no
`gap_reward` and no `curriculum`; `reward` those of reward models; `dpo` its own and `sft`; `rlaif`
and `irft` these, `rft`, `salmon` and `hrlaif` those of `rlhf`, and all five their own, and
`feedback`, whose names are anybody's choice ([writers and raters](../feedback.md)); `ser` those of
`rlhf`, `gap_reward` and its own; `srt` those of `dpo` and its own; `cot` `sft`, `dpo`, `reward` and
its own; `ares` `sft`, `correct`, `rl` and its own; `instructors` two of `sft`, `feedback` and its
own; `multicritique` those of `rlhf` and its own; `base`, `bandit` and `own_pairs` their
own. Values are those of
`pit`, else of the first of the others that has the key, in the order {recipes}; where they depend
on the size, all are named.
"""
  # After the one of which most are.
  text = text.replace("{recipes}", ", ".join(f"`{name}`" for name in RECIPES[1:]))
  text += f"\n## Shipped configurations\n\n{''.join(_shipped())}"
  head = "| key | value | meaning |\n|---|---|---|\n"
  for section in sorted(sections):
    title = section or "Of the whole run"
    text += f"\n## {title}\n\n{head}{''.join(sections[section])}"
  return text


def _shipped() -> Iterator[str]:
  """Yields a line for each shipped configuration: its sizes, and what it says of itself."""
  for name in configurations.names():
    module = importlib.import_module(f"pit_jax.configs.{name}")
    default = inspect.signature(module.get_config).parameters["size"].default
    sizes = [f"`{name}:{size}`" for size in getattr(module, "SIZES", common.SIZES)]
    what = inspect.getdoc(module).partition("\n")[0]
    yield f"- {', '.join(sizes)}; `{name}` alone is `{default}`. {what}\n"


def _values(by_size: Mapping[str, Any]) -> str:
  """Returns the values of a key, those of several sizes together where they are equal."""
  sizes: dict[str, list[str]] = {}
  for size, value in by_size.items():
    sizes.setdefault(_code(value), []).append(size)
  if len(sizes) == 1:
    return next(iter(sizes))
  return "; ".join(f"{', '.join(names)}: {value}" for value, names in sizes.items())


def _meaning(key: keys.Key) -> str:
  return f"{key.meaning.rstrip('.')}. *{key.range}*" if key.range else key.meaning


def _code(value: Any) -> str:
  return f"`{value!r}`"


def _row(*cells: str) -> str:
  escaped = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
  return f"| {' | '.join(escaped)} |\n"


def _code_list(names: Sequence[str]) -> str:
  return ", ".join(f"`{name}`" for name in names)


def _pairs(columns: Sequence[str]) -> list[list[str]]:
  """Returns the two columns that each name stands for."""
  return [[column.format(side) for side in rows.SIDES] for column in columns]


def fields() -> str:
  """Returns every shape of rows that is read."""
  text = """# Accepted fields

Rows are recognised by their columns, or named as `data.schema`. The standard ones: [bring data of
your own](../howto/own_data.md).

Of two responses the one that the fourth column names is preferred. `pit doctor` says which shape it
took the rows for, and shows one of them.

| `data.schema` | columns | read too, where they are there | preferred | published as |
|---|---|---|---|---|
"""
  source = pathlib.Path(published.__file__).read_text(encoding="utf-8")
  told = comments.Comments(source)
  nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
  names = {
    node.args[0].value: told.above(node)
    for node in nodes
    if getattr(node.func, "id", "") in SCHEMAS and isinstance(node.args[0], ast.Constant)
  }
  for schema in published.SCHEMAS:
    has_to_be_named = "" if schema.is_detected else " (has to be named)"
    text += _row(
      f"`{schema.name}`{has_to_be_named}",
      ". ".join(filter(None, [_code_list(schema.columns), schema.inside])),
      _code_list(schema.optional),
      schema.preferred,
      ". ".join(filter(None, [names[schema.name].rstrip("."), schema.remark])),
    )

  text += "\n## Further columns\n\n| columns | hold |\n|---|---|\n"
  for pairs, what in (
    (_pairs(rows.WRITERS), "who wrote the chosen and the rejected response"),
    (_pairs(rows.SCORES), "what annotators gave the two, more being better"),
  ):
    text += _row("; ".join(f"`{a}`, `{b}`" for a, b in pairs), what)
  text += _row(", ".join(f"`{name}`" for name in schemas.SYSTEM), "what the system says first")
  roles = ", ".join(f"`{name}`: {role}" for name, role in conversations.ROLES.items())
  return f"{text}\n## Roles of messages\n\n{roles}.\n"


def helps() -> str:
  """Returns the help of every command."""
  text = (
    "# Commands\n\nFrom a checkout `python -m pit_jax NAME` is `pit NAME`, and so is "
    "`python launch/NAME.py` of those that lie there.\n"
  )
  for name in cli.names():
    main = importlib.import_module(f"pit_jax.commands.{name}").main
    text += f"\n## pit {name}\n"
    for words in ((), *((word,) for word in SUBCOMMANDS.get(name, ()))):
      text += f"\n```text\n{_help(main, name, words)}```\n"
  return text


def _help(main: Callable, name: str, words: tuple[str, ...]) -> str:
  """Returns what a command prints of itself."""
  printed = io.StringIO()
  with (
    mock.patch.dict(os.environ, COLUMNS=WIDTH),
    mock.patch.object(sys, "argv", [f"pit {name}"]),
    contextlib.redirect_stdout(printed),
    contextlib.suppress(SystemExit),
  ):
    main([*words, "--help"])
  return printed.getvalue()


def python() -> str:
  """Returns the names that `pit_jax` itself has, with their docstrings."""
  text = "# Python\n\n```python\nimport pit_jax\n```\n\n"
  text += (
    "A configuration of `get_config` is changed by its attributes, or as on a command line by\n"
    "[`pit_jax.configurations.change`](../howto/configurations.md#in-python).\n"
  )
  for name in pit_jax.__all__:
    thing = getattr(pit_jax, name)
    text += f"\n## {name}\n\n{_described(f'pit_jax.{name}', thing)}"
    if inspect.isclass(thing):
      for method, function in _methods(thing):
        text += f"\n### {name}.{method}\n\n{_described(f'{name}.{method}', function)}"
  return text


def _methods(thing: type) -> Iterator[tuple[str, Any]]:
  """Yields the public methods and properties of a class, in the order of its source."""
  for name, attribute in vars(thing).items():
    found = attribute if isinstance(attribute, property) else getattr(thing, name)
    is_told = isinstance(found, property) or inspect.isfunction(found) or inspect.ismethod(found)
    if not name.startswith("_") and is_told and found.__doc__:
      yield name, found


def _described(name: str, thing: Any) -> str:
  """Returns signature and docstring as Markdown."""
  # A class's own docstring says what it holds, that of __init__ what it takes.
  docstrings = [thing.__doc__, thing.__init__.__doc__ if inspect.isclass(thing) else ""]
  parts = [_markdown(inspect.cleandoc(text)) for text in docstrings if text]
  return f"```text\n{_wrapped(_signature(name, thing))}\n```\n\n" + "\n".join(parts)


def _signature(name: str, thing: Any) -> str:
  """Returns how a thing is called; its annotations without the quotes that Python keeps."""
  if isinstance(thing, property):
    text = f"{name}: {inspect.signature(thing.fget).return_annotation!r}"
  else:
    text = re.sub(r"\(self(, )?", "(", f"{name}{inspect.signature(thing)}")
  return re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)


def _wrapped(signature: str) -> str:
  """Returns a signature with one argument per line where it is long."""
  if len(signature) <= int(WIDTH):
    return signature
  head, _, rest = signature.partition("(")
  arguments, _, returned = rest.rpartition(")")
  lines = [f"  {argument.strip()}," for argument in _split(arguments)]
  return "\n".join([f"{head}(", *lines, f"){returned}"])


def _split(arguments: str) -> Iterator[str]:
  """Yields what commas divide outside of brackets."""
  depth = 0
  begun = 0
  for index, sign in enumerate(arguments):
    depth += (sign in "([") - (sign in ")]")
    if sign == "," and depth == 0:
      yield arguments[begun:index]
      begun = index + 1
  yield arguments[begun:]


def _markdown(docstring: str) -> str:
  """Returns a docstring whose sections (Args, Returns, …) are lists."""
  lines = []
  section = ""
  for line in docstring.splitlines():
    if line in ("Args:", "Returns:", "Raises:", "Attributes:"):
      section = line
      lines += [f"**{line.rstrip(':')}**", ""]
    elif not section or not line.strip():
      lines.append(line)
    elif line.startswith("  ") and not line.startswith("    "):
      name, colon, text = line.strip().partition(": ")
      lines.append(f"- `{name}`: {text}" if colon else f"- {line.strip()}")
    else:
      lines.append(f"  {line.strip()}")
  return "\n".join(lines) + "\n"


def main() -> None:
  """Writes the pages."""
  for name, text in pages().items():
    (ROOT / "docs" / "reference" / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
  main()
