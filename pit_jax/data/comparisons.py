"""Two responses to a prompt and a verdict between them, under whatever names."""

import itertools
import json
import numbers
from collections.abc import Mapping
from typing import Any

from pit_jax.data import rows, values

# What reads it of a row, and its further arguments, a column first. What it returns is below 0 for
# the first response, above 0 for the second, 0 for a tie.
Verdict = tuple


def compare(
  fields: Mapping,
  *,
  responses: tuple[str, str],
  verdict: Verdict,
  prompt: str | None = "prompt",
  context: str | None = None,
  writers: tuple[str, str] | None = None,
  scores: tuple[str, str] | None = None,
  has_margin: bool = False,
  is_in_order: bool = False,
) -> list[dict[str, Any]]:
  """Returns a judgement between two responses as a preference.

  Args:
    fields: of the row.
    responses: the columns of the two, texts or messages.
    verdict: reads which is better.
    prompt: the column of the prompt; None where the responses are whole conversations.
    context: the column of what belongs to the prompt and may be absent; it follows it.
    writers, scores: the columns of who wrote the two, and of their scores; they may be absent.
    has_margin: whether the verdict's size is the margin.
    is_in_order: whether the annotators were shown the two in this order.

  Raises:
    values.LeftOut: the verdict is a tie.
    values.RowError: a column is missing or of the wrong type.
  """
  read, *asked = verdict
  value = read(fields, *asked)
  if value == 0:
    raise values.LeftOut("no preference", "the verdict is a tie")
  better = 1 if value > 0 else 0
  sides = {"chosen": better, "rejected": 1 - better}
  preference = {name: _read_response(fields, responses[side]) for name, side in sides.items()}

  if prompt is not None:
    preference["prompt"] = read_prompt(fields, prompt, context)
  if writers is not None:
    preference |= {f"{name}_generator": fields.get(writers[side]) for name, side in sides.items()}
  if scores is not None:
    preference |= {f"score_{name}": fields.get(scores[side]) for name, side in sides.items()}
  if has_margin:
    preference["margin"] = abs(value)
  if is_in_order:
    preference["chosen_position"] = better + 1
  return [preference]


def rename(
  fields: Mapping,
  prompt: str,
  chosen: str = "chosen",
  rejected: str = "rejected",
  context: str | None = None,
) -> list[dict[str, Any]]:
  """Returns a preference whose parts have other names; `context` as for `compare`."""
  preference = {"prompt": read_prompt(fields, prompt, context)}
  preference["chosen"] = _read_response(fields, chosen)
  preference["rejected"] = _read_response(fields, rejected)
  return [preference]


def read_prompt(fields: Mapping, name: str, context: str | None = None) -> Any:
  """Returns a text or messages, and after a text what belongs to it.

  Raises a `values.RowError` where it is missing or of the wrong type, or messages have a context.
  """
  prompt = rows.read_prompt(fields, name)
  addition = None if context is None else values.read_optional(fields, context)
  if addition is None:
    return prompt
  if not isinstance(prompt, str):
    raise values.RowError("wrong type", f"{context!r} beside messages in {name!r}; leave it out")

  return f"{prompt}\n\n{addition}"


def _read_response(fields: Mapping, name: str) -> Any:
  value = fields.get(name)
  is_message = isinstance(value, Mapping) or values.is_messages(value)
  return value if is_message else values.read_text(fields, name)


def by_sign(fields: Mapping, column: str, most: float | int) -> float | int:
  """Reads a number from -most, the first response, to most, the second."""
  value = values.read_number(fields, column)
  if value is None or abs(value) > most:
    allowed = f"a number from {-most:g} to {most:g}"
    raise values.wrong_type(column, allowed, fields.get(column))
  return value


def by_name(fields: Mapping, column: str, first: str, second: str, *ties: str) -> float | int:
  """Reads a text or a whole number that names the better response, or a tie."""
  verdicts = {first: -1, second: 1, **dict.fromkeys(ties, 0)}
  value = fields.get(column)
  # One verdict is 1 in a JSON file and 1.0 in a table with gaps; both are named "1".
  is_number = isinstance(value, numbers.Real) and not values.is_empty(value)
  named = f"{value:g}" if is_number else values.read_text(fields, column)
  if named not in verdicts:
    raise values.wrong_type(column, f"one of {', '.join(verdicts)}", value)
  return verdicts[named]


def by_difference(fields: Mapping, first: str, second: str) -> float | int:
  """Compares the two responses' own scores."""
  scores = [values.read_number(fields, column) for column in (first, second)]
  if None in scores:
    raise values.RowError("missing field", f"{first!r} and {second!r} must both be numbers")
  return scores[1] - scores[0]


def by_weight(fields: Mapping, column: str) -> float | int:
  """Reads 1 or 2, the number of the better output, or a weight between; 0 and 1.5 are ties."""
  value = values.read_number(fields, column)
  if value is None or not (value == 0 or 1 <= value <= 2):
    raise values.wrong_type(column, "1 or 2, or nearer to one of them", fields.get(column))
  return 0.0 if value == 0 else value - 1.5


def by_flags(fields: Mapping, first: str, second: str) -> float | int:
  """Reads two columns of which one is 1 and the other 0; both 0 are a tie."""
  flags = [values.read_number(fields, column) for column in (first, second)]
  if flags not in ([0, 0], [0, 1], [1, 0]):
    detail = f"{first!r} and {second!r} must be 0 and 1, or both 0, not {flags}"
    raise values.RowError("wrong type", detail)
  return flags[1] - flags[0]


def arena_texts(fields: Mapping) -> list[dict[str, Any]]:
  """Returns a battle whose turns are JSON lists in text (lmsys/lmsys-arena-human-preference-55k).

  Raises a `values.RowError` where a list cannot be read, or the three are not of one length.
  """
  turns = {name: _json_texts(fields, name) for name in ("prompt", "response_a", "response_b")}
  if len(set(map(len, turns.values()))) > 1:
    lengths = ", ".join(f"{name}: {len(texts)}" for name, texts in turns.items())
    raise values.RowError("not a conversation", f"lists of one length are needed, not {lengths}")

  battle = dict(fields)
  for name in ("response_a", "response_b"):
    said = itertools.chain.from_iterable(zip(turns["prompt"], turns[name], strict=True))
    talk = zip(itertools.cycle(("user", "assistant")), said, strict=False)
    battle[name] = [{"role": role, "content": content} for role, content in talk]

  return compare(
    battle,
    prompt=None,
    responses=("response_a", "response_b"),
    verdict=(by_flags, "winner_model_a", "winner_model_b"),
    writers=("model_a", "model_b"),
    is_in_order=True,
  )


def _json_texts(fields: Mapping, name: str) -> list:
  """Returns a list in JSON, or of the text that is none."""
  text = values.read_text(fields, name)
  try:
    listed = json.loads(text)
  except (ValueError, RecursionError):
    return [text]

  return listed if isinstance(listed, list) else [text]


def openai(fields: Mapping) -> list[dict[str, Any]]:
  """Returns a row of OpenAI's format for preference fine-tuning.

  Raises a `values.RowError` where `input` holds no messages.
  """
  request = fields["input"]
  if not isinstance(request, Mapping) or "messages" not in request:
    raise values.RowError("missing field", "'input' must be an object with 'messages'")
  flat = {**fields, "input.messages": request["messages"]}
  return rename(flat, "input.messages", "preferred_output", "non_preferred_output")


def webgpt(fields: Mapping) -> list[dict[str, Any]]:
  """Returns a row of openai/webgpt_comparisons, whose question is an object with `full_text`.

  Raises a `values.RowError` where a text or a score is missing.
  """
  question = fields["question"]
  text = question.get("full_text") if isinstance(question, Mapping) else question
  return compare(
    {**fields, "question.full_text": text},
    prompt="question.full_text",
    responses=("answer_0", "answer_1"),
    verdict=(by_difference, "score_0", "score_1"),
    scores=("score_0", "score_1"),
    has_margin=True,
  )
