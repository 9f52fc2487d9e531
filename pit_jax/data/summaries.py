"""Comparisons of two summaries, as OpenAI published them (openai/summarize_from_feedback)."""

from collections.abc import Mapping
from typing import Any

from pit_jax.data import values

PARTS = {"SUBREDDIT: r/": "subreddit", "TITLE: ": "title", "POST: ": "post", "ARTICLE: ": "article"}
# On the annotators' scale from 1 to 9: no preference, and the steps from it to either end.
MIDDLE = 5
SURE = 4


def convert(fields: Mapping) -> list[dict[str, Any]]:
  """Returns a comparison of two summaries as a preference.

  The prompt names the parts of the post, or of the news article, and ends in "TL;DR:". The
  annotator's confidence runs from 1, the first summary for certain, to 9, the second; the margin is
  its distance from the middle. Where it speaks for the other summary than `choice`, is no number,
  or is absent, there is none.

  Raises a `values.RowError` where a part is missing, or `choice` is neither 0 nor 1.
  """
  info = fields["info"]
  listed = values.as_list(fields["summaries"]) if hasattr(fields["summaries"], "__len__") else []
  if not isinstance(info, Mapping) or not all(isinstance(one, Mapping) for one in listed):
    detail = "'info' and each of 'summaries' must be objects with fields"
    raise values.RowError("wrong type", detail)

  if len(listed) != 2 or fields["choice"] not in (0, 1):
    detail = f"{len(listed)} summaries and choice {fields['choice']!r}; use 2, and 0 or 1"
    raise values.RowError("not a comparison", detail)

  named = {label: name for label, name in PARTS.items() if not values.is_empty(info.get(name))}
  if not {"post", "article"} & {*named.values()}:
    raise values.RowError("missing field", "'info' holds neither a post nor an article")
  parts = [label + values.read_text(info, name) for label, name in named.items()]
  choice = int(fields["choice"])

  preference = {
    "prompt": "\n\n".join([*parts, "TL;DR:"]),
    "chosen": values.read_text(listed[choice], "text"),
    "rejected": values.read_text(listed[1 - choice], "text"),
    "margin": _confidence(fields, choice),
  }

  return [preference]


def _confidence(fields: Mapping, choice: int) -> float | None:
  extra = fields.get("extra")
  confidence = extra.get("confidence") if isinstance(extra, Mapping) else None
  try:
    toward_second = float(confidence) - MIDDLE
  except (TypeError, ValueError, OverflowError):
    return None

  margin = toward_second if choice else -toward_second
  return margin if 0 < margin <= SURE else None
