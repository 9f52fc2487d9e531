"""Critiques as units: listed by several critics, each unit classed alone, and merged into one.

What critics and a meta-critic reply is asked for once, all of one of them in one pass, and read
back; what is of no use is counted by kind.
"""

import collections
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from pit_jax import ranges
from pit_jax.data import conversations, critiques, prompt_formats, units
from pit_jax.feedback import writers
from pit_jax.run import allowed, made_rows
from pit_jax.run import context as contexts
from pit_jax.stages import asking, feedback

Drafts = Sequence[tuple[conversations.Prompt, str]]


def _is_form(template: Any) -> bool:
  try:
    return isinstance(template, str) and bool(units.Form(template, "none"))
  except ValueError:
    return False


def _is_grade(template: Any) -> bool:
  try:
    return isinstance(template, str) and critiques.Form(template).parts == ("score",)
  except ValueError:
    return False


ALLOWED = {
  "units.template": ranges.Range(
    "a text that begins with a word and {place}, with slots for some of "
    f"{', '.join(units.PARTS)}, in this order, each once and with a word before it",
    _is_form,
  ),
  "units.none": ranges.Range(
    "one line of text with a word in it",
    lambda value: isinstance(value, str) and "\n" not in value and bool(re.search(r"\w", value)),
  ),
  **dict.fromkeys(("units.lowest", "units.highest"), ranges.FINITE),
  "units.request": ranges.SAID,
  "units.plain": allowed.shows("unit_critic", "reference"),
  "units.max_tokens": ranges.COUNT,
  "grades.template": ranges.Range("a text with the one slot {score}", _is_grade),
  **dict.fromkeys(("grades.lowest", "grades.highest", "grades.accepted"), ranges.FINITE),
  "grades.request": ranges.SAID,
  "grades.plain": allowed.shows("meta_critic", "reference", "unit"),
}


class Review(NamedTuple):
  """A draft, and what a critic lists of it."""

  prompt: conversations.Prompt
  draft: str
  listed: units.Listed
  reply: str  # "" where there was none


@dataclasses.dataclass(frozen=True)
class Reviews:
  """Drafts of a fold with what a critic lists of each."""

  made: made_rows.MadeRows  # rows {prompt, draft, written_by, critique, criticised_by, failure}
  parts: Mapping[str, Sequence[Review]]  # part of the fold → all of its drafts

  @property
  def failures(self) -> dict[str, int]:
    """How many units or replies are lost, by kind."""
    lost = [
      failure for rows in self.parts.values() for row in rows for failure in row.listed.failures
    ]
    own = dict(collections.Counter(kind for kind in lost if kind not in units.FAILURES))
    return critiques.failures(lost, units.FAILURES) | own


def listed(
  context: contexts.Context,
  drafts: Mapping[str, Mapping[str, Drafts]],
  critics: Sequence[writers.Writer],
  form: units.Form,
  *,
  written_by: str,
  temperature: float | int,
  most_failed: float | int,
) -> dict[str, list[Reviews]]:
  """Returns what each critic lists of every draft, by the name of the drafts.

  Args:
    context: of the run.
    drafts: name → part of a fold → prompts and drafts. What a critic says of them lies in
      WORKDIR/rows/NAME_critiques_of_CRITIC.jsonl, whose name also seeds its noise. Each is asked
      about all of them in one pass, and critics behind endpoints at the same time.
    critics: who criticise.
    form: how they are asked, and how their replies are read.
    written_by: who wrote the drafts.
    temperature: as for `Writer.write`.
    most_failed: share of the drafts, from 0 to 1, of which a critic may have no critique; lost
      units of others are counted alone.

  Raises:
    ValueError: more fail, or what lies there is of other drafts.
  """
  asked = {}
  for name, own in drafts.items():
    everything = [draft for part in feedback.PARTS for draft in own[part]]
    facts = [
      {"prompt": conversations.write(prompt), "draft": draft, "written_by": written_by}
      for prompt, draft in everything
    ]
    asked[name] = Asked(_shown(form.format, everything), facts)
  passes = [
    (critic, {f"{name}_critiques_of_{critic.name}": one for name, one in asked.items()})
    for critic in critics
  ]
  made = replies(context, passes, column="critique", by="criticised_by", temperature=temperature)

  found: dict[str, list[Reviews]] = {name: [] for name in drafts}
  for critic, of_one in zip(critics, made, strict=True):
    for (name, own), rows in zip(drafts.items(), of_one.values(), strict=True):
      read = _reviews(rows, own, form)
      found[name].append(read)
      useless = collections.Counter(
        row.listed.failures[0]
        for some in read.parts.values() for row in some if not row.listed.is_useful
      )  # fmt: skip
      share = (useless, len(rows.rows), most_failed)
      feedback.check_share(context, f"critic {critic.name}", "drafts", *share)
  return found


def _reviews(made: made_rows.MadeRows, drafts: Mapping[str, Drafts], form: units.Form) -> Reviews:
  """Returns drafts with what the rows of a critic say of them."""
  rows = iter(made.rows)
  parts = {
    part: [review(form, *draft, row["critique"], row.get("failure"))
           for draft, row in zip(drafts[part], rows)]  # noqa: B905
    for part in feedback.PARTS
  }  # fmt: skip
  return Reviews(made, parts)


class Asked(NamedTuple):
  """What a writer is asked for a file of rows."""

  chats: Sequence[prompt_formats.Conversation]
  facts: Sequence[Mapping[str, Any]]  # what each row says beside the reply, and is known by


def replies(
  context: contexts.Context,
  passes: Sequence[tuple[writers.Writer, Mapping[str, Asked]]],
  *,
  column: str,
  by: str,
  temperature: float | int,
) -> list[dict[str, made_rows.MadeRows]]:
  """Returns each writer's reply to every conversation by the name of its rows, made once.

  Args:
    context: of the run.
    passes: who is asked → name of rows, unique in the run, which lie in WORKDIR/rows/NAME.jsonl;
      also seeds their noise → what is asked for them. See `asking.together`.
    column: what a row calls the reply.
    by: what it calls the writer.
    temperature: as for `Writer.write`.

  Raises:
    ValueError: what lies there are replies to something else.
  """
  requests = [
    (writer, {name: writers.Request(one.chats, context.key(name), temperature)
              for name, one in asked.items()})
    for writer, asked in passes
  ]  # fmt: skip
  written = asking.together(context, requests)

  def make(place, name):
    writer, asked = passes[place]
    own = written[place](name)
    for number, (fact, (text,)) in enumerate(zip(asked[name].facts, own.texts, strict=True)):
      failure = own.failures.get(number)
      known = {**fact, column: text, by: writer.name}
      yield {**known, **({"failure": failure} if failure else {})}

  made = []
  for place, (_, asked) in enumerate(passes):
    own = {
      name: made_rows.once(context, f"rows/{name}", functools.partial(make, place, name))
      for name in asked
    }
    for name, rows in own.items():
      made_rows.check_of(rows, asked[name].facts, "replies to other texts")
    made.append(own)
  return made


def review(
  form: units.Form, prompt: conversations.Prompt, draft: str, reply: str | None, failure: str | None
) -> Review:
  """Returns a draft with what a reply lists of it."""
  if failure:
    return Review(prompt, draft, units.Listed((), (failure,)), reply or "")
  requests = (form.asked,) if form.asked else ()
  return Review(prompt, draft, form.read(reply, (prompt, draft), requests), reply or "")


def grading(
  c: ml_collections.ConfigDict, units_form: units.Form
) -> tuple[prompt_formats.Format, critiques.Form]:
  """Returns what a meta-critic is shown of a unit, and how its grade is read, by a section."""
  form = critiques.Form(c.template, c.lowest, c.highest)
  asked = c.request.replace("{form}", c.template.format(score="…"))
  turns = (
    prompt_formats.Text("assistant", "reference"),
    conversations.Turn("user", units_form.asked),
    prompt_formats.Text("assistant", "unit"),
    conversations.Turn("user", asked),
  )
  return prompt_formats.Format("meta_critic", ("reference", "unit"), c.plain, turns), form


@dataclasses.dataclass(frozen=True)
class Classes:
  """Units of several critics, each classed alone."""

  made: made_rows.MadeRows  # rows {prompt, draft, unit, grade, graded_by, failure}
  # Part of the fold → draft → critic, in the order given → its units.
  parts: Mapping[str, Sequence[Sequence[tuple[units.Classed, ...]]]]
  failures: Mapping[str, int]  # why units have no grade → how many; they are not accepted

  def merged(self, part: str) -> list[tuple[units.Unit, ...]]:
    """Returns the accepted units of all critics as one critique of each draft."""
    return [
      units.merged(one for critic in critics for one in critic) for critics in self.parts[part]
    ]


def classed(
  context: contexts.Context,
  reviews: Mapping[str, Sequence[Reviews]],
  meta: writers.Writer,
  form: units.Form,
  section: ml_collections.ConfigDict,
  *,
  most_failed: float | int,
) -> dict[str, Classes]:
  """Returns all units of critics with the grade that each gets alone, by the name of their rows.

  A unit that several critics say of a draft in the same words is asked about once.

  Args:
    context: of the run.
    reviews: name of rows, unique in the run, which lie in WORKDIR/rows/NAME.jsonl → those of each
      critic, of the same drafts. All are asked about in one pass.
    meta: who grades.
    form: how a unit is written.
    section: how grades are asked for and read, and from which on a unit is accepted.
    most_failed: share of the units, from 0 to 1, of which there may be no grade.

  Raises:
    ValueError: more fail, or what lies there is of other units.
  """
  shown, grade = grading(section, form)
  keys = {name: _units_of(several, form) for name, several in reviews.items()}
  asked = {}
  for name, own in keys.items():
    facts = [{"prompt": conversations.write(prompt), "draft": draft, "unit": line}
             for prompt, draft, line in own]  # fmt: skip
    asked[name] = Asked(_shown(shown, own), facts)
  how = {"column": "grade", "by": "graded_by", "temperature": 0.0}
  (made,) = replies(context, [(meta, asked)], **how)

  found = {}
  for name, several in reviews.items():
    graded = {}
    for key, row in zip(keys[name], made[name].rows, strict=True):
      read, failure = grade.read(row["grade"])
      graded[key] = (read.score, row.get("failure") or failure)
    failures = collections.Counter(failure for _, failure in graded.values() if failure)
    share = (failures, len(graded), most_failed)
    feedback.check_share(context, f"meta-critic {meta.name}", "units", *share)

    of = functools.partial(_classes_of, graded, form, section.accepted)
    parts = {
      part: [tuple(map(of, rows)) for rows in zip(*(one.parts[part] for one in several),
                                                  strict=True)]
      for part in feedback.PARTS
    }  # fmt: skip
    found[name] = Classes(made[name], parts, dict(failures))
  return found


def _units_of(reviews: Sequence[Reviews], form: units.Form) -> list[tuple]:
  """Returns the distinct units of several critics, as prompt, draft and line."""
  rows = [row for one in reviews for part in feedback.PARTS for row in one.parts[part]]
  found = [(row.prompt, row.draft, form.line(unit)) for row in rows for unit in row.listed.units]
  return list(dict.fromkeys(found))


def _classes_of(
  graded: Mapping[tuple, tuple], form: units.Form, accepted: float | int, row: Review
) -> tuple[units.Classed, ...]:
  """Returns the units of a draft with their grades."""
  found = []
  for unit in row.listed.units:
    quality, failure = graded[row.prompt, row.draft, form.line(unit)]
    is_accepted = not failure and quality >= accepted
    found.append(units.Classed(unit, None if failure else quality, is_accepted))
  return tuple(found)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the values of the sections `units` and `grades` together."""
  for name in ("units", "grades"):
    c = config[name]
    if not c.lowest < c.highest:
      yield f"{name}.lowest={c.lowest} with {name}.highest={c.highest}; use a higher one there"
  c = config.grades
  if not c.lowest <= c.accepted <= c.highest:
    yield (
      f"grades.accepted={c.accepted} is no grade from grades.lowest={c.lowest} to grades.highest="
      f"{c.highest}; use one of these"
    )
  if config.units.max_tokens > config.data.max_response_length:
    yield (
      f"units.max_tokens={config.units.max_tokens} is more than data.max_response_length="
      f"{config.data.max_response_length}, and models learn to write critiques; use as much there"
    )


def _shown(
  form: prompt_formats.Format, rows: Sequence[Sequence]
) -> list[prompt_formats.Conversation]:
  """Returns what a format shows of each row: a prompt, and the texts beside it."""
  columns = [[row[place] for row in rows] for place in range(1 + len(form.texts))]
  return form.conversations(*columns)
