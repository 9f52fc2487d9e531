"""Reads compiled programs (HLO): bytes moved, collectives between devices, the largest arrays.

A compiler's own cost analysis counts the body of a loop once, however often it runs; here a body
counts as often as its condition says, or, where that depends on data, as often as it is told.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

from pit_jax.tools.plan import instructions

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
# Names for what is there already; the bytes of a call are those of what it calls.
FREE = {
  "parameter", "tuple", "get-tuple-element", "bitcast", "constant", "while", "conditional", "call",
  "after-all", "partition-id", "opt-barrier", "iota",
}  # fmt: skip
SLICES = ("dynamic-slice", "slice", "gather")

_HEADER = re.compile(r"^(ENTRY )?%?([^\s(]+) .*\{$")
_LIMIT = re.compile(r"(\d+)\)")

Computation = dict[str, instructions.Instruction]  # by their names


@dataclasses.dataclass(frozen=True)
class Traffic:
  """What one device moves while a program runs once."""

  bytes: float  # read from and written to main memory
  collectives: Mapping[str, float]  # kind → bytes that the device sends to others
  counts: Mapping[str, float]  # kind → how many of them there are


@dataclasses.dataclass(frozen=True)
class Module:
  """A compiled program."""

  computations: dict[str, Computation]
  entry: str  # where it begins

  def traffic(self, unknown: int = 1) -> Traffic:
    """Returns what a device moves.

    Args:
      unknown: how often a loop runs whose end depends on data. Of several in a row, each of which
        goes on with fewer rows, the first one takes all the turns, which is the most there can be.
    """
    total = 0.0
    sent = {}
    counts = {}

    for computation, times in self._visits(self.entry, 1.0, [unknown]):
      total += times * sum(self._bytes(computation, one) for one in computation.values())
      seen = set()
      for kind, one in self._collectives(computation):
        channel = re.search(r"channel_id=\d+", one.rest)
        # A pipelined collective is written several times, under one number.
        if channel and channel.group() in seen:
          continue
        seen.add(channel and channel.group())
        sent[kind] = sent.get(kind, 0.0) + times * _sent(kind, one)
        counts[kind] = counts.get(kind, 0.0) + times

    return Traffic(total, sent, counts)

  def largest(self, count: int) -> list[tuple[int, str, str]]:
    """Returns (bytes, type and dimensions, what made it) of the largest arrays of a device."""
    by_shape: dict[str, tuple[int, str, str]] = {}
    for computation, _ in self._visits(self.entry, 1.0, [1]):
      for one in computation.values():
        origin = re.search(r'op_name="([^"]*)"', one.rest)
        for kind, sizes, is_main in one.arrays:
          shape = f"{kind}[{','.join(map(str, sizes))}]"
          if is_main and (shape not in by_shape or not by_shape[shape][2]):
            size = instructions.BYTES[kind] * math.prod(sizes)
            by_shape[shape] = (size, shape, origin.group(1) if origin else "")

    return sorted(by_shape.values(), reverse=True)[:count]

  def _visits(
    self, name: str, times: float, left: list[int]
  ) -> Iterator[tuple[Computation, float]]:
    """Yields every computation that is run, with how often; fusions belong to their callers."""
    computation = self.computations[name]
    yield computation, times
    for one in computation.values():
      if one.opcode == "while":
        body = re.search(r"body=%([\w.\-]+)", one.rest).group(1)
        turns = self._turns(one)
        if turns is None:
          # A loop whose end depends on data: the first takes all the turns that are left.
          turns = left[0]
          left[0] = 0

        yield from self._visits(body, times * turns, left)
      elif one.opcode in ("call", "conditional", "async-start"):
        for called in one.called:
          yield from self._visits(called, times, left)

  def _turns(self, loop: instructions.Instruction) -> int | None:
    """Returns how often a loop runs at most: counters go up by 1 to a constant; or None."""
    condition = self.computations[re.search(r"condition=%([\w.\-]+)", loop.rest).group(1)]
    inside = list(self._inside(condition))
    constants = (one.rest for one in inside if one.opcode == "constant")
    limits = [int(match.group(1)) for match in map(_LIMIT.match, constants) if match]
    is_counter = any("direction=LT" in one.rest for one in inside) and len(limits) == 1

    # A longer condition tests more than a counter.
    return limits[0] if is_counter and len(condition) < 8 else None

  def _inside(self, computation: Computation) -> Iterator[instructions.Instruction]:
    """Yields the instructions of a computation and of its fusions."""
    for one in computation.values():
      yield one
      if one.opcode == "fusion":
        for called in one.called:
          yield from self._inside(self.computations[called])

  def _collectives(
    self, computation: Computation, is_scattered: bool = False
  ) -> Iterator[tuple[str, instructions.Instruction]]:
    """Yields (kind, instruction); of a fused all-reduce each device may keep its part alone."""
    for one in computation.values():
      kind = one.opcode.removesuffix("-start")
      if kind in COLLECTIVES:
        yield "reduce-scatter" if is_scattered and kind == "all-reduce" else kind, one

      if one.opcode == "fusion":
        for called in one.called:
          inside = self.computations[called]
          yield from self._collectives(inside, called.startswith("all-reduce-scatter"))

  def _bytes(self, computation: Computation, one: instructions.Instruction) -> int:
    """Returns what an instruction reads from main memory and writes to it."""
    if one.opcode in FREE or one.opcode.endswith("-done"):
      return 0
    if one.opcode == "fusion":
      return self._fusion_bytes(computation, one)
    operands = [computation[name].main for name in one.operands if name in computation]
    if one.opcode in SLICES:
      return 2 * one.main

    # In place: the slice is read and written, the rest of the array stays.
    if one.opcode == "dynamic-update-slice":
      return 2 * operands[1]
    return one.main + sum(operands)

  def _fusion_bytes(self, computation: Computation, one: instructions.Instruction) -> int:
    """Of an operand of which a fusion reads or writes a slice alone, that slice counts."""
    total = one.main
    for place, name in enumerate(one.operands):
      size = computation[name].main if name in computation else 0
      read, written = self._touched(one.called[0], place, size)
      total += read
      if written is not None:  # in place
        total += written - size

    return max(total, 0)

  def _touched(self, called: str, place: int, size: int) -> tuple[int, int | None]:
    """Returns what a fusion reads of an operand, and what it writes of it where it does so."""
    inside = self.computations[called]
    read = 0
    written = None
    # What the operand is called there: a parameter, and all that is the same array.
    parameters = (one for one in inside.values() if one.opcode == "parameter")
    names = {one.name for one in parameters if one.rest.startswith(f"{place})")}
    for user in inside.values():
      if not names & set(user.operands):
        continue
      if user.opcode == "bitcast":
        names.add(user.name)
      elif user.opcode in SLICES and user.operands[0] in names:
        read += user.bytes
      elif user.opcode == "dynamic-update-slice" and user.operands[0] in names:
        written = (written or 0) + inside[user.operands[1]].bytes
      elif user.opcode == "fusion":
        for index, name in enumerate(user.operands):
          if name in names:
            inner_read, inner_written = self._touched(user.called[0], index, size)
            read += inner_read
            written = written if inner_written is None else inner_written
      else:
        read = size

    return min(read, size), written


def read(text: str) -> Module:
  """Returns the program that a compiler wrote as text."""
  computations: dict[str, Computation] = {}
  entry = ""
  here = None

  for line in text.splitlines():
    header = None if line.startswith(" ") else _HEADER.match(line)
    if header and not line.startswith("HloModule"):
      here = computations.setdefault(header.group(2), {})
      entry = header.group(2) if header.group(1) else entry
    elif " = " in line and here is not None:
      instruction = instructions.read(line)
      here[instruction.name] = instruction

  return Module(computations, entry)


def _sent(kind: str, one: instructions.Instruction) -> float:
  """Returns the bytes that each device sends, on a ring (Thakur et al. 2005)."""
  group = _group(one.rest)
  size = one.bytes
  if one.opcode.endswith("-start"):  # what comes in, and what goes out
    size = max(instructions.BYTES[kind] * math.prod(sizes) for kind, sizes, _ in one.arrays)
  share = (group - 1) / group
  if one.opcode == "reduce-scatter":  # each keeps 1/group of what it had
    return float(size * (group - 1))

  # An all-reduce is a reduce-scatter and an all-gather, hence twice the share.
  return size * {"all-reduce": 2 * share, "collective-permute": 1.0}.get(kind, share)


@functools.cache
def _group(text: str) -> int:
  """Returns how many devices take part in a collective."""
  if match := re.search(r"replica_groups=\[(\d+),(\d+)\]", text):
    return int(match.group(2))
  if match := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", text):
    sizes = dict(re.findall(r"'(\w+)'=(\d+)", match.group(1)))
    return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", match.group(2)))

  match = re.search(r"replica_groups=\{\{([\d,]*)\}", text)
  return len(match.group(1).split(",")) if match and match.group(1) else 2
