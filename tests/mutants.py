"""Puts one fault after the other into a copy of the library, and looks whether the tests see it.

  python tests/mutants.py                     (`make mutants`)
  python tests/mutants.py --only=losses       those whose file or tests have this in their name

The faults are in mutants.toml. One is killed when a test fails or does not end; it survives where
all pass. Tests that fail without any fault, or that cannot be collected, are an error: they would
kill everything.
"""

import argparse
import dataclasses
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import tomllib

ROOT = pathlib.Path(__file__).resolve().parent.parent
PLACES = ROOT / "tests" / "mutants.toml"
COPIED = (
  "pit_jax", "configs", "docs", "examples", "launch", "tests", "pyproject.toml", "setup.py",
  "mkdocs.yml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md",
)  # fmt: skip
PASSED, FAILED = 0, 1  # of pytest's exit codes; any other is no verdict
LIMIT = 600  # seconds for a file of tests: a fault may make a loop endless


@dataclasses.dataclass(frozen=True)
class Mutant:
  """A fault.

  Attributes:
    file: where it is, from the root of the project.
    was: what stands there, once.
    becomes: what takes its place.
    tests: the files of tests that have to see it.
  """

  file: str
  was: str
  becomes: str
  tests: tuple[str, ...]

  @property
  def name(self) -> str:
    """Its file and the first line that it changes."""
    return f"{self.file}: {self.was.splitlines()[0]} → {self.becomes.splitlines()[0:1]}"

  def applied(self, source: str) -> str:
    """Returns a file's text with the fault.

    Raises:
      ValueError: what is to be replaced stands there never or several times.
    """
    if (count := source.count(self.was)) != 1:
      raise ValueError(f"{self.file} has {self.was!r} {count} times; mutants.toml needs it once")
    return source.replace(self.was, self.becomes)


def read(path: pathlib.Path = PLACES) -> list[Mutant]:
  """Returns the faults of a file."""
  rows = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
  return [Mutant(**row | {"tests": tuple(row["tests"])}) for row in rows]


def run(tests: str, folder: pathlib.Path) -> int:
  """Runs a file of tests against the copy in a folder, and returns pytest's exit code.

  Tests that do not end in time have failed.
  """
  command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", tests]
  environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
  settings = {"cwd": folder, "env": environment, "capture_output": True, "text": True}
  try:
    done = subprocess.run(command, **settings, timeout=LIMIT, check=False)
  except subprocess.TimeoutExpired:
    return FAILED
  if done.returncode not in (PASSED, FAILED):
    raise SystemExit(f"{tests} could not be run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
  return done.returncode


def is_killed(mutant: Mutant, folder: pathlib.Path) -> bool:
  """Returns whether a test fails while the copy in a folder has the fault."""
  path = folder / mutant.file
  source = path.read_text(encoding="utf-8")
  path.write_text(mutant.applied(source), encoding="utf-8")
  try:
    return any(run(tests, folder) == FAILED for tests in mutant.tests)
  finally:
    path.write_text(source, encoding="utf-8")


def copy(folder: pathlib.Path) -> None:
  """Copies what tests need into a folder."""
  for name in COPIED:
    source = ROOT / name
    if source.is_dir():
      shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    else:
      shutil.copy2(source, folder / name)


def main() -> None:
  """Tries the faults, and ends with 1 where any survives."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("--only", default="", help="part of the name of a file or of its tests")
  only = parser.parse_args().only
  chosen = [one for one in read() if any(only in name for name in (one.file, *one.tests))]
  if not chosen:
    raise SystemExit(f"no fault has {only!r} in its file's name or in its tests'")

  with tempfile.TemporaryDirectory() as made:
    folder = pathlib.Path(made)
    copy(folder)
    for tests in sorted({tests for mutant in chosen for tests in mutant.tests}):
      if run(tests, folder) == FAILED:
        raise SystemExit(f"{tests} fails without a fault; mend that first")

    survivors = []
    for number, mutant in enumerate(chosen, start=1):
      killed = is_killed(mutant, folder)
      survivors += [] if killed else [mutant]
      verdict = "killed" if killed else "SURVIVED"
      print(f"{number}/{len(chosen)} {verdict:8} {mutant.name}", flush=True)

  print(f"{len(chosen) - len(survivors)} killed, {len(survivors)} survived")
  raise SystemExit(1 if survivors else 0)


if __name__ == "__main__":
  main()
