"""What published preference data call things: every schema's rows become prompt and two responses.

A schema is recognised by its fields. Comparisons of summaries (openai/summarize_from_feedback) have
`info`, `summaries` and `choice`; judgements of two outputs (AlpacaEval, AlpacaFarm) `instruction`,
`output_1`, `output_2` and `preference`; conversations have message lists as `chosen` and
`rejected`; dialogues (HH-RLHF) have texts of that name and no `prompt`. Everything else is left as
it is.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pit_jax.data import dialogues, rows

PARTS = {"SUBREDDIT": "subreddit", "TITLE": "title", "POST": "post", "ARTICLE": "article"}
OUTPUTS = ("output_1", "output_2")
MIDDLE, SURE = 5, 4  # of the annotators' scale, 1 to 9: no preference; steps to either end


def convert(fields: Any, has_dialogues: bool) -> Any:
  """Returns a row's fields with `prompt`, `chosen` and `rejected`, by the schema that they fit.

  Args:
    fields: of a row; what is no mapping is returned as it is.
    has_dialogues: whether texts `chosen` and `rejected` without a prompt are whole dialogues.

  Raises:
    rows.RowError: the fields fit a schema, but what they hold does not.
  """
  if not isinstance(fields, Mapping):
    return fields
  for fits, change in SCHEMAS:
    if fits(fields):
      return change(fields)
  if has_dialogues and "prompt" not in fields:
    return dialogues.split_pair(fields)
  return fields


def split_summaries(fields: Mapping) -> dict:
  """Returns a comparison of two summaries as a prompt with two responses.

  The prompt names the parts of the post, or of the news article, and ends in "TL;DR:". The
  annotator's confidence runs from 1, the first summary for certain, to 9, the second; the margin is
  its distance from the middle. Where it speaks for the other summary than `choice`, is no number,
  or is absent, there is none.

  Raises:
    rows.RowError: a part is missing, or `choice` is neither 0 nor 1.
  """
  info = fields["info"]
  summaries = rows.as_list(fields["summaries"]) if hasattr(fields["summaries"], "__len__") else []
  if not isinstance(info, Mapping) or not all(isinstance(one, Mapping) for one in summaries):
    raise rows.RowError("wrong type", "'info' and each of 'summaries' must be objects with fields")
  if len(summaries) != 2 or fields["choice"] not in (0, 1):
    detail = f"{len(summaries)} summaries and choice {fields['choice']!r}; use 2, and 0 or 1"
    raise rows.RowError("not a comparison", detail)
  parts = [
    f"{label}: {_part(info, name)}"
    for label, name in PARTS.items()
    if not rows.is_empty(info.get(name))
  ]
  if rows.is_empty(info.get("post")) and rows.is_empty(info.get("article")):
    raise rows.RowError("missing field", "'info' holds neither a post nor an article")
  choice = int(fields["choice"])
  return {
    **fields,
    "prompt": "\n\n".join([*parts, "TL;DR:"]),
    "chosen": rows.read_text(summaries[choice], "text"),
    "rejected": rows.read_text(summaries[1 - choice], "text"),
    "margin": _margin(fields, choice),
  }


def _part(info: Mapping, name: str) -> str:
  return ("r/" if name == "subreddit" else "") + rows.read_text(info, name)


def _margin(fields: Mapping, choice: int) -> float | None:
  extra = fields.get("extra")
  said = extra.get("confidence") if isinstance(extra, Mapping) else None
  try:
    toward_second = float(said) - MIDDLE
  except (TypeError, ValueError, OverflowError):
    return None
  margin = toward_second if choice else -toward_second
  return margin if 0 < margin <= SURE else None


def split_outputs(fields: Mapping) -> dict:
  """Returns a judgement between two outputs as a prompt with two responses.

  `preference` is 1 or 2, the output that was liked better. A weighted one lies between and stands
  for the nearer end. Who wrote them is kept where it is said. Numbers of outputs are columns and no
  places: annotators were shown them in an order of their own.

  Raises:
    rows.RowError: a text is missing, or neither output is preferred.
  """
  second = _prefers_second(fields["preference"])
  names = OUTPUTS[::-1] if second else OUTPUTS
  prompt = rows.read_text(fields, "instruction")
  if context := rows.read_optional(fields, "input"):
    prompt = f"{prompt}\n\n{context}"
  chosen, rejected = (rows.read_text(fields, name) for name in names)
  writers = (fields.get(name.replace("output", "generator")) for name in names)
  return {
    **fields,
    "prompt": prompt,
    "chosen": chosen,
    "rejected": rejected,
    **dict(zip(("chosen_generator", "rejected_generator"), writers, strict=True)),
  }


def _prefers_second(preference: Any) -> bool:
  """Returns whether a preference, 1 to 2, is for the second output."""
  try:
    value = float(preference)
  except (TypeError, ValueError) as error:
    detail = f"'preference' must be 1 or 2, not {preference!r}"
    raise rows.RowError("wrong type", detail) from error
  if not 1 <= value <= 2 or value == 1.5:
    raise rows.RowError(
      "no preference", f"'preference' must be 1 or 2, or nearer to one of them, not {preference!r}"
    )
  return value > 1.5


def _has_comparison(fields: Mapping) -> bool:
  return {"info", "summaries", "choice"} <= fields.keys()


def _has_outputs(fields: Mapping) -> bool:
  return {"instruction", "preference", *OUTPUTS} <= fields.keys()


def _has_messages(fields: Mapping) -> bool:
  return all(rows.is_messages(fields.get(name)) for name in ("chosen", "rejected"))


SCHEMAS: list[tuple[Callable[[Mapping], bool], Callable[[Mapping], dict]]] = [
  (_has_comparison, split_summaries),
  (_has_outputs, split_outputs),
  (_has_messages, dialogues.split_messages),
]
