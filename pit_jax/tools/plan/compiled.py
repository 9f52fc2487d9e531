"""Programs compiled for chips that are not there, and what the compiler says of them."""

import dataclasses
import pathlib
from typing import Any

import jax

from pit_jax import costs, hosts
from pit_jax.run import abstract
from pit_jax.stages import programs
from pit_jax.tools.plan import answers, hlo, operations


@dataclasses.dataclass(frozen=True)
class Compiled:
  """A program for one device of many."""

  program: programs.Program  # what was compiled
  by_hand: int  # bytes of its arguments on each device, from shapes and places
  arguments: int  # the same, as the compiler has it
  total: int  # bytes that it takes on each device while it runs, arguments included
  flops: float  # operations of each device, those that rematerialisation repeats included
  traffic: hlo.Traffic  # what each device moves
  largest: tuple  # its largest arrays, as (bytes, type and dimensions, what made it)
  # What the compiler said if the program does not fit; then only `by_hand`, `flops` and `total`
  # are known.
  error: str | None = None

  def seconds(self, peak: costs.Peak) -> float:
    """Returns the time of a roofline: the longest of computing, main memory, and links."""
    return max(self.times(peak).values())

  def times(self, peak: costs.Peak) -> dict[str, float]:
    """Returns the seconds that each resource would be busy at its peak."""
    return {
      "compute": self.flops / peak.flops,
      "memory": self.traffic.bytes / peak.bytes,
      "links": sum(self.traffic.collectives.values()) / peak.link,
    }


def devices(topology: str) -> list[Any]:
  """Returns the abstract devices of a TPU topology such as v5e:16x16, or of two: 2*v5e:16x16.

  They are those that a run on such chips has: of v4 one for both cores of a chip, which has to be
  said to the compiler, and of tpu7x one for each; see `costs.count_chips`.

  Raises:
    ImportError: libtpu is not installed; the extra `tpu-plan` brings it.
    ValueError: there is no such topology.
  """
  hosts.prepare()  # plans are for programs as runs have them compiled
  # So that its absence is an ImportError, and not taken for an unknown topology below.
  import libtpu  # noqa: F401
  from jax.experimental import topologies

  count, _, name = topology.rpartition("*")
  try:
    described = {"num_slices": int(count)} if count else {}
    described |= {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    return list(topologies.get_topology_desc(name, "tpu", **described).devices)
  except Exception as error:  # whatever libtpu raises for a name
    raise ValueError(
      f"the TPU compiler has no topology {topology!r} ({str(error).splitlines()[0]}); "
      "give one such as v5e:16x16, v6e:8x8, v5p:4x4x8, tpu7x:2x2x1 or, for two slices, 2*v5e:16x16"
    ) from error


def compile(program: programs.Program, kept: pathlib.Path | None = None) -> Compiled:
  """Returns what the compiler makes of a program; `kept` is the folder of what it said before."""
  traced = program.function.trace(*program.arguments)
  devices = jax.tree.leaves(program.arguments)[0].sharding.mesh.devices
  flops = operations.count(traced.jaxpr, program.sampled) / devices.size
  by_hand = abstract.device_bytes(program.arguments)
  answer = answers.ask(traced.lower(), devices, kept)
  if answer.error:
    needed = answer.total + by_hand
    return Compiled(program, by_hand, 0, needed, flops, NOTHING, (), answer.error)
  module = hlo.read(answer.text)
  traffic = module.traffic(program.sampled)
  largest = tuple(module.largest(5))
  return Compiled(program, by_hand, answer.arguments, answer.total, flops, traffic, largest)


NOTHING = hlo.Traffic(0.0, {}, {})
