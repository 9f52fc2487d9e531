"""Every import is declared: what the code imports, setup.py installs by its own name.

A library that comes only because another one asks for it goes when the other one stops asking.
"""

import ast
import functools
import importlib.metadata
import pathlib
import re
import runpy
import sys

import pytest
import setuptools

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDERS = ("pit_jax", "configs", "docs", "examples", "launch", "tests")

# Imports that only an extra brings, in code that says so where it is absent.
EXTRAS = {
  "fastapi": "parity",
  "fsspec": "gcs",
  "gcsfs": "gcs",
  "google-cloud-storage": "gcs",
  "jax[cuda12]": "cuda",
  "jax[tpu]": "tpu",
  "mkdocs-jupyter": "docs",
  "nbclient": "docs",
  "nbformat": "docs",
  "openai": "judge",
  "optuna": "sweep",
  "peft": "parity",
  "sqlalchemy": "sweep",
  "torch": "torch",
  "trl": "parity",
  "uvicorn": "parity",
  "wandb": "wandb",
}
# Distributions of modules that need not be installed here, or that several distributions share.
NAMED = {"google": "google-cloud-storage", "libtpu": "jax[tpu]"}
BY_NAME = ("import_module", "importorskip", "find_spec")  # functions that take a module's name


def normal(distribution: str) -> str:
  """Returns a distribution's name as indexes compare it."""
  return re.sub(r"[-_.]+", "-", distribution).lower()


def required(lines: list[str]) -> set[str]:
  """Returns the distributions that requirements name, without their versions."""
  return {normal(re.match(r"[\w.-]+(\[\w+\])?", line).group()) for line in lines}


@pytest.fixture(scope="module")
def declared() -> dict[str, set[str]]:
  """Returns extra → the distributions that it installs; "" is the base."""
  told = {}
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(setuptools, "setup", lambda **given: told.update(given))
    runpy.run_path(str(ROOT / "setup.py"))
  return {"": required(told["install_requires"])} | {
    extra: required(lines) for extra, lines in told["extras_require"].items()
  }


def modules(tree: ast.AST) -> set[str]:
  """Returns the top-level modules that code imports, by statement or by a literal name."""
  found = set()
  for node in ast.walk(tree):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom) and not node.level:
      found.add(node.module)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
      found |= {given.value for given in node.args[:1] if isinstance(given, ast.Constant)}
  return {module.split(".")[0] for module in found}


installed = functools.cache(importlib.metadata.packages_distributions)


def distributions(module: str) -> set[str]:
  """Returns the distributions that a module comes from; one that is absent has its own name."""
  names = installed().get(module, [module])
  return {NAMED[module]} if module in NAMED else set(map(normal, names))


def undeclared(path: pathlib.Path, declared: dict[str, set[str]]) -> list[str]:
  """Returns the foreign modules of a file that neither the base nor an extra brings."""
  own = {*FOLDERS, *(file.stem for file in path.parent.glob("*.py"))}
  is_test = ROOT / "tests" in path.parents
  missing = []
  for module in sorted(modules(ast.parse(path.read_text(encoding="utf-8")))):
    if module in sys.stdlib_module_names or module in own:
      continue
    allowed = set(declared[""])
    allowed |= {name for name, extra in EXTRAS.items() if name in declared[extra]}
    allowed |= declared["test"] if is_test else set()
    if not distributions(module) & allowed:
      missing.append(module)
  return missing


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_declared(folder, declared):
  files = sorted((ROOT / folder).rglob("*.py"))
  missing = {str(path.relative_to(ROOT)): undeclared(path, declared) for path in files}
  assert files and {name: found for name, found in missing.items() if found} == {}


@pytest.mark.parametrize("distribution", sorted(EXTRAS))
def test_what_an_extra_brings_is_in_it_and_not_in_the_base(distribution, declared):
  assert distribution in declared[EXTRAS[distribution]]
  assert distribution not in declared[""]


def test_the_check_sees_what_it_is_for(tmp_path, declared):
  path = tmp_path / "module.py"
  path.write_text(
    "import os, numpy.linalg\nfrom . import other\nfrom yaml import safe_load\n"
    "def late():\n  import nobody_declares_it.inner\n  importlib.import_module('nor_this')\n"
    "import pytest\n"
  )
  assert undeclared(path, declared) == ["nobody_declares_it", "nor_this", "pytest"]
  assert required(["google-cloud-storage>=3", "jax[tpu]>=0.10", "array_record<1"]) == {
    "google-cloud-storage",
    "jax[tpu]",
    "array-record",
  }
