"""Critiques of drafts: asked of a writer once, read back, and what is of no use counted.

Who criticises may be a teacher (a model behind an endpoint, a file, the embedded task's own) or a
model of the run: it is shown a prompt and a draft, and replies in the form of `critiques.Form`.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import ml_collections

from pit_jax import ranges
from pit_jax.data import conversations, critiques
from pit_jax.feedback import writers
from pit_jax.run import allowed, made_rows
from pit_jax.run import context as contexts
from pit_jax.stages import feedback
from pit_jax.types import Params

Drafts = Sequence[tuple[conversations.Prompt, str]]


def _is_form(template: Any) -> bool:
  try:
    return isinstance(template, str) and bool(critiques.Form(template))
  except ValueError:
    return False


ALLOWED = {
  "critique.template": ranges.Range(
    f"a text with slots for some of {', '.join(critiques.PARTS)}, in this order, each once and "
    "with a word before it, that ends with the last one",
    _is_form,
  ),
  **dict.fromkeys(("critique.lowest", "critique.highest"), ranges.FINITE),
  "critique.request": ranges.SAID,
  "critique.plain": allowed.shows("critic", "reference"),
  "critique.max_tokens": ranges.COUNT,
}


class Criticised(NamedTuple):
  """A draft, and what a reply made of it."""

  prompt: conversations.Prompt
  draft: str
  critique: critiques.Critique  # as much of it as could be read
  outcome: str  # critiques.REFINED or UNCHANGED, or why there is none: a failure
  text: str  # the better answer, or the draft where there is none
  reply: str  # "" where there was none

  @property
  def is_useful(self) -> bool:
    """Whether it is a critique with all its parts."""
    return self.outcome in (critiques.REFINED, critiques.UNCHANGED)


@dataclasses.dataclass(frozen=True)
class Criticisms:
  """Drafts of a fold with what a critic said of each."""

  made: made_rows.MadeRows  # rows {prompt, draft, written_by, critique, criticised_by, failure}
  parts: Mapping[str, Sequence[Criticised]]  # part of the fold → all of its drafts

  @property
  def useful(self) -> dict[str, list[Criticised]]:
    """Those that are critiques with all their parts, by part of the fold."""
    return {part: [row for row in rows if row.is_useful] for part, rows in self.parts.items()}

  @property
  def counts(self) -> dict[str, int]:
    """How many drafts were refined, were left unchanged, or have no critique, by kind."""
    outcomes = (row.outcome for rows in self.parts.values() for row in rows)
    return {critiques.REFINED: 0, critiques.UNCHANGED: 0, **collections.Counter(outcomes)}

  @property
  def failures(self) -> dict[str, int]:
    """Of the counts those without a critique."""
    useful = (critiques.REFINED, critiques.UNCHANGED)
    return {kind: count for kind, count in self.counts.items() if kind not in useful}


def criticised(
  context: contexts.Context,
  name: str,
  drafts: Mapping[str, Drafts],
  critic: writers.Writer,
  form: critiques.Form,
  *,
  written_by: str,
  temperature: float | int,
  most_failed: float | int,
) -> Criticisms:
  """Returns a critique of every draft, in WORKDIR/rows/NAME.jsonl; all are asked for in one pass.

  Args:
    context: of the run.
    name: of the rows, unique in the run; also seeds their noise.
    drafts: prompts and drafts by part of a fold.
    critic: who criticises.
    form: how they are asked, and how their replies are read.
    written_by: who wrote the drafts.
    temperature: as for `Writer.write`.
    most_failed: share of the drafts, from 0 to 1, of which there may be no critique; they are
      counted by kind.

  Raises:
    ValueError: more fail, or what lies there is of other drafts.
  """
  asked = [draft for part in feedback.PARTS for draft in drafts[part]]

  def make():
    replies, failures = _replies(critic, form, asked, context.key(name), temperature)
    for place, ((prompt, draft), reply) in enumerate(zip(asked, replies, strict=True)):
      failure = failures.get(place)
      yield {
        "prompt": conversations.write(prompt),
        "draft": draft,
        "written_by": written_by,
        "critique": reply,
        "criticised_by": critic.name,
        **({"failure": failure} if failure else {}),
      }

  made = made_rows.once(context, f"rows/{name}", make)
  wanted = [{"prompt": conversations.write(prompt), "draft": draft} for prompt, draft in asked]
  made_rows.check_of(made, wanted, "critiques of other drafts")

  rows = iter(made.rows)
  parts = {
    part: [_read(form, *draft, row["critique"], row.get("failure"), form.asked)
           for draft, row in zip(drafts[part], rows)]  # noqa: B905
    for part in feedback.PARTS
  }  # fmt: skip
  found = Criticisms(made, parts)
  share = (found.failures, len(asked), most_failed)
  feedback.check_share(context, f"critic {critic.name}", "drafts", *share)
  return found


def refined(
  critic: writers.Writer,
  form: critiques.Form,
  drafts: Drafts,
  key: jax.Array,
  temperature: float | int,
  read_as: critiques.Form | None = None,
) -> list[Criticised]:
  """Returns drafts with what a critic makes of each, of which nothing is kept.

  Args:
    critic: who criticises.
    form: how they are asked.
    drafts: prompts and drafts.
    key: source of noise.
    temperature: as for `Writer.write`.
    read_as: how their replies are read, where these have some of the parts alone; None: as asked.
  """
  replies, failures = _replies(critic, form, drafts, key, temperature)
  return [
    _read(read_as or form, *draft, reply, failures.get(place), form.asked)
    for place, (draft, reply) in enumerate(zip(drafts, replies, strict=True))
  ]


def of_model(
  context: contexts.Context, name: str, params: Params, c: ml_collections.ConfigDict
) -> writers.Writer:
  """Returns a model of the run as a critic, whose replies have the tokens of a section."""
  return writers.model(name, context.models.inference.reading(c.max_tokens), params)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the values of the section `critique` together."""
  c = config.critique
  if not c.lowest < c.highest:
    yield f"critique.lowest={c.lowest} with critique.highest={c.highest}; use a higher one there"


def _replies(
  critic: writers.Writer, form: critiques.Form, drafts: Drafts, key, temperature
) -> tuple[list[str | None], Mapping[int, str]]:
  """Returns a reply to every draft, and why some have none, by place."""
  columns = [[draft[side] for draft in drafts] for side in (0, 1)]
  written = critic.write(form.format.conversations(*columns), key, temperature)
  return [texts[0] for texts in written.texts], written.failures


def _read(
  form: critiques.Form,
  prompt: conversations.Prompt,
  draft: str,
  reply: str | None,
  failure: str | None,
  asked: str,
) -> Criticised:
  """Returns what a reply to a request makes of a draft."""
  if failure:
    return Criticised(prompt, draft, critiques.Critique(), failure, draft, reply or "")
  requests = (asked,) if asked else ()
  text, critique, outcome = form.refine(draft, reply, (prompt,), requests)
  return Criticised(prompt, draft, critique, outcome, text, reply or "")
