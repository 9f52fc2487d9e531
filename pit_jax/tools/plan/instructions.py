"""Instructions of HLO text: the lines of a compiled program, as XLA writes them."""

import dataclasses
import math
import re

BYTES = {
  "pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2,
  "s32": 4, "u32": 4, "f32": 4, "s64": 8, "u64": 8, "f64": 8,
}  # fmt: skip

_ARRAY = re.compile(r"(\w+)\[([\d,]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
# Types hold brackets too, but none behind a blank and a word.
_OPCODE = re.compile(r" ([\w\-]+)\(")
_CALLED = re.compile(
  r"(?:calls|to_apply|body|condition|(?:true|false)_computation)=%[\w.\-]+"
  r"|branch_computations=\{[^}]*\}"
)


@dataclasses.dataclass(frozen=True)
class Instruction:
  """One line of a program."""

  name: str
  # It makes an array, or several: of each its type, its dimensions, whether it is in main memory.
  arrays: tuple[tuple[str, tuple[int, ...], bool], ...]
  opcode: str
  operands: tuple[str, ...]
  rest: str  # what stands after the operands

  @property
  def bytes(self) -> int:
    """All that it makes."""
    return sum(BYTES[kind] * math.prod(sizes) for kind, sizes, _ in self.arrays)

  @property
  def main(self) -> int:
    """What of it is in main memory."""
    return sum(BYTES[kind] * math.prod(sizes) for kind, sizes, is_main in self.arrays if is_main)

  @property
  def called(self) -> list[str]:
    """The computations it calls."""
    said = " ".join(match.group() for match in _CALLED.finditer(self.rest))
    return _NAME.findall(said)


def read(line: str) -> Instruction:
  """Returns the instruction of a line."""
  left, _, right = line.strip().removeprefix("ROOT ").partition(" = ")
  opcode = _OPCODE.search(right)
  rest = right[opcode.end() :]
  operands = rest[: _end(rest)]
  # Of these the brackets hold a number or a value, and no operands.
  if opcode.group(1) not in ("parameter", "constant"):
    rest = rest.removeprefix(operands)
  # On-chip memory is marked S(1) and so on.
  arrays = tuple(
    (kind, tuple(map(int, filter(None, sizes.split(",")))), "S(" not in place)
    for kind, sizes, place in _ARRAY.findall(right[: opcode.start()])
    if kind in BYTES
  )
  names = tuple(_NAME.findall(operands))
  return Instruction(left.lstrip("%"), arrays, opcode.group(1), names, rest)


def _end(text: str) -> int:
  """Returns the place of the bracket that closes one before the text."""
  depth = 1
  for place, letter in enumerate(text):
    depth += (letter == "(") - (letter == ")")
    if not depth:
      return place

  return len(text)
