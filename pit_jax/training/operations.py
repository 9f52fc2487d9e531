"""Operations around a stage: checkpoints that stay, records of failures, measurements."""

import dataclasses
from collections.abc import Callable, Iterable

from pit_jax.training import flight, timing, writers
from pit_jax.training import keeping as keepings


@dataclasses.dataclass(frozen=True)
class Operations:
  """Operations around the steps of a stage, which change none of their numbers.

  Attributes:
    keeping: which checkpoints stay on disk. With a best one, every evaluated step is saved, and
      the state of the best one is returned.
    score: the metric of `evaluate` that says which is best.
    recorder: which steps went wrong, and what is recorded of them.
    phases: measures the parts of `advance`, if that tells it of them.
    trace: steps to trace.
    extra_writers: makes more that take the logged metrics, for a stage that has steps left;
      closed at its end.
    outlook: what the run has to do after the stage; None where that is not known.
  """

  keeping: keepings.Keeping = dataclasses.field(default_factory=keepings.Keeping)
  score: str = ""
  recorder: flight.Recorder = dataclasses.field(default_factory=flight.Recorder)
  phases: timing.Phases | None = None
  trace: timing.Trace = dataclasses.field(default_factory=timing.Trace)
  extra_writers: Callable[[], Iterable[writers.Writer]] = tuple
  outlook: timing.Outlook | None = None
