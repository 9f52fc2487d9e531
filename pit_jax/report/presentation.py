"""What a report is told of a method: its words, colours, sections, drawings, and what it claims."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pit_jax.report import palette


@dataclasses.dataclass(frozen=True)
class System:
  """A system whose answers are compared.

  Attributes:
    about: what it is.
    colour: one of palette.py; "": one that follows from its name.
  """

  about: str
  colour: str = ""


@dataclasses.dataclass(frozen=True)
class Figure:
  """A figure of the page.

  Attributes:
    name: of its file, without the ending.
    caption: a sentence.
    draw: (results, presentation) → the figure; None where the results have no numbers for it.
  """

  name: str
  caption: str
  draw: Callable[[Mapping, "Presentation"], Any]


@dataclasses.dataclass(frozen=True)
class Section:
  """A section of the page, which is there where one of its tables or figures is.

  Attributes:
    title: its heading.
    tables: results → a `cells.Table`, or None; a table without rows is left out.
    figures: its figures.
    beside: whether the tables stand beside the first figure instead of below all.
  """

  title: str
  tables: Sequence[Callable[[Mapping], Any]]
  figures: Sequence[Figure] = ()
  beside: bool = False


@dataclasses.dataclass(frozen=True)
class Gate:
  """What a run has to show before its report may say more.

  Attributes:
    check: results → whether it `passed`, and the `reason`; None where nothing depends on it.
    hold_back: results → those that a page may show while the gate is shut.
    refusal: the headline meanwhile, with {} for the reason.
    remark: what the page says of it.
  """

  check: Callable[[Mapping], dict[str, Any] | None]
  hold_back: Callable[[Mapping], dict[str, Any]]
  refusal: str
  remark: str


@dataclasses.dataclass(frozen=True)
class Presentation:
  """What a report says of a method beside its figures; what is left out has words of any method.

  Attributes:
    title: the method and where it was published.
    systems: name → what it is.
    baseline: the system whose comparisons stand first; "": the second one of the headline.
    judges: the reward models that it trains and that judge → what they are, in a sentence.
    headlines: pair of systems → what does something, and to what.
    sentence: results without a comparison → the headline.
    gate: what a run has to show first.
    claims: results → claims, each with `outcome` and `sentence`, and a remark on all of them.
    diagram: results → columns of the pipeline's drawing; None: its stages, as they are declared.
    sections: of the page, in order; None: those that any method has.
    legend: what stands above samples, of the numbers beside their versions.
    others: key of a sample → whose rounds on the same draft these are.
    tags: of the models' cards.
  """

  title: str = ""
  systems: Mapping[str, System] = dataclasses.field(default_factory=dict)
  baseline: str = ""
  judges: Mapping[str, str] = dataclasses.field(default_factory=dict)
  headlines: Mapping[tuple[str, str], tuple[str, str]] = dataclasses.field(default_factory=dict)
  sentence: Callable[[Mapping], str] = lambda results: (
    f"A run of recipe {results['recipe']} without a comparison to report."
  )
  gate: Gate | None = None
  claims: Callable[[Mapping], tuple[Sequence[Any], str]] = lambda results: ((), "")
  diagram: Callable[[Mapping], Sequence[Any]] | None = None
  sections: Sequence[Section] | None = None
  legend: str = ""
  others: Mapping[str, str] = dataclasses.field(default_factory=dict)
  tags: Sequence[str] = ("preference-learning",)

  def colour(self, system: str) -> str:
    """Returns the colour of a system."""
    declared = self.systems.get(system)
    return declared.colour if declared and declared.colour else palette.other(system)


ANY = Presentation()  # of a method of which nothing is known but its results
