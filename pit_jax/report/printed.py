"""Tables for a terminal: no wider than it is, and with no word or number cut off.

What does not fit side by side stands in several blocks, each with the columns that say whose the
numbers are.
"""

import textwrap
from collections.abc import Sequence

from pit_jax.report import cells

GAP = 2  # characters between two columns
WIDEST = 100  # of a line, however wide a terminal is


def grid(table: cells.Table, width: int = 80) -> str:
  """Returns a table as text of at most so many characters per line.

  A word is broken only where it is longer than half of a line.
  """
  needed = [_needed(table, index, width) for index in range(len(table.columns))]
  blocks = _blocks(table, needed, width)
  return "\n\n".join(_block(table, block, needed, width) for block in blocks)


def _needed(table: cells.Table, index: int, width: int) -> int:
  """Returns the characters that a column takes at least: of its longest word, or its numbers."""
  texts = [row[index] for row in table.rows]
  heads = table.columns[index].split()
  if index < table.words:
    texts = [part for text in texts for part in text.split()]
  longest = max(map(len, [*texts, *heads]), default=1)
  return min(longest, width // 2) if index < table.words else longest


def _blocks(table: cells.Table, needed: Sequence[int], width: int) -> list[list[int]]:
  """Returns the columns of each block; the first ones stand in every block."""
  count = len(table.columns)
  keys = list(range(min(table.words, count)))
  # Many columns of words leave others no room: then fewer of them stand in every block.
  while len(keys) > 1:
    others = needed[len(keys) :]
    taken = sum(needed[k] + GAP for k in keys)
    if taken + (max(others) if others else -GAP) <= width:
      break
    keys.pop()

  blocks = [list(keys)]
  for index in range(len(keys), count):
    taken = sum(needed[k] + GAP for k in blocks[-1])
    if taken + needed[index] > width and len(blocks[-1]) > len(keys):
      blocks.append(list(keys))
    blocks[-1].append(index)

  return blocks


def _block(table: cells.Table, block: Sequence[int], needed: Sequence[int], width: int) -> str:
  widths = _widths(table, block, needed, width)
  head = [table.columns[index] for index in block]
  lines = _row(head, widths, block, table.words, is_head=True)
  lines.append("-" * (sum(widths) + GAP * (len(widths) - 1)))
  for row in table.rows:
    lines += _row([row[index] for index in block], widths, block, table.words)
  return "\n".join(lines)


def _widths(
  table: cells.Table, block: Sequence[int], needed: Sequence[int], width: int
) -> list[int]:
  """Returns widths of columns: the first ones that would be wrapped take what is left of a line."""
  widths = [needed[index] for index in block]
  left = width - sum(widths) - GAP * (len(widths) - 1)
  for place, index in enumerate(block):
    texts = [table.columns[index], *(row[index] for row in table.rows)]
    wanted = max(map(len, texts))
    more = max(min(wanted - widths[place], left), 0)
    widths[place] += more
    left -= more

  return widths


def _row(
  texts: Sequence[str], widths: Sequence[int], block: Sequence[int], words: int,
  is_head: bool = False,
) -> list[str]:  # fmt: skip
  """Returns the lines of one row; what is beside a wrapped text is at its top, of a head below."""
  wrapped = [
    textwrap.wrap(text, max(size, 1)) or [""] for text, size in zip(texts, widths, strict=True)
  ]
  height = max(map(len, wrapped))
  columns = []
  for lines, size, index in zip(wrapped, widths, block, strict=True):
    blank = [""] * (height - len(lines))
    filled = [*blank, *lines] if is_head else [*lines, *blank]
    columns.append([text.ljust(size) if index < words else text.rjust(size) for text in filled])

  return [(" " * GAP).join(line).rstrip() for line in zip(*columns, strict=True)]
