"""Where a report comes from: its date, command, commit, versions and devices."""

import datetime
import os
import pathlib
import shlex
import subprocess
import sys

import jax

from pit_jax import __version__

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATIENCE = 10.0  # seconds that git is given


def facts(devices: int) -> dict[str, str]:
  """Returns what a report says of its own making, as far as it is known.

  Args:
    devices: how many the run is divided over.

  Returns:
    `date` in UTC to the minute, `command` that a shell takes, `commit` of the checkout that the
    library lies in, `devices`, and the `versions` of library, JAX and Python.
  """
  now = datetime.datetime.now(datetime.UTC)
  found = {
    "date": now.strftime("%Y-%m-%d %H:%M UTC"),
    "command": command(sys.argv),
    "commit": commit(ROOT),
    "devices": described(devices),
    "versions": f"pit_jax {__version__}, JAX {jax.__version__}, Python {sys.version.split()[0]}",
  }

  return {name: text for name, text in found.items() if text}


def command(arguments: list[str]) -> str:
  """Returns what was typed to start one of the commands; "" for another program's arguments."""
  program, *others = arguments
  if program.startswith("pit "):
    return " ".join([program, *map(shlex.quote, others)])

  path = pathlib.PurePath(program)
  is_door = path.suffix == ".py" and path.parent.name == "launch"
  return shlex.join(["python", f"launch/{path.name}", *others]) if is_door else ""


def commit(root: pathlib.Path) -> str:
  """Returns the commit of a checkout, with "-dirty" where files differ from it; "" of none."""
  if not (root / ".git").exists():
    return ""
  asked = ["git", "-C", os.fspath(root), "describe", "--always", "--dirty", "--abbrev=12"]
  asked += ["--exclude=*"]  # the hash, not the nearest tag
  try:
    done = subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE, check=True)
  except (OSError, subprocess.SubprocessError):
    return ""
  return done.stdout.strip()


def described(count: int) -> str:
  """Returns so many of this process's devices in words; of a CPU the cores too."""
  device = jax.devices()[0]
  kind = f"{count} × {device.device_kind}"
  if device.platform == "cpu":
    kind += f" with {os.cpu_count()} cores"
  hosts = jax.process_count()
  return f"{kind}, {hosts} hosts" if hosts > 1 else kind
