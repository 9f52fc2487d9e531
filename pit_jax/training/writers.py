"""Writers of metrics: JSON lines, TensorBoard, Weights & Biases, and the terminal.

A writer takes plain floats. On resume the files lose what a killed run wrote after its last
checkpoint, so that they read as if the run had never been interrupted.
"""

import json
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, TextIO, runtime_checkable

import rich.console
import rich.markup
import rich.progress

from pit_jax import compiling, progress
from pit_jax.training import timing

# What the terminal shows of a step, as far as it was measured; the files have everything.
HEADLINE = (
  "loss", "accuracy", "margin", "order",
  "objective/score", "objective/kl", "policy/loss", "value/loss",
)  # fmt: skip
HEADLINE_LENGTH = 4


@runtime_checkable
class Writer(Protocol):
  """Anything that takes the metrics of a step."""

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Takes the metrics after `step` completed steps."""

  def close(self) -> None:
    """Finishes what was written."""


class JsonLines:
  """One JSON object per line with its `step`; numbers that are not finite are written as null.

  The first row creates the file with its folder. Rows after the step at which it is opened, and a
  row that was cut off, are removed first.
  """

  def __init__(self, path: str | os.PathLike, step: int = 0):
    self._path = os.fspath(path)
    self._file: TextIO | None = None
    if os.path.exists(self._path):
      temporary = f"{self._path}.tmp"
      with open(temporary, "w", encoding="utf-8") as file:
        file.writelines(_line(row) for row in read(self._path) if row["step"] <= step)
      os.replace(temporary, self._path)  # at once, so that a kill here loses no row

  def write(self, step: int, metrics: Mapping[str, Any]) -> None:
    """Appends a row and hands it to the operating system, so that it survives this process."""
    self.write_rows(step, [metrics])

  def write_rows(self, step: int, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends several rows of one step, such as samples."""
    if self._file is None:  # only now, so that a stage without samples has no such file
      os.makedirs(os.path.dirname(self._path) or ".", exist_ok=True)
      self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115, closed by close()

    self._file.writelines(_line({"step": step, **row}) for row in rows)
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    if self._file is not None:
      self._file.close()


def read(path: str | os.PathLike) -> list[dict[str, Any]]:
  """Returns the rows of a JSON-lines file, [] if absent, less a last row that was cut off."""
  if not os.path.exists(path):
    return []
  with open(path, encoding="utf-8") as file:
    lines = [line for line in file.read().split("\n") if line]
  rows = []

  for number, line in enumerate(lines, start=1):
    try:
      rows.append(json.loads(line))
    except json.JSONDecodeError as error:
      # A kill cuts the last line alone; anywhere else the file is damaged.
      if number < len(lines):
        raise ValueError(f"{os.fspath(path)}, line {number}: not JSON ({error})") from error

  return rows


def _line(row: Mapping[str, Any]) -> str:
  return json.dumps({key: _finite(value) for key, value in row.items()}, ensure_ascii=False) + "\n"


def _finite(value: Any) -> Any:
  return None if isinstance(value, float) and not math.isfinite(value) else value


class TensorBoard:
  """Scalars for TensorBoard, which hides what an earlier run wrote after the given step."""

  def __init__(self, directory: str | os.PathLike, step: int = 0):
    import tensorboardX  # here because it takes a second to import

    self._writer = tensorboardX.SummaryWriter(os.fspath(directory), purge_step=step + 1)

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Adds one point per metric."""
    for name, value in metrics.items():
      self._writer.add_scalar(name, value, step)

  def close(self) -> None:
    """Writes what is still buffered."""
    self._writer.close()


class WeightsAndBiases:
  """Metrics for a project on wandb.ai; needs the extra `wandb`.

  `run` identifies the run, so that a restarted one continues its curves.
  """

  def __init__(self, project: str, run: str):
    try:
      import wandb
    except ImportError as error:
      raise ValueError("this writer needs wandb; pip install 'pit_jax[wandb]'") from error

    self._run = wandb.init(project=project, id=run, resume="allow")

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Sends the metrics of one step."""
    self._run.log(dict(metrics), step=step)

  def close(self) -> None:
    """Marks the run as finished."""
    self._run.finish()


class Progress:
  """Progress for a person: a bar with rate and time left, or a line per log off a terminal.

  The rate is that of the steps after the first, without what was compiled meanwhile. The time left
  goes by those between two logged ones in which nothing was compiled, once there are some: a new
  program is traced and read too, and that comes once.

  Args:
    stage: the name in front.
    step: completed steps at the start.
    steps: steps in all.
    outlook: what else the run has to do; None where that is not known.
    console: where to write; by default the standard output.
  """

  def __init__(
    self,
    stage: str,
    step: int,
    steps: int,
    outlook: timing.Outlook | None = None,
    console: rich.console.Console | None = None,
  ):
    self._stage = stage
    self._first = step + 1
    self._steps = steps
    self._outlook = outlook or timing.Outlook({})
    self._named = f"{self._outlook.place(stage)}{stage}"
    self._compiled = compiling.seconds()  # before the stage

    # A line of a log stays one line, however narrow the terminal.
    self._console = console or rich.console.Console(soft_wrap=True, highlight=False)
    self._began: float | None = None
    self._mark: tuple[int, float, float] | None = None  # last logged step, when, compiled till then
    self._calm_steps = 0  # those between two logged ones without compiling
    self._calm_seconds = 0.0  # and what they took
    self._bar = rich.progress.Progress(
      rich.progress.TextColumn("{task.description:<24}", style="bold"),
      rich.progress.BarColumn(bar_width=24),
      rich.progress.MofNCompleteColumn(),
      rich.progress.TextColumn("{task.fields[pace]}"),
      rich.progress.TextColumn("{task.fields[metrics]}", style="dim"),
      console=self._console,
      disable=not self._console.is_terminal,
    )

    description = rich.markup.escape(self._named)
    self._task = self._bar.add_task(description, total=steps, completed=step, pace="", metrics="")
    self._bar.start()

  def rate(self, step: int) -> float | None:
    """Returns steps per second since the first one, all included; None until a second is done.

    What was compiled meanwhile is left out.
    """
    if self._began is None or step <= self._first:
      return None
    return (step - self._first) / max(time.monotonic() - compiling.seconds() - self._began, 1e-9)

  def advance(self, step: int) -> None:
    """Moves the bar; the first step starts the clock."""
    if self._began is None:
      self._began = time.monotonic() - compiling.seconds()
      self._look(step)
    self._bar.update(self._task, completed=step, pace=self._pace(step))

  def left(self, step: int) -> timing.Left | None:
    """Returns what is left of the run after a step; None where that is not known."""
    rate = self.rate(step)
    if not rate:
      return None
    seconds = self._calm_seconds / self._calm_steps if self._calm_steps else 1 / rate
    compiled = compiling.seconds() - self._compiled
    return self._outlook.left(self._stage, self._steps - step, seconds, compiled, total=self._steps)

  def _look(self, step: int) -> None:
    """Counts the steps since the last look, if nothing was compiled meanwhile.

    It is for logged steps, which are waited for: between others there is only their dispatch.
    """
    now = time.monotonic()
    compiled = compiling.seconds()
    if self._mark is not None and compiled == self._mark[2]:
      self._calm_steps += step - self._mark[0]
      self._calm_seconds += now - self._mark[1]
    self._mark = (step, now, compiled)

  def _pace(self, step: int) -> str:
    """Returns the rate, and what is left of the run or else of the stage, in words."""
    rate = self.rate(step)
    if rate is None:
      return f"compiled in {progress.duration(compiling.seconds() - self._compiled)}"
    left = self.left(step)
    seconds = (self._steps - step) / rate if left is None else left.total
    about = "" if left is None else "about "
    return f"{rate:.2f} steps/s  {about}{progress.duration(seconds)} left"

  def write(self, step: int, metrics: Mapping[str, float]) -> None:
    """Shows the headline metrics of a step."""
    progress.said()
    if self._began is not None:
      self._look(step)
    if self._console.is_terminal:
      self._bar.update(self._task, metrics="  ".join(headline(metrics)))
      return

    # Where there is no room for all, metrics give way to how far the run is.
    pace = self._pace(step)
    begin = f"{self._named} {step}/{self._steps}"
    texts = headline(metrics)
    while texts and len("  ".join([begin, *texts, pace])) > progress.WIDTH:
      texts.pop()
    self._console.print("  ".join([begin, *texts, pace]), markup=False)

  def end(self, seconds: float, kept: int, figures: Mapping[str, float]) -> None:
    """Says that the stage is finished, in so many seconds, and what it is known by.

    The figures are those of the step that was kept, which is named where it is not the last.
    """
    compiled = compiling.seconds() - self._compiled
    took = f"{progress.duration(seconds)}, {progress.duration(compiled)} of it compiling"
    known = [f"{label} {value:.4g}" for label, value in figures.items()]
    if kept != self._steps:
      known.insert(0, f"step {kept} kept")
    self._console.print(progress.joined(f"{self._named} done in {took}", *known), markup=False)
    if (left := self.left(self._steps)) and left.total:
      parts = ("training", "compiling", "evaluation")
      named = ", ".join(f"{part} {progress.duration(getattr(left, part))}" for part in parts)
      self._console.print(f"  left about {progress.duration(left.total)}: {named}", markup=False)

  def close(self) -> None:
    """Leaves the finished bar on the screen."""
    self._bar.stop()


def headline(metrics: Mapping[str, float]) -> list[str]:
  """Returns the few metrics worth a person's glance, the first one first."""
  rest = [name for name in metrics if name not in HEADLINE and not name.startswith("perf/")]
  names = [name for name in HEADLINE if name in metrics] + rest
  return [f"{name} {metrics[name]:.4g}" for name in names[:HEADLINE_LENGTH]]
