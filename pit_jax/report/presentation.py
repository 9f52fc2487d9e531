"""What a report is told of a method: its words, colours, sections, drawings, and what it claims."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pit_jax.report import palette


@dataclasses.dataclass(frozen=True)
class System:
  """A system whose answers are compared."""

  about: str  # what it is
  colour: str = ""  # one of palette.py; "": one that follows from its name


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of the page."""

  name: str  # of its file, without the ending
  caption: str | Callable[[Mapping], str]  # a sentence or more, which may depend on the results
  # (results, presentation, whether it is for a wide page) → the figure; None where the results have
  # no numbers for it.
  draw: Callable[[Mapping, "Presentation", bool], Any]

  def said(self, results: Mapping) -> str:
    """Returns the caption over these results."""
    return self.caption(results) if callable(self.caption) else self.caption


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of the page, which is there where one of its tables or figures is."""

  title: str  # its heading
  # results → a `cells.Table`, or None; a table without rows is left out.
  tables: Sequence[Callable[[Mapping], Any]]
  figures: Sequence[Figure] = ()


@dataclasses.dataclass(frozen=True)
class Gate:
  """What a run has to show before its report may say more."""

  # results → whether it `passed`, and the `reason`; None where nothing depends on it.
  check: Callable[[Mapping], dict[str, Any] | None]
  # results → those that a page may show while the gate is shut.
  hold_back: Callable[[Mapping], dict[str, Any]]
  refusal: str  # the headline meanwhile, with {} for the reason
  remark: str  # what the page says of it


@dataclasses.dataclass(frozen=True)
class Presentation:
  """What a report says of a method beside its figures; what is left out has words of any method."""

  title: str = ""  # the method and where it was published
  systems: Mapping[str, System] = dataclasses.field(default_factory=dict)  # by name
  baseline: str = ""  # its comparisons stand first; "": the second system of the headline
  # The reward models that it trains and that judge → what they are, in a sentence.
  judges: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # Pair of systems → what does something, and to what.
  headlines: Mapping[tuple[str, str], tuple[str, str]] = dataclasses.field(default_factory=dict)
  # Results without a comparison → the headline.
  sentence: Callable[[Mapping], str] = lambda results: (
    f"A run of recipe {results['recipe']} without a comparison to report."
  )
  gate: Gate | None = None  # what a run has to show first
  # Results → claims, each with `outcome` and `sentence`, and a remark on all of them.
  claims: Callable[[Mapping], tuple[Sequence[Any], str]] = lambda results: ((), "")
  # Results → columns of the pipeline's drawing; None: its stages, as they are declared.
  diagram: Callable[[Mapping], Sequence[Any]] | None = None
  sections: Sequence[Section] | None = None  # of the page, in order; None: those of any method
  legend: str = ""  # what stands above samples, of the numbers beside their versions
  # Key of a sample → whose rounds on the same draft these are.
  others: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # What the page calls things → what they are, beside systems and judges; those it names are shown.
  terms: Mapping[str, str] = dataclasses.field(default_factory=dict)
  stages: Mapping[str, str] = dataclasses.field(default_factory=dict)  # name → what it does
  # Network that rewards a stage, as `kinds.Stage` has it → what the page calls that reward.
  rewards: Mapping[str, str] = dataclasses.field(default_factory=dict)
  # Results → groups of stages whose steps count together, as those of one optimisation.
  together: Callable[[Mapping], Sequence[Sequence[str]]] = lambda results: ()
  tags: Sequence[str] = ("preference-learning",)  # of the models' cards

  def colour(self, system: str) -> str:
    """Returns the colour of a system."""
    declared = self.systems.get(system)
    return declared.colour if declared and declared.colour else palette.other(system)


ANY = Presentation()  # of a method of which nothing is known but its results
