"""Manners of the house that a machine can check: who knows whom, purity, size."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pit_jax"

# The rooms, each of which knows those above it. Single files of the package are rooms, too.
LAYERS = (
  "types",
  "hosts",
  "compiling",
  "heap",
  "progress",
  "lfs",
  "utf8",
  "terminal",
  "comments",
  "config_keys",
  "value_files",
  "configurations",
  "ranges",
  "arguments",
  "layout",
  "statistics",
  "losses",
  "tasks",
  "storage",
  "report",
  "data",
  "models",
  "costs",
  "training",
  "parallel",
  "rollout",
  "improve",
  "exchange",
  "run",
  "feedback",
  "stages",
  "evaluate",
  "recipes",
  "api",
  "tools",
  "commands",
  "launch",
)
HOST_FILES = {"rollout/experience.py"}  # in rooms that are pure otherwise
IMPURE_MODULES = {"time", "datetime", "random", "os", "logging", "absl", "ml_collections"}
# Host libraries that take a second or more to import; nothing needs them before they are used.
SLOW_MODULES = {
  "tensorflow_datasets",
  "tensorflow",
  "torch",
  "wandb",
  "openai",
  "evalica",
  "pandas",
  "libtpu",
}


def python_files(*folders: str) -> list[pathlib.Path]:
  return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def name(path: pathlib.Path) -> str:
  return path.relative_to(ROOT).as_posix()


def parse(path: pathlib.Path) -> ast.Module:
  return ast.parse(path.read_text(encoding="utf-8"))


def room(module: str) -> str:
  """Returns the room of `pit_jax.losses.gap` or `launch.train`: losses, launch."""
  parts = module.split(".")
  return "".join(parts[1:2]) if parts[0] == "pit_jax" else parts[0]


def module_of(path: pathlib.Path) -> str:
  return name(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imported(nodes) -> list[tuple[str, ast.AST]]:
  """Returns (module.name, node) for everything that some statements import."""
  found = []
  for node in nodes:
    if isinstance(node, ast.Import):
      found += [(alias.name, node) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      found += [(f"{node.module}.{alias.name}", node) for alias in node.names]
  return found


def is_module(dotted: str) -> bool:
  path = ROOT / dotted.replace(".", "/")
  return path.with_suffix(".py").is_file() or path.is_dir()


def code_lines(path: pathlib.Path) -> int:
  """Returns how many lines of a file are neither blank nor comments alone."""
  lines = map(str.strip, path.read_text(encoding="utf-8").splitlines())
  return sum(bool(line) and not line.startswith("#") for line in lines)


PURE = [
  path
  for path in python_files("pit_jax")
  if path.parent.name in ("models", "losses", "rollout") or path.match("training/step.py")
  if path.relative_to(PACKAGE).as_posix() not in HOST_FILES
]
DOORS = {PACKAGE / "__init__.py", PACKAGE / "__main__.py"}  # they know all that is offered
LIBRARY = python_files("pit_jax", "launch", "configs")


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_rooms_know_only_the_rooms_above_them(path):
  if ROOT / "configs" in path.parents:
    allowed = {"configs"}
  elif path in DOORS:
    allowed = {*LAYERS, ""}
  else:
    here = room(module_of(path))
    assert here in LAYERS, f"{here} is a new room; give it its place in LAYERS"
    allowed = {*LAYERS[: LAYERS.index(here) + 1]}
  for module, node in imported(ast.walk(parse(path))):
    if module.split(".")[0] == "pit_jax" and module != "pit_jax.__version__":
      assert room(module) in allowed, f"line {node.lineno} imports {module}, which is further down"


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_modules_are_imported_not_names(path):
  for module, node in imported(ast.walk(parse(path))):
    if not isinstance(node, ast.ImportFrom) or not module.startswith("pit_jax."):
      continue
    assert node.level == 0, f"line {node.lineno}: write the import out, from pit_jax"
    if path in DOORS:
      continue
    is_alphabet = module.startswith("pit_jax.types.") or module == "pit_jax.__version__"
    assert is_alphabet or is_module(module), f"line {node.lineno}: {module} is not a module"


@pytest.mark.parametrize("path", LIBRARY, ids=name)
def test_nothing_slow_is_imported_at_start_up(path):
  for module, node in imported(parse(path).body):
    assert module.split(".")[0] not in SLOW_MODULES, f"line {node.lineno} imports {module}"


@pytest.mark.parametrize("path", PURE, ids=name)
def test_pure_files_are_pure(path):
  tree = parse(path)
  for module, node in imported(ast.walk(tree)):
    is_pure = module.split(".")[0] not in IMPURE_MODULES and not module.startswith("numpy.random")
    assert is_pure, f"line {node.lineno} imports {module}"
  for node in ast.walk(tree):
    if isinstance(node, ast.Call):
      called = ast.unparse(node.func)
      assert called not in ("print", "open", "input", "jax.debug.print"), f"line {node.lineno}"
    if isinstance(node, ast.Attribute):
      assert ast.unparse(node) not in ("np.random", "numpy.random"), f"line {node.lineno}"
    if isinstance(node, ast.Name | ast.Attribute):
      assert "ConfigDict" not in ast.unparse(node), f"line {node.lineno} uses a config object"


@pytest.mark.parametrize("path", [*LIBRARY, *python_files("tests")], ids=name)
def test_files_are_short(path):
  lines = code_lines(path)
  longest = 150 if path.parent == PACKAGE / "recipes" else 300
  assert lines <= longest, f"{lines} lines of code; {longest} at most"


def test_every_room_is_a_package():
  """A folder without __init__.py would be left out of the installed package."""
  folders = {path.parent for path in python_files("pit_jax")}
  assert [
    name(folder) for folder in sorted(folders) if not (folder / "__init__.py").is_file()
  ] == []


def test_the_check_sees_what_it_is_for():
  tree = ast.parse(
    "def f():\n  '''One\n  two.'''\n  import time\n  from pit_jax.losses import gap\n"
  )
  assert [module for module, _ in imported(ast.walk(tree))] == ["time", "pit_jax.losses.gap"]
  assert [module for module, _ in imported(tree.body)] == []
  assert room("pit_jax.statistics.metrics.compare") == "statistics"
  assert room("pit_jax.losses") == "losses"
  assert len(PURE) > 5
