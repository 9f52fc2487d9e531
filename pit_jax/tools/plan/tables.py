"""The plan of a run in words and numbers."""

from collections.abc import Mapping, Sequence

from pit_jax import costs
from pit_jax.report import cells, printed
from pit_jax.run import abstract
from pit_jax.tools.plan import compiled, stages

ROLES = ("policy", "reference", "value", "reward", "earlier", "cache", "activations")
MODEL = """\
Memory is of the program that takes most, in GiB of each device. Before anything
is compiled, shapes and places say what its arguments take, and what else stays
meanwhile; `by hand` is how far the arguments so predicted are from those that
XLA counts. All that XLA adds is `activations`: they are read from the compiled
program and predicted by nothing else. `XLA` is its own figure for that program,
arguments and all; `total` is that with what stays beside it.
Time is a roofline: operations / peak, bytes / bandwidth, or bytes sent /
bandwidth of a ring, whichever takes longest, as if the others were hidden
behind it. Every response is as long as allowed. MFU counts the operations of
the mathematics, without those that rematerialisation repeats. Attention's
kernel is counted as if it left out no block, of which causal order leaves about
half, and its bytes as if it read every argument once. Evaluation and
calibration are not in it."""


def memory(stage: stages.Stage, made: compiled.Compiled) -> dict[str, int]:
  """Returns role → bytes of each device while one program of a stage runs."""
  size = abstract.device_bytes
  own = {role: size(tree) for role, tree in made.program.roles.items()}
  # What stays of a role and what the program takes of it are the same arrays: once is enough.
  by_role = {
    role: max(stage.kept.get(role, 0), own.get(role, 0)) + made.program.made.get(role, 0)
    for role in ROLES
  }
  counted = sum(own.values()) + sum(made.program.made.values())
  return by_role | {"activations": max(made.total - counted, 0)}


def row(stage: stages.Stage, made: compiled.Compiled, peak: costs.Peak, count: int) -> dict:
  """Returns what there is to say of one program of a stage, on so many devices."""
  by_role = memory(stage, made)
  total = sum(by_role.values())
  times = made.times(peak)
  seconds = made.seconds(peak)
  return {
    "stage": stage.name,
    "program": made.program.name,
    "memory": by_role,
    "total": total,
    "fits": made.error is None and total <= peak.memory,
    "xla": made.total,
    "error": made.error,
    "by_hand": made.by_hand / made.arguments - 1 if made.arguments else None,
    "flops": made.flops,
    "bytes": made.traffic.bytes,
    "sent": dict(made.traffic.collectives),
    "bound": max(times, key=times.get),
    "seconds": seconds,
    "mfu": made.program.flops / count / peak.flops / max(seconds, 1e-12),
    "largest": made.largest,
  }


def write(
  rows: Sequence[Mapping], steps: Mapping[str, int], chips: int, title: str, peak: costs.Peak
) -> str:
  """Returns the tables of a plan below its title; the other arguments are a `planning.Plan`'s."""
  parts = [title, "", _memory(rows, peak), "", _work(rows), "", _run(rows, steps, chips, peak)]
  parts += ["", MODEL]
  return "\n".join(parts)


def hours(rows: Sequence[Mapping], steps: Mapping[str, int]) -> dict[str, float]:
  """Returns the hours of each stage."""
  return {
    name: count * sum(row["seconds"] for row in rows if row["stage"] == name) / 3600
    for name, count in steps.items()
  }


def _memory(rows: Sequence[Mapping], peak: costs.Peak) -> str:
  columns = {
    "stage": lambda row: row["stage"],
    "program": lambda row: row["program"],
    f"fits {peak.memory / costs.GIB:.2f}": lambda row: "yes" if row["all_fit"] else "NO",
    "total": lambda row: _gib(row["total"]),
    "XLA": lambda row: _gib(row["xla"]),
    "by hand": lambda row: cells.BLANK if row["by_hand"] is None else f"{row['by_hand']:+.1%}",
    **{role: lambda row, role=role: _gib(row["memory"][role]) for role in ROLES},
  }

  shown = []
  for name in dict.fromkeys(row["stage"] for row in rows):
    own = [row for row in rows if row["stage"] == name]
    largest = max(own, key=lambda row: row["total"])
    shown.append({**largest, "all_fit": all(row["fits"] for row in own)})
  table = printed.grid(cells.select("memory", "", shown, columns, words=1))

  # Stages share programs, and a program that is too large is refused in the same words in each.
  refused: dict[str, dict[str, list[str]]] = {}
  for row in rows:
    if row["error"]:
      stages = refused.setdefault(row["error"], {}).setdefault(row["program"], [])
      stages.append(row["stage"])
  errors = [
    f"  {'; '.join(f'{name} of {_joined(stages)}' for name, stages in programs.items())}: {error}"
    for error, programs in refused.items()
  ]
  return "\n".join(["Memory, GiB of each device", table, *errors])


def _joined(stages: Sequence[str]) -> str:
  *others, last = dict.fromkeys(stages)
  return f"{', '.join(others)} and {last}" if others else last


def _gib(count: float | int) -> str:
  return f"{count / costs.GIB:.2f}"


def _work(rows: Sequence[Mapping]) -> str:
  kinds = {"all-gather": "gather", "all-reduce": "reduce", "reduce-scatter": "scatter"}
  columns = {
    "stage": lambda row: row["stage"],
    "program": lambda row: row["program"],
    "seconds": lambda row: f"{row['seconds']:.2f}",
    "bound": lambda row: row["bound"],
    "MFU": lambda row: f"{row['mfu']:.0%}",
    "TFLOP": lambda row: f"{row['flops'] / 1e12:,.1f}",
    "GB": lambda row: f"{row['bytes'] / 1e9:,.0f}",
    **{
      f"{name} GB": lambda row, kind=kind: f"{row['sent'].get(kind, 0) / 1e9:.2f}"
      for kind, name in kinds.items()
    },
  }

  return "Work of one program\n" + printed.grid(cells.select("work", "", rows, columns, words=2))


def _run(rows: Sequence[Mapping], steps: Mapping[str, int], chips: int, peak: costs.Peak) -> str:
  taken = hours(rows, steps)
  shown = []
  for name, count in steps.items():
    own = [row for row in rows if row["stage"] == name]
    seconds = sum(row["seconds"] for row in own)
    # Of the products there are in all, by what the chips could have done meanwhile.
    mfu = sum(row["mfu"] * row["seconds"] for row in own) / max(seconds, 1e-12)
    full = max(row["total"] for row in own) / peak.memory
    row = {"name": name, "steps": f"{count:,}", "seconds": f"{seconds:.2f}", "hours": taken[name]}
    shown.append(row | {"mfu": f"{mfu:.0%}", "memory": f"{full:.0%}"})
  shown.append({"name": "run", "hours": sum(taken.values())})

  columns = cells.columns({
    "stage": "name", "steps": "steps", "s/step": "seconds",
    "hours": lambda row: f"{row['hours']:.2f}",
    "chip-hours": lambda row: f"{row['hours'] * chips:,.0f}",
    "MFU": "mfu", "memory": "memory",
  })  # fmt: skip
  return "The run\n" + printed.grid(cells.select("run", "", shown, columns))
