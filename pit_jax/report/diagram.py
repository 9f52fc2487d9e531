"""The pipeline of a run as an inline SVG.

The drawing is a grid of columns × chains: what is done with a fold of the rows, for each line of
models. A wide page lays the columns side by side, a narrow one puts them below each other.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

import jinja2
import markupsafe

from pit_jax.report import cells, palette

# In px: line height, box padding, box distance, band title, and between two bands.
LINE = 18
PAD = 11
GAP = 14
HEADING = 40
BETWEEN = 20
LETTER = 7.0  # of a letter of a box, on average; a lowered one takes three quarters
WIDEST = 225  # that a column of a wide drawing needs
LOWERED = re.compile(r"\b([MRy])_([A-Za-z0-9]+)\b")
MOST = 4  # columns that have room beside each other


@dataclasses.dataclass(frozen=True)
class Box:
  """One model, at one place of the pipeline."""

  lines: tuple[str, ...]  # a title, then what it learns and how long
  takes_samples: bool = False  # whether it reads samples of the first chain's in this column

  @property
  def height(self) -> int:
    """Height in px."""
    return 2 * PAD + LINE * len(self.lines) - 3


@dataclasses.dataclass(frozen=True)
class Column:
  """What is done with one fold of the rows."""

  title: str  # its heading
  chains: Sequence[Sequence[Box]]  # of each line of models in order, as many in every column
  note: str = ""  # what stands beside the heading


@dataclasses.dataclass(frozen=True)
class Placed:
  """A box with its corner."""

  box: Box
  x: int
  y: int
  width: int
  tint: str


def draw(columns: Sequence[Column], wide: bool) -> str:
  """Draws a pipeline as an <svg> element in the page's colours; "" where there is nothing to draw.

  A wide one has its columns side by side, unless they are too many, any other below each other.
  Its unit is the page's px, as of other figures.
  """
  if not columns:
    return ""
  side_by_side = wide and len(columns) <= MOST
  placed, bands, size = (_wide if side_by_side else _tall)([column.chains for column in columns])
  boxes = [item for column in placed for chain in column for item in chain]
  titles = ", ".join(box.lines[0] for column in columns for chain in column.chains for box in chain)
  templates = jinja2.Environment(loader=jinja2.PackageLoader("pit_jax.report"), autoescape=True)
  templates.filters["lowered"] = _lowered
  drawing = templates.get_template("pipeline.svg.jinja").render(
    shape="wide" if wide else "narrow", size=size, titles=titles, palette=palette, first=PAD + 11,
    bands=zip(bands, columns, strict=True), arrows=_arrows(placed, side_by_side), boxes=boxes,
    step=LINE,
  )  # fmt: skip

  return palette.themed(drawing)


def of_stages(results: Mapping) -> list[Column]:
  """Returns the pipeline of a run as its stages tell it, and which systems it ends in.

  Stages that follow each other on one fold share a column.
  """
  columns = []
  stages = results.get("stages", {})
  # Consecutive stages alone: a fold that comes again later has another column.
  for fold, names in itertools.groupby(stages, lambda name: stages[name].get("fold", "")):
    boxes = [Box((name, stages[name]["kind"], *effort(results, name))) for name in names]
    columns.append(Column(fold, [boxes], rows(results, fold)))

  if "headline" in results:
    answering, other = results["headline"]
    boxes = [Box((answering, f"compared with {other}"))]
    columns.append(Column("Held out", [boxes], rows(results, "held_out")))

  return columns


def effort(results: Mapping, name: str) -> tuple[str, ...]:
  """Returns the steps and the time of a stage as a line of its box, if any is known."""
  steps = results.get("stages", {}).get(name, {}).get("steps")
  seconds = results["seconds"].get(name)
  parts = [f"{steps:,} steps"] if steps else []
  parts += [cells.duration(seconds)] if seconds else []
  return (" · ".join(parts),) if parts else ()


def rows(results: Mapping, fold: str) -> str:
  """Returns how many rows a fold has, in words; "" where it is not known."""
  count = results.get("data", {}).get("folds", {}).get(fold)
  return "" if count is None else f"{count:,} rows"


def _wide(columns):
  """Folds from left to right, chains from top to bottom."""
  count = len(columns)
  width = min((palette.WIDE - BETWEEN * (count - 1)) // count, WIDEST)
  columns = [[_wrapped(boxes, width - 24) for boxes in column] for column in columns]
  heights = [max(map(_stack, boxes)) + 2 * GAP for boxes in zip(*columns, strict=True)]
  *starts, below = itertools.accumulate(heights, initial=HEADING)
  lefts = [fold * (width + BETWEEN) for fold in range(count)]
  placed = [
    [_pile(boxes, left + 12, start, width - 24, chain)
     for chain, (boxes, start) in enumerate(zip(column, starts, strict=True))]
    for left, column in zip(lefts, columns, strict=True)
  ]  # fmt: skip
  height = below - GAP

  return placed, [(left, 0, width, height) for left in lefts], (lefts[-1] + width, height)


def _tall(columns):
  """Folds from top to bottom, chains side by side."""
  placed = []
  bands = []
  below = 0
  chains = len(columns[0])
  width = (palette.NARROW - 24 - (chains - 1) * GAP) // chains
  columns = [[_wrapped(boxes, width) for boxes in column] for column in columns]

  for column in columns:
    height = HEADING + max(_stack(boxes) for boxes in column) + GAP
    bands.append((0, below, palette.NARROW, height))
    placed.append([
      _pile(boxes, 12 + chain * (width + GAP), below + HEADING, width, chain)
      for chain, boxes in enumerate(column)
    ])  # fmt: skip
    below += height + BETWEEN

  return placed, bands, (palette.NARROW, below - BETWEEN)


def _wrapped(boxes: Sequence[Box], width: int) -> list[Box]:
  """Returns boxes of this width in px whose lines have room in them."""
  most = int((width - 2 * PAD) / LETTER)
  return [
    dataclasses.replace(box, lines=tuple(part for line in box.lines for part in _parts(line, most)))
    for box in boxes
  ]


def _parts(line: str, most: int) -> list[str]:
  """Breaks a line between words, so that no part has room for more letters than that."""
  parts = [""]
  for word in line.split():
    longer = f"{parts[-1]} {word}".strip()
    if parts[-1] and _letters(longer) > most:
      parts.append(word)
    else:
      parts[-1] = longer

  return parts


def _letters(text: str) -> float:
  lowered = sum(len(index) for _, index in LOWERED.findall(text))
  return len(LOWERED.sub(r"\1\2", text)) - lowered / 4


def _stack(boxes: Sequence[Box]) -> int:
  return sum(box.height for box in boxes) + GAP * (len(boxes) - 1)


def _pile(boxes: Sequence[Box], x: int, y: int, width: int, chain: int) -> list[Placed]:
  tint = palette.TEAL if chain else palette.BLUE
  tops = itertools.accumulate((box.height + GAP for box in boxes), initial=y)
  return [Placed(box, x, top, width, tint) for box, top in zip(boxes, tops, strict=False)]


def _arrows(placed: list[list[list[Placed]]], wide: bool) -> list[tuple[str, bool]]:
  """Returns the path of each arrow, and whether it is dashed."""
  parts = []
  for here, there in itertools.pairwise(placed):
    for boxes, following in zip(here, there, strict=True):
      parts.append((_link(boxes[-1], following[0], wide), False))

  for boxes in (chain for fold in placed for chain in fold):
    parts += [(_down(upper, lower), False) for upper, lower in itertools.pairwise(boxes)]

  for (sampler, *_), *others in placed:
    for item in (item for boxes in others for item in boxes if item.box.takes_samples):
      parts.append((_samples(sampler, item, wide), True))

  return parts


def _link(start: Placed, end: Placed, wide: bool) -> str:
  """The arrow to the next fold; it steps up where a curriculum has gone below its first stage."""
  if not wide:
    return _down(start, end)
  side = start.x + start.width
  if start.y == end.y:
    return f"M{side} {start.y + 30}H{end.x - 1}"
  return f"M{side} {start.y + start.box.height - 14}h22V{end.y + 30}H{end.x - 1}"


def _down(upper: Placed, lower: Placed) -> str:
  middle = upper.x + upper.width // 2
  return f"M{middle} {upper.y + upper.box.height}V{lower.y - 1}"


def _samples(sampler: Placed, stage: Placed, wide: bool) -> str:
  """The dashed arrow along which the first chain's samples reach a stage of another."""
  if wide:
    side = sampler.x + sampler.width
    return f"M{side} {sampler.y + 44}h7V{stage.y + 18}H{side + 1}"

  foot = sampler.y + sampler.box.height
  height = stage.y + stage.box.height // 2
  return f"M{sampler.x + sampler.width - 24} {foot}V{height}H{stage.x - 1}"


def _lowered(text: str) -> markupsafe.Markup:
  """Sets M_P and its like with a lowered index, in a way every browser knows."""
  # dy moves all that follows; a letter of no width brings the line back up.
  lowered = r'\1<tspan dy="3" font-size="12">\2</tspan><tspan dy="-3">​</tspan>'
  escaped = str(markupsafe.escape(text))
  return markupsafe.Markup(LOWERED.sub(lowered, escaped))
