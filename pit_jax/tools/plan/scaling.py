"""How the cost of a step grows: with the length of texts, and with the number of chips.

Every chip has one row of a batch, whatever there is of either. So the work of a chip grows as the
length does, and with more chips not at all; what grows faster is named, with the largest arrays of
its program.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import matplotlib
import matplotlib.figure
import ml_collections

from pit_jax import costs
from pit_jax.report import cells, palette, panels, plots, printed
from pit_jax.run import kinds
from pit_jax.tools.plan import planning

SMALLEST = 0.01  # GiB of working memory, below which it is a matter of rounding and not of growth
# What grows → how it is read from a program's row, in its unit, and the unit.
QUANTITIES: dict[str, tuple[Callable[[Mapping], float], str]] = {
  "operations": (lambda row: row["flops"] / 1e12, "TFLOP"),
  "bytes": (lambda row: row["bytes"] / 1e9, "GB"),
  "sent": (lambda row: sum(row["sent"].values()) / 1e9, "GB"),
  # Weights and moments are there whatever the batch is.
  "working memory": (
    lambda row: max((row["memory"]["activations"] + row["memory"]["cache"]) / costs.GIB, SMALLEST),
    "GiB",
  ),
  "time": (lambda row: row["seconds"], "s"),
}
TINTS = (palette.BLUE, palette.TEAL, palette.RUST, palette.PURPLE, palette.MINT, *palette.OTHERS)
# By more than this the power of a growth has to be above that of the work to be named.
TOLERANCE = 0.1


@dataclasses.dataclass(frozen=True)
class Point:
  """A plan at one length on one topology."""

  at: int  # tokens of prompt and response together, or chips
  rows: Sequence[Mapping]  # of its programs; see `tables.row`


@dataclasses.dataclass(frozen=True)
class Growth:
  """How a quantity of one program grew, from the first point to the last at which it is known."""

  stage: str
  program: str
  quantity: str
  values: tuple[float | None, ...]  # at every point; None where the program does not fit
  power: float | None  # of the growth by the axis; None where it is not known at two points
  largest: tuple  # the largest arrays of the program at the last of these points


def sized(config: ml_collections.ConfigDict, length: int, chips: int) -> ml_collections.ConfigDict:
  """Returns a configuration whose texts have a length, half of it a response's, a row a chip.

  Args:
    config: of a run.
    length: tokens of a prompt and a response together, at least 2.
    chips: how many devices share a batch.
  """
  changed = config.copy_and_resolve_references().unlock()
  changed.data.max_response_length = length // 2
  changed.data.max_prompt_length = length - length // 2
  changed.inference_batch_size = chips
  for name in kinds.sections(changed):
    job = changed[name]
    job.batch_size, job.accumulation = chips * job.get("minibatches", 1), 1
  return changed.lock()


def grown(points: Sequence[Point]) -> list[Growth]:
  """Returns the growth of every quantity of every program, in order of the programs."""
  names = dict.fromkeys((row["stage"], row["program"]) for point in points for row in point.rows)
  found = []
  for stage, program in names:
    own = [next((row for row in point.rows
                 if (row["stage"], row["program"]) == (stage, program) and not row["error"]), None)
           for point in points]  # fmt: skip
    largest = next((tuple(row["largest"]) for row in reversed(own) if row), ())
    for quantity, (read, _) in QUANTITIES.items():
      values = tuple(None if row is None else read(row) for row in own)
      power = _power([point.at for point in points], values)
      found.append(Growth(stage, program, quantity, values, power, largest))
  return found


def _power(at: Sequence[int], values: Sequence[float | None]) -> float | None:
  """Returns p of value ~ at^p, from the first to the last point at which there is one."""
  known = [(x, y) for x, y in zip(at, values, strict=True) if y]
  if len(known) < 2:
    return None
  (first, low), *_, (last, high) = known
  return math.log(high / low) / math.log(last / first)


def faster(growths: Sequence[Growth], expected: float | int) -> list[Growth]:
  """Returns what grows faster than the work, which grows by a power that is expected."""
  return [one for one in growths if one.power is not None and one.power > expected + TOLERANCE]


def write(title: str, axis: str, points: Sequence[Point], expected: float | int) -> str:
  """Returns the tables of an axis, and what grows faster than its work."""
  growths = grown(points)
  parts = [title]
  for quantity, (_, unit) in QUANTITIES.items():
    own = [vars(one) for one in growths if one.quantity == quantity]
    columns = {name: lambda row, name=name: row[name] for name in ("stage", "program")}
    for i, point in enumerate(points):
      columns[f"{point.at:,}"] = lambda row, i=i: _value(row["values"][i])
    columns["power"] = lambda row: cells.BLANK if row["power"] is None else f"{row['power']:.2f}"
    table = printed.grid(cells.select(quantity, "", own, columns, words=2))
    parts += ["", f"{quantity[0].upper()}{quantity[1:]}, {unit} of each chip, by {axis}", table]
  parts += ["", *_named(growths, expected)]
  return "\n".join(parts)


def _value(value: float | None) -> str:
  return "does not fit" if value is None else f"{value:.3g}"


def _named(growths: Sequence[Growth], expected: float | int) -> Iterator[str]:
  """Yields what grows faster than its work; memory with the largest arrays of its program."""
  named = faster(growths, expected)
  yield f"Faster than the work, which grows by a power of {expected:g}: {len(named) or 'nothing'}"
  for one in named:
    yield f"  {one.quantity} of {one.program} in {one.stage}: {one.power:.2f}"
    if one.quantity == "working memory":
      for size, shape, _ in one.largest[:3]:
        yield f"    {size / costs.GIB:.2f} GiB {shape}"


def draw(axis: str, points: Sequence[Point], is_wide: bool = True) -> matplotlib.figure.Figure:
  """Draws every quantity by the axis, a line for each program of each stage.

  Both scales are logarithmic, but for a quantity of less than a decade, within which none of the
  scale's labels need stand.
  """
  growths = grown(points)
  names = list(dict.fromkeys((one.stage, one.program) for one in growths))
  with matplotlib.rc_context(palette.STYLE):
    titles = [f"{name}, {unit}" for name, (_, unit) in QUANTITIES.items()]
    figure, axes = panels.make_panels(titles, is_wide)
    for panel, quantity in zip(axes, QUANTITIES, strict=True):
      drawn = []
      for one in (growth for growth in growths if growth.quantity == quantity):
        known = [(p.at, y) for p, y in zip(points, one.values, strict=True) if y]
        place = names.index((one.stage, one.program))
        tint = TINTS[place % len(TINTS)]
        drawn += [y for _, y in known]
        if known:
          label = f"{one.stage}: {one.program}"
          panel.plot(*zip(*known, strict=True), "o-", color=tint, label=label, markersize=4)
      panel.set_xscale("log", base=2)
      if drawn and max(drawn) >= 10 * min(drawn):
        panel.set_yscale("log")
      elif drawn:
        panel.set_ylim(0, 1.1 * max(drawn))
      panel.set_xticks([p.at for p in points], [f"{p.at:,}" for p in points])
      panel.minorticks_off()
      panel.set_xlabel(axis)
    panels.shared_legend(figure, is_wide)
    plots.lay_out(figure)
  return figure


def record(points: Sequence[Point]) -> list[dict[str, Any]]:
  """Returns the points as JSON can hold them."""
  return [{"at": point.at, "programs": list(point.rows)} for point in points]


def measure(
  config: ml_collections.ConfigDict,
  recipe: kinds.Method,
  devices: Sequence[Any],
  length: int,
  rows: int,
  wanted: Sequence[str],
  compile: planning.Compiler,
) -> Sequence[Mapping]:
  """Returns the rows of a plan at a length on devices, a row of a batch each; see `planning.plan`.

  Raises:
    ValueError: the run cannot be planned so.
  """
  changed = sized(config, length, len(devices))
  peak = planning.peak_of(devices)
  return planning.plan(changed, recipe, devices, peak, rows, wanted, compile).rows
