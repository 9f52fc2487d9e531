"""The pipeline as an inline SVG: four models, three folds, and the curriculum of this run.

The drawing is a grid of folds × chains. A wide page lays the folds side by side, a narrow one
puts them below each other; both come from the same cells.
"""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence

import markupsafe

from pit_jax.report import cells, palette

# Words in the names of stages that are no part of the pipeline.
ABLATIONS = ("only", "longer", "single_term", "rp_difference")
IMPROVER = ("improver", "gap", "pit")  # words in the names of stages of the second chain
KINDS = {"sft": ("sft",), "reward": ("preference", "gap"), "rl": ("rl",)}  # of jobs, by fold
REFERENCES = {"dataset.rejected": "y_l", "dataset.chosen": "y_w", "policy": "samples of M_P"}
DRAWN = ("pit", "rlhf", "reward")  # recipes
LINE, PAD, GAP, HEADING = 17, 11, 14, 40  # px: line height, box padding, box distance, band title


@dataclasses.dataclass(frozen=True)
class Box:
  """One model, at one place of the pipeline."""

  lines: tuple[str, ...]  # a title, then what it learns and how long
  takes_policy: bool = False  # reads samples of the finished policy

  @property
  def height(self) -> int:
    """Height in px."""
    return 2 * PAD + LINE * len(self.lines) - 3


@dataclasses.dataclass(frozen=True)
class Placed:
  """A box with its corner."""

  box: Box
  x: int
  y: int
  width: int
  tint: str


def draw(results: Mapping, wide: bool) -> str:
  """Draws the pipeline of this run as an <svg> element in the page's colours.

  Args:
    results: a checked results dict; its stages name steps and references, its data the folds.
    wide: folds side by side (960 px) instead of below each other (380 px).

  Returns:
    The element; "" of a recipe whose pipeline nobody has drawn.
  """
  if results["recipe"] not in DRAWN:
    return ""
  cells = _cells(results)
  columns = list(cells.values())
  titles = [_title(results, fold) for fold in cells]
  layout = _wide if wide else _tall
  placed, bands, size = layout(columns)
  parts = [_band(x, y, w, h, title) for (x, y, w, h), title in zip(bands, titles, strict=True)]
  parts += _arrows(placed, wide)
  parts += [_box(item) for fold in placed for chain in fold for item in chain]
  shape = "wide" if wide else "tall"
  drawing = (
    f'<svg class="pipeline {shape}" viewBox="0 0 {size[0]} {size[1]}" role="img" '
    f'aria-label="The pipeline: fine-tuning, reward models, reinforcement learning, answers">'
    f"{_HEAD.replace('arrow', f'arrow-{shape}')}{''.join(parts)}</svg>"
  ).replace("url(#arrow)", f"url(#arrow-{shape})")
  return palette.themed(drawing)


_HEAD = (
  '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
  'orient="auto-start-reverse"><path d="M0 .8 7 4 0 7.2z" fill="#6d7178"/></marker></defs>'
)


def _cells(results: Mapping) -> dict[str, list[list[Box]]]:
  """Boxes by fold, of the policy's chain and, where there is one, the improver's."""
  curriculum = _stages(results, "rl", True) or [("", {})]
  improver = {
    "sft": [_one("M_PIT fine-tuned", "x, y_l → y_w", _stages(results, "sft", True))],
    "reward": [_one("R_PIT gap reward", "quality of y_1 − y_2", _stages(results, "reward", True))],
    "rl": [_curriculum(index, stage) for index, stage in enumerate(curriculum)],
    "held_out": [Box(("pit", "x, y_0 → M_PIT → y_1", "until R_PIT sees no gain"))],
  }
  policy = {
    "sft": [_one("M_P fine-tuned", "x → y_w", _stages(results, "sft", False))],
    "reward": [_one("R_P reward", "y_w above y_l", _stages(results, "reward", False))],
    "rl": [_one("M_P reinforced", "for R_P, near its start", _stages(results, "rl", False))],
    "held_out": [Box(("original", "x → M_P → y_0"))],
  }
  if results["recipe"] == "reward":  # nothing but reward models
    return {"reward": [policy["reward"], improver["reward"]]}
  chains = [policy] if results["recipe"] == "rlhf" else [policy, improver]
  return {fold: [chain[fold] for chain in chains] for fold in policy}


def _stages(results: Mapping, kind: str, second: bool) -> list[tuple[str, Mapping]]:
  seconds = results["seconds"]
  return [
    (name, {"seconds": seconds.get(name), **stage})
    for name, stage in results.get("stages", {}).items()
    if stage["kind"] in KINDS[kind]
    and second == any(word in name for word in IMPROVER)
    and not any(word in name for word in ABLATIONS)
  ]


def _one(title: str, task: str, stages: Sequence[tuple[str, Mapping]]) -> Box:
  return Box((title, task, *_effort(stages[0][1] if stages else {})))


def _curriculum(index: int, stage: tuple[str, Mapping]) -> Box:
  references = stage[1].get("references", ())
  references = [references] if isinstance(references, str) else list(references)
  named = " and ".join(REFERENCES.get(reference, reference) for reference in references)
  task = f"improves {named}" if named else "for R_PIT, near its start"
  return Box((f"M_PIT stage {index}", task, *_effort(stage[1])), "policy" in references)


def _effort(stage: Mapping) -> tuple[str, ...]:
  parts = [f"{stage['steps']:,} steps"] if stage.get("steps") else []
  parts += [cells.duration(stage["seconds"])] if stage.get("seconds") else []
  return (" · ".join(parts),) if parts else ()


def _title(results: Mapping, fold: str) -> tuple[str, str]:
  names = {"sft": "Fold 1", "reward": "Fold 2", "rl": "Fold 3", "held_out": "Held out"}
  rows = results.get("data", {}).get("folds", {}).get(fold)
  return names[fold], "" if rows is None else f"{rows:,} rows"


def _wide(columns):
  """Folds from left to right, chains from top to bottom."""
  width, distance = 225, 20
  starts, below = [], HEADING
  for chain in range(len(columns[0])):
    starts.append(below)
    below += max(_stack(column[chain]) for column in columns) + 2 * GAP
  placed = [
    [_pile(boxes, fold * (width + distance) + 12, start, width - 24, chain)
     for chain, (boxes, start) in enumerate(zip(column, starts, strict=True))]
    for fold, column in enumerate(columns)
  ]  # fmt: skip
  height = below - GAP
  bands = [(fold * (width + distance), 0, width, height) for fold in range(len(columns))]
  return placed, bands, (len(columns) * (width + distance) - distance, height)


def _tall(columns):
  """Folds from top to bottom, chains side by side."""
  placed, bands, below = [], [], 0
  chains = len(columns[0])
  width = (380 - 24 - (chains - 1) * GAP) // chains
  for column in columns:
    height = HEADING + max(_stack(boxes) for boxes in column) + GAP
    bands.append((0, below, 380, height))
    placed.append([
      _pile(boxes, 12 + chain * (width + GAP), below + HEADING, width, chain)
      for chain, boxes in enumerate(column)
    ])  # fmt: skip
    below += height + 20
  return placed, bands, (380, below - 20)


def _stack(boxes: Sequence[Box]) -> int:
  return sum(box.height for box in boxes) + GAP * (len(boxes) - 1)


def _pile(boxes: Sequence[Box], x: int, y: int, width: int, chain: int) -> list[Placed]:
  tint = palette.COLOURS["pit" if chain else "original"]
  placed = []
  for box in boxes:
    placed.append(Placed(box, x, y, width, tint))
    y += box.height + GAP
  return placed


def _arrows(placed: list[list[list[Placed]]], wide: bool) -> list[str]:
  parts = []
  for here, there in itertools.pairwise(placed):
    for boxes, following in zip(here, there, strict=True):
      parts.append(_link(boxes[-1], following[0], wide))
  for boxes in (chain for fold in placed for chain in fold):
    for upper, lower in itertools.pairwise(boxes):
      middle = upper.x + upper.width // 2
      parts.append(_path(f"M{middle} {upper.y + upper.box.height}V{lower.y - 1}"))
  if len(placed) < 3:
    return parts
  policy, *rest = placed[2]
  for item in (item for boxes in rest for item in boxes if item.box.takes_policy):
    parts.append(_samples(policy[0], item, wide))
  return parts


def _link(start: Placed, end: Placed, wide: bool) -> str:
  """The arrow to the next fold; it steps up where a curriculum has gone below its first stage."""
  if not wide:
    middle = start.x + start.width // 2
    return _path(f"M{middle} {start.y + start.box.height}V{end.y - 1}")
  side = start.x + start.width
  if start.y == end.y:
    return _path(f"M{side} {start.y + 30}H{end.x - 1}")
  return _path(f"M{side} {start.y + start.box.height - 14}h22V{end.y + 30}H{end.x - 1}")


def _samples(policy: Placed, stage: Placed, wide: bool) -> str:
  """The dashed arrow along which the finished policy's samples become references."""
  if wide:
    side = policy.x + policy.width
    return _path(f"M{side} {policy.y + 44}h7V{stage.y + 18}H{side + 1}", dashed=True)
  foot, height = policy.y + policy.box.height, stage.y + stage.box.height // 2
  return _path(f"M{policy.x + policy.width - 24} {foot}V{height}H{stage.x - 1}", dashed=True)


def _path(shape: str, dashed: bool = False) -> str:
  dash = ' stroke-dasharray="4 3"' if dashed else ""
  return (
    f'<path d="{shape}" fill="none" stroke="#6d7178" stroke-width="1.2"{dash} '
    f'marker-end="url(#arrow)"/>'
  )


def _band(x: int, y: int, width: int, height: int, title: tuple[str, str]) -> str:
  return (
    f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="6" fill="#f3f1ec"/>'
    f'<text x="{x + 12}" y="{y + 25}" font-size="13" font-weight="600" fill="{palette.INK}">'
    f'{title[0]}</text><text x="{x + width - 12}" y="{y + 25}" font-size="12" '
    f'text-anchor="end" fill="{palette.QUIET}">{title[1]}</text>'
  )


def _box(item: Placed) -> str:
  lines = []
  for index, line in enumerate(item.box.lines):
    style = f'font-weight="600" fill="{item.tint}"' if not index else f'fill="{palette.INK}"'
    y = item.y + PAD + 11 + LINE * index
    lines.append(
      f'<text x="{item.x + 11}" y="{y}" font-size="12.5" {style}>{_letters(line)}</text>'
    )
  return (
    f'<rect x="{item.x}" y="{item.y}" width="{item.width}" height="{item.box.height}" rx="5" '
    f'fill="{palette.WHITE}" stroke="{item.tint}" stroke-opacity=".45"/>{"".join(lines)}'
  )


def _letters(text: str) -> str:
  """Sets M_PIT and its like with a lowered index, in a way every browser knows."""
  lowered = r'\1<tspan dy="3" font-size="9.5">\2</tspan><tspan dy="-3">​</tspan>'
  return re.sub(r"\b([MRy])_(PIT|[Pwl0-9])\b", lowered, str(markupsafe.escape(text)))
