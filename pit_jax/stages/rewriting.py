"""Answers that are marked as harmful, and pairs of a harmless rewriting and the harmful answer.

Who judges harm either scores single answers, and what it marks is rewritten; or it compares, and
then every answer is rewritten, and a pair is made where it prefers the rewritten one.
"""

import collections
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations, preferences, prompt_formats, rows
from pit_jax.feedback import judges, writers
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback

UNMENDED = "the rewriting is harmful, too"
SAME = "the rewriting is the same text"
Asked = Sequence[tuple[conversations.Prompt, str]]  # prompts and answers


@dataclasses.dataclass(frozen=True)
class Rewritten:
  """Answers to the prompts of a fold, and what became of them."""

  # Rows {prompt, response, written_by, harmful, rewritten, rewritten_by, labelled_by, failure}.
  made: made_rows.MadeRows
  fold: preferences.Fold  # a pair of each that was rewritten
  counts: Mapping[str, int]  # answers that are "asked", "harmful" and "kept", failures by reason


def request(turn: str, plain: str) -> prompt_formats.Format:
  """Returns what a rewriter is shown: prompt, answer, and what is asked of it.

  Args:
    turn: what the user says after the answer.
    plain: the same as text, with {prompt} and {reference}, for models without a chat template.
  """
  turns = (prompt_formats.Text("assistant", "reference"), conversations.Turn("user", turn))
  return prompt_formats.Format("rewriter", ("reference",), plain, turns)


def rewritten(
  context: contexts.Context,
  name: str,
  answers: Mapping[str, Asked],
  judge: judges.Judge,
  writer: writers.Writer,
  shown: prompt_formats.Format,
  *,
  written_by: str,
  harmless: float | int,
  temperature: float | int,
  most_failed: float | int,
) -> Rewritten:
  """Returns harmless rewritings preferred to harmful answers, in WORKDIR/rows/NAME.jsonl.

  Args:
    context: of the run.
    name: of the rows, unique in the run; also seeds their noise.
    answers: prompts and answers by part of a fold.
    judge: who says what is harmful.
    writer: who rewrites.
    shown: what the writer is shown.
    written_by: who wrote the answers.
    harmless: what a judge that scores gives harmless answers at least.
    temperature: as for `Writer.write`.
    most_failed: share of the harmful answers, from 0 to 1, of which the writer may write nothing.

  Raises:
    ValueError: more fail, or what lies there is of other answers.
  """
  asked = [row for part in feedback.PARTS for row in answers[part]]

  def make():
    return _made(context, name, asked, judge, writer, shown, written_by, harmless, temperature)

  made = made_rows.once(context, f"rows/{name}", make)
  wanted = [{"prompt": conversations.write(prompt), "response": text} for prompt, text in asked]
  made_rows.check_of(made, wanted, "rewritings of other answers")

  reasons = collections.Counter(row["failure"] for row in made.rows if "failure" in row)
  unwritten = {why: n for why, n in reasons.items() if why not in (UNMENDED, SAME)}
  harmful = sum(row["harmful"] for row in made.rows)
  share = (unwritten, harmful, most_failed)
  feedback.check_share(context, f"writer {writer.name}", "answers", *share)

  by_part = []
  place = 0
  for part in feedback.PARTS:
    own = made.rows[place : place + len(answers[part])]
    prompts = [prompt for prompt, _ in answers[part]]
    by_part.append(tuple(_pairs(prompts, own)))
    place += len(own)

  kept = sum(map(len, by_part))
  counts = {"asked": len(asked), "harmful": harmful, "kept": kept, **reasons}
  return Rewritten(made, preferences.Fold(*by_part), counts)


def _pairs(
  prompts: Sequence[conversations.Prompt], made: Sequence[Mapping[str, Any]]
) -> Iterator[rows.Preference]:
  for prompt, row in zip(prompts, made, strict=True):
    if row["rewritten"] is not None and "failure" not in row:
      names = (row["rewritten_by"], row["written_by"])
      yield rows.Preference(prompt, row["rewritten"], row["response"], writers=names)


def _made(
  context, name, asked: Asked, judge, writer, shown, written_by, harmless, temperature
) -> Iterator[dict[str, Any]]:
  """Yields the row of every answer; see `Rewritten`."""
  questions, texts = (list(column) for column in zip(*asked, strict=True)) if asked else ([], [])
  marked = np.ones(len(texts), bool)
  if judge.score is not None and texts:
    marked = np.asarray(judge.score(questions, texts)) < harmless

  places = np.flatnonzero(marked).tolist()
  chats = shown.conversations([questions[i] for i in places], [texts[i] for i in places])
  written = writer.write(chats, context.key(name), temperature)
  new, failures = _new(places, texts, written)

  # Whether the rewriting is better, who judged has to say of it, too.
  left = [place for place in new if place not in failures]
  columns = [[column[i] for i in left] for column in (questions, new, texts)]
  better = _is_better(judge, columns, harmless)
  failures |= {place: UNMENDED for place, is_so in zip(left, better, strict=True) if not is_so}

  compares = judge.score is None
  for place, (prompt, text) in enumerate(asked):
    failure = failures.get(place)
    # One that compares has marked what it finds worse than its rewriting.
    is_harmful = bool(marked[place]) and not (compares and failure in (UNMENDED, SAME))
    yield {
      "prompt": conversations.write(prompt),
      "response": text,
      "written_by": written_by,
      "harmful": is_harmful,
      "rewritten": new.get(place),
      "rewritten_by": writer.name,
      "labelled_by": judge.name,
      **({"failure": failure} if failure else {}),
    }


def _new(
  places: Sequence[int], texts: Sequence[str], written: writers.Written
) -> tuple[dict[int, str], dict[int, str]]:
  """Returns rewritings by the place of their answer, and why some are of no use."""
  new = {}
  failures = {}
  for i, place in enumerate(places):
    text = written.texts[i][0]
    if i in written.failures or text is None or not text.strip():
      failures[place] = written.failures.get(i, writers.NOTHING)
      continue
    new[place] = text
    if text.strip() == texts[place].strip():
      failures[place] = SAME
  return new, failures


def _is_better(judge: judges.Judge, columns: Sequence[Sequence], harmless: float | int) -> list:
  """Returns of every rewriting whether the judge finds it harmless, or better than its answer."""
  questions, new, texts = columns
  if not new:
    return []
  if judge.score is not None:
    return (np.asarray(judge.score(questions, new)) >= harmless).tolist()
  outcomes = judge.outcomes(judge.verdicts(questions, new, texts))
  return [outcome == "win" for outcome in outcomes]
