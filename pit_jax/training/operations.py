"""Operations around a stage: checkpoints that stay, records of failures, measurements."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping

from pit_jax.training import flight, timing, writers
from pit_jax.training import keeping as keepings


@dataclasses.dataclass(frozen=True)
class Operations:
  """Operations around the steps of a stage, which change none of their numbers.

  With a best checkpoint among those that are kept, every evaluated step is saved, and the state of
  the best one is returned.
  """

  keeping: keepings.Keeping = dataclasses.field(default_factory=keepings.Keeping)
  score: str = ""  # the metric of `evaluate` that says which is best
  recorder: flight.Recorder = dataclasses.field(default_factory=flight.Recorder)
  phases: timing.Phases | None = None  # of the parts of `advance`, if that tells of them
  trace: timing.Trace = dataclasses.field(default_factory=timing.Trace)
  # Makes more that take the logged metrics, for a stage that has steps left; closed at its end.
  extra_writers: Callable[[], Iterable[writers.Writer]] = tuple
  outlook: timing.Outlook | None = None  # of the run; None where it is not known
  # Metric → its label in the line about a finished stage, in order; those that were logged.
  figures: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def place(self, stage: str) -> str:
    """Returns which stage of the run this is; see `timing.Outlook.place`."""
    return self.outlook.place(stage) if self.outlook else ""
