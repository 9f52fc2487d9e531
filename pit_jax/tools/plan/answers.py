"""A cache of what the compiler says of programs, so that nothing is compiled twice.

An answer lies under what it depends on: the program itself, the chips, and the compiler. Whatever
changes one of them, in the configuration or in this library, is a question of its own; so plans
of many configurations can share a folder, and one that was interrupted goes on where it was.
"""

import dataclasses
import gzip
import hashlib
import importlib.metadata
import json
import os
import pathlib
import re
from typing import Any

import jax

COMPILERS = ("jax", "jaxlib", "libtpu")
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


@dataclasses.dataclass(frozen=True)
class Answer:
  """What the compiler says of one program."""

  arguments: int  # bytes of them on each device
  # Bytes that the program takes on each device while it runs, arguments included; of one that does
  # not fit those of its temporaries alone, which is all that the compiler says.
  total: int
  text: str  # the compiled program; "" of one that does not fit
  error: str | None = None  # the line that says what there is too little of; None of one that fits


def ask(lowered: jax.stages.Lowered, devices: Any, folder: pathlib.Path | None = None) -> Answer:
  """Returns what the compiler says of a program, from the folder where it is known there.

  Args:
    lowered: the program.
    devices: an array of those it is for, in the order of its mesh.
    folder: where answers are kept; None keeps none.
  """
  if folder is None:
    return _compiled(lowered)
  file = folder / f"{_name(lowered, devices)}.json.gz"
  if file.is_file():
    return Answer(**json.loads(gzip.decompress(file.read_bytes())))
  answer = _compiled(lowered)
  folder.mkdir(parents=True, exist_ok=True)
  unfinished = file.with_name(f"{file.name}.{os.getpid()}")

  unfinished.write_bytes(gzip.compress(json.dumps(dataclasses.asdict(answer)).encode()))
  unfinished.replace(file)  # whole or not at all
  return answer


def _name(lowered: jax.stages.Lowered, devices: Any) -> str:
  """Returns the name of a question: a digest of all that its answer depends on."""
  versions = [(name, _version(name)) for name in COMPILERS]
  places = [(device.device_kind, str(device)) for device in devices.flat]
  flags = [os.environ.get(name, "") for name in ("XLA_FLAGS", "LIBTPU_INIT_ARGS")]
  question = json.dumps([versions, places, flags]) + lowered.as_text()
  return hashlib.blake2b(question.encode(), digest_size=16).hexdigest()


def _version(name: str) -> str | None:
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return None


def _compiled(lowered: jax.stages.Lowered) -> Answer:
  try:
    executable = lowered.compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return _refusal(str(error))

  sizes = executable.memory_analysis()
  # Results that lie in donated arguments (aliases) take no bytes of their own.
  total = sizes.argument_size_in_bytes + sizes.temp_size_in_bytes
  total += sizes.output_size_in_bytes - sizes.alias_size_in_bytes
  return Answer(sizes.argument_size_in_bytes, total, executable.as_text())


def _refusal(text: str) -> Answer:
  """Returns the answer that is in the compiler's words on a program that does not fit."""
  lines = [line.strip() for line in text.splitlines() if "exceed" in line.lower()]
  # It need not say how many bytes there would have to be.
  match = re.search(r"\(([\d.]+)([KMG])\) exceeds", text)
  used = int(float(match.group(1)) * _UNITS[match.group(2)]) if match else 0
  return Answer(0, used, "", (lines or text.splitlines())[0][:200])
