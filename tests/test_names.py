"""No method's name stands outside recipes/ and configs/: what is about one, its recipe says.

Searched are the names that the recipes themselves declare: their own, and those of their stages
and systems. What a user types and the README shows lies in configs/, commands/, docs/ and
README.md, which may name a recipe; the rest of pit_jax/ may not. Free are the name of the project,
of its command (`pit train`) and of its configurations (`pit:tiny`); HH-RLHF, which is a dataset; a
recipe that is called as its kind of job is; and single words that are names by chance, such as
"reward": of these only a string that is the whole name of a stage or a system counts, and not
where the same word names a section of a configuration, a kind of job, an exported model, or the
data's own responses.
"""

import ast
import pathlib
import re

import pytest
import tiny_run

from pit_jax import __main__
from pit_jax.exchange import export
from pit_jax.recipes import recipe as recipes
from pit_jax.run import kinds

PACKAGE = pathlib.Path(__file__).resolve().parent.parent / "pit_jax"
ORDINARY = {"base", "reward"}  # recipes whose names are words of the field
# Folders of a workdir, which is a contract with its users, have names of their own.
FOLDERS = {"references"}


def declared() -> tuple[set[str], set[str]]:
  """Returns the names of recipes, and those of their stages and systems."""
  names, parts, common = set(recipes.names()), set(), {*export.NAMES, "chosen", "rejected"}
  for name in names:
    recipe, config = recipes.named(name), tiny_run.config(name).unlock()
    for key, value in {"ablations": True, "data.judge": 0.4}.items():
      if key.split(".")[0] in config:
        config.update_from_flattened_dict({key: value})
    parts |= {stage.name for stage in recipe.stages(config)} | {*recipe.page.systems}
    parts |= {*(recipe.headline or ())}
    common |= {*kinds.sections(config), *config.get("evaluation", ()), *recipe.kinds}
  return names - ORDINARY - common, parts - common - FOLDERS


RECIPES, PARTS = declared()
OUTSIDE = {PACKAGE / name for name in ("__main__.py", "recipes", "commands", "configs")}
FILES = [
  path
  for path in sorted(PACKAGE.rglob("*"))
  if path.suffix in (".py", ".jinja", ".css", ".js") and not OUTSIDE & {path, *path.parents}
]
# The names of the project, of its command and of its configurations, and a dataset.
FREE = rf"pit_jax|HH-RLHF|\bpit (?:{'|'.join(__main__.names())}|NAME|COMMAND)\b|\bpit:\w+|\"pit \""


def strings(text: str) -> list[str]:
  """Returns every string of a Python file, docstrings and the texts of f-strings among them."""
  nodes = ast.walk(ast.parse(text))
  return [n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)]


def found(path: pathlib.Path, text: str) -> set[str]:
  """Returns the names of methods in a file."""
  plain = re.sub(FREE, "", text)
  words = {word.lower() for word in re.findall(r"\w+", plain)}
  said = strings(text) if path.suffix == ".py" else [text]
  compound = {name for name in PARTS if "_" in name}
  tokens = {token for string in said for token in re.findall(r"\w+", string)}
  return (RECIPES & words) | (compound & tokens) | (PARTS & {*said})


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_method_is_named_outside_its_recipe(path):
  assert found(path, path.read_text(encoding="utf-8")) == set()


def test_the_check_sees_what_it_is_for():
  assert {*recipes.names()} - RECIPES == {"base", "dpo", "reward"}  # words of the field
  assert {"original", "policy_sft", "pit_rounds", "sft_improver", "rl_policy"} <= PARTS
  for text, names in (
    ("# as in PIT", {"pit"}),
    ("# see `pit train` and pit:tiny", set()),
    ("# pit trains", {"pit"}),
    ("x = 'R_PIT'  # a network of PIT", {"pit"}),
    ("from pit_jax import hosts  # reads HH-RLHF", set()),
    ("'''Trains rl_policy.'''", {"rl_policy"}),
    ("x = f'{y} of original'", set()),
    ("x = {'original': 1}", {"original"}),
    ("x = 'reward'", set()),
  ):
    assert found(pathlib.Path("some.py"), text) == names
