"""Critiques as units: listed by several critics, each unit classed alone, and merged into one.

What critics and a meta-critic reply is asked for once, all of it in one pass, and read back; what
is of no use is counted by kind.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import ml_collections

from pit_jax import progress, ranges
from pit_jax.data import conversations, critiques, prompt_formats, units
from pit_jax.feedback import writers
from pit_jax.run import allowed, made_rows
from pit_jax.run import context as contexts
from pit_jax.stages import feedback

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
  "units.none": ranges.SAID,
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
  name: str,
  drafts: Mapping[str, Drafts],
  critic: writers.Writer,
  form: units.Form,
  *,
  written_by: str,
  temperature: float | int,
  most_failed: float | int,
) -> Reviews:
  """Returns what a critic lists of every draft, in WORKDIR/rows/NAME.jsonl.

  Args:
    context: of the run.
    name: of the rows, unique in the run; also seeds their noise.
    drafts: prompts and drafts by part of a fold.
    critic: who criticises.
    form: how they are asked, and how their replies are read.
    written_by: who wrote the drafts.
    temperature: as for `Writer.write`.
    most_failed: share of the drafts, from 0 to 1, of which there may be no critique; lost units of
      others are counted alone.

  Raises:
    ValueError: more fail, or what lies there is of other drafts.
  """
  asked = [draft for part in feedback.PARTS for draft in drafts[part]]
  chats = _shown(form.format, asked)
  facts = [
    {"prompt": conversations.write(prompt), "draft": draft, "written_by": written_by}
    for prompt, draft in asked
  ]
  made = replies(
    context, name, chats, facts, critic, column="critique", by="criticised_by",
    temperature=temperature,
  )  # fmt: skip
  rows = iter(made.rows)
  parts = {
    part: [review(form, *draft, row["critique"], row.get("failure"))
           for draft, row in zip(drafts[part], rows)]  # noqa: B905
    for part in feedback.PARTS
  }  # fmt: skip
  found = Reviews(made, parts)
  useless = collections.Counter(
    row.listed.failures[0] for some in parts.values() for row in some if not row.listed.is_useful
  )
  feedback.check_share(f"critic {critic.name}", "drafts", useless, len(asked), most_failed)
  return found


def replies(
  context: contexts.Context,
  name: str,
  chats: Sequence[prompt_formats.Conversation],
  facts: Sequence[Mapping[str, Any]],
  writer: writers.Writer,
  *,
  column: str,
  by: str,
  temperature: float | int,
) -> made_rows.MadeRows:
  """Returns a reply to every conversation, in WORKDIR/rows/NAME.jsonl, made once.

  Args:
    context: of the run.
    name: of the rows, unique in the run; also seeds their noise.
    chats: what is asked.
    facts: what each row says beside the reply, by which it is known again.
    writer: who is asked.
    column: what the row calls the reply.
    by: what it calls the writer.
    temperature: as for `Writer.write`.

  Raises:
    ValueError: what lies there are replies to something else.
  """

  def make():
    words = context.rows.settings.tokenizer
    said = [f"{conversations.said(one.prompt)} {' '.join(one.texts)}" for one in chats]
    tokens = sum(map(len, words.encode_batch(said)))
    progress.say(f"{writer.name}: {len(chats):,} texts to read for {name}, about {tokens:,} tokens")
    written = writer.write(chats, context.key(name), temperature)
    for place, (fact, (text,)) in enumerate(zip(facts, written.texts, strict=True)):
      failure = written.failures.get(place)
      known = {**fact, column: text, by: writer.name}
      yield {**known, **({"failure": failure} if failure else {})}

  made = made_rows.once(context, f"rows/{name}", make)
  if [{key: row.get(key) for key in fact} for fact, row in zip(facts, made.rows)] != [  # noqa: B905
    dict(fact) for fact in facts
  ] or len(made.rows) != len(facts):
    raise ValueError(
      f"{made.name}.jsonl holds replies to other texts; remove it, and they are made again"
    )
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
  name: str,
  reviews: Sequence[Reviews],
  meta: writers.Writer,
  form: units.Form,
  section: ml_collections.ConfigDict,
  *,
  most_failed: float | int,
) -> Classes:
  """Returns all units of critics with the grade that each gets alone, in WORKDIR/rows/NAME.jsonl.

  A unit that several critics say of a draft in the same words is asked about once.

  Args:
    context: of the run.
    name: of the rows, unique in the run.
    reviews: of each critic, of the same drafts.
    meta: who grades.
    form: how a unit is written.
    section: how grades are asked for and read, and from which on a unit is accepted.
    most_failed: share of the units, from 0 to 1, of which there may be no grade.

  Raises:
    ValueError: more fail, or what lies there is of other units.
  """
  shown, grade = grading(section, form)
  rows = [row for one in reviews for part in feedback.PARTS for row in one.parts[part]]
  asked = dict.fromkeys(
    (row.prompt, row.draft, form.line(unit)) for row in rows for unit in row.listed.units
  )
  chats = _shown(shown, list(asked))
  facts = [
    {"prompt": conversations.write(prompt), "draft": draft, "unit": line}
    for prompt, draft, line in asked
  ]
  made = replies(context, name, chats, facts, meta, column="grade", by="graded_by", temperature=0.0)
  graded = {}
  for key, row in zip(asked, made.rows, strict=True):
    read, failure = grade.read(row["grade"])
    graded[key] = (read.score, row.get("failure") or failure)

  failures = collections.Counter(failure for _, failure in graded.values() if failure)
  feedback.check_share(f"meta-critic {meta.name}", "units", failures, len(asked), most_failed)

  def of(row: Review) -> tuple[units.Classed, ...]:
    found = []
    for unit in row.listed.units:
      quality, failure = graded[row.prompt, row.draft, form.line(unit)]
      is_accepted = not failure and quality >= section.accepted
      found.append(units.Classed(unit, None if failure else quality, is_accepted))
    return tuple(found)

  parts = {
    part: [tuple(map(of, rows)) for rows in zip(*(one.parts[part] for one in reviews), strict=True)]
    for part in feedback.PARTS
  }
  return Classes(made, parts, dict(failures))


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
