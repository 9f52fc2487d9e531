"""Programs compiled for chips that are not there, and what the compiler says of them."""

import dataclasses
import re
from typing import Any

import jax

from pit_jax.bench import devices
from pit_jax.plan import hlo, operations, programs
from pit_jax.stages import abstract


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A program for one chip of many.

  Attributes:
    program: what was compiled.
    by_hand: bytes of its arguments on each chip, from shapes and places.
    arguments: the same, as the compiler has it.
    total: bytes that it takes on each chip while it runs, arguments included.
    flops: operations of each chip, those that rematerialisation repeats included.
    traffic: what each chip moves.
    largest: its largest arrays, as (bytes, type and dimensions, what made it).
    error: what the compiler said if the program does not fit; then only `by_hand`, `flops` and
      `total`, as far as it said it, are known.
  """

  program: programs.Program
  by_hand: int
  arguments: int
  total: int
  flops: float
  traffic: hlo.Traffic
  largest: tuple
  error: str | None = None

  def seconds(self, peak: devices.Peak) -> float:
    """Returns the time of a roofline: the longest of computing, main memory, and links."""
    return max(self.times(peak).values())

  def times(self, peak: devices.Peak) -> dict[str, float]:
    """Returns the seconds that each resource would be busy at its peak."""
    return {
      "compute": self.flops / peak.flops,
      "memory": self.traffic.bytes / peak.bytes,
      "links": sum(self.traffic.collectives.values()) / peak.link,
    }


def chips(topology: str) -> list[Any]:
  """Returns the abstract chips of a TPU topology such as v5e:16x16, or of two: 2*v5e:16x16.

  Raises:
    ImportError: libtpu is not installed; the extra `tpu-plan` brings it.
    ValueError: there is no such topology.
  """
  import libtpu  # noqa: F401
  from jax.experimental import topologies

  count, _, name = topology.rpartition("*")
  try:
    more = {"num_slices": int(count)} if count else {}
    return list(topologies.get_topology_desc(platform="tpu", topology_name=name, **more).devices)
  except Exception as error:  # whatever libtpu raises for a name
    raise ValueError(
      f"the TPU compiler has no topology {topology!r} ({str(error).splitlines()[0]}); "
      "give one such as v5e:16x16, v6e:8x8, v5p:4x4x8 or, for two slices, 2*v5e:16x16"
    ) from error


def compile(program: programs.Program) -> Compiled:
  """Returns what the compiler makes of a program."""
  traced = program.function.trace(*program.arguments)
  count = len(jax.tree.leaves(program.arguments)[0].sharding.device_set)
  flops = operations.count(traced.jaxpr, program.sampled) / count
  by_hand = abstract.device_bytes(program.arguments)
  try:
    made = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    return Compiled(program, by_hand, 0, _used(str(error)), flops, NOTHING, (), _said(str(error)))
  sizes, module = made.memory_analysis(), hlo.read(made.as_text())
  total = (
    sizes.argument_size_in_bytes
    + sizes.output_size_in_bytes
    - sizes.alias_size_in_bytes
    + sizes.temp_size_in_bytes
  )
  return Compiled(
    program,
    by_hand,
    sizes.argument_size_in_bytes,
    total,
    flops,
    module.traffic(program.sampled),
    tuple(module.largest(5)),
  )


NOTHING = hlo.Traffic(0.0, {}, {})
_UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}


def _said(text: str) -> str:
  """Returns the line in which the compiler says what there is too little of."""
  lines = [line.strip() for line in text.splitlines() if "exceed" in line]
  return (lines or text.splitlines())[0][:200]


def _used(text: str) -> int:
  """Returns the bytes that the compiler would have needed, 0 where it does not say."""
  found = re.search(r"\(([\d.]+)([KMG])\) exceeds", text)
  return int(float(found.group(1)) * _UNITS[found.group(2)]) if found else 0
