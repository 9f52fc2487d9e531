"""Chat completions: what a request says to an endpoint, and what its reply says.

Endpoints that call themselves OpenAI-compatible differ. Some refuse a parameter that others need
(OpenAI's newer models know `max_tokens` under another name and no temperature), some send contents
as parts, some reason before they answer. A request begins with what most of them take, and goes on
in the form that the endpoint's refusals leave (`adapted`).
"""

import bisect
import contextlib
import dataclasses
import email.utils
import itertools
import json
import math
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax.feedback import transcripts

LIMIT_NAMES = ("max_tokens", "max_completion_tokens")
TOP_LOGPROBS = (20, 5)  # tokens beside the first one: as many as OpenAI gives, and as vLLM does
REFUSING = (400, 403, 422)  # statuses with which endpoints refuse a parameter
# Marks around what a model thinks before it answers, where its server leaves it in the content.
REASONING = (
  ("<think>", "</think>"),
  ("<thinking>", "</thinking>"),
  ("<reasoning>", "</reasoning>"),
  ("[THINK]", "[/THINK]"),
  ("◁think▷", "◁/think▷"),
  ("<|channel|>analysis", "<|channel|>final<|message|>"),
)


@dataclasses.dataclass(frozen=True)
class Form:
  """The parameters of requests to an endpoint."""

  parameters: Mapping[str, Any]  # of every request, beside model and messages
  changes: tuple[str, ...] = ()  # what the endpoint's refusals changed of them, a phrase each


def form(
  temperature: float | int,
  max_tokens: int,
  *,
  is_weighed: bool,
  is_openai: bool,
  top_p: float | int | None = None,
) -> Form:
  """Returns the form in which an endpoint is asked first: OpenAI's own with the limit's newer name.

  Of a request that is weighed, log-probabilities are asked for. `top_p` is said where it is given.
  """
  weighing = {"logprobs": True, "top_logprobs": TOP_LOGPROBS[0]} if is_weighed else {}
  cutting = {} if top_p is None else {"top_p": top_p}
  limit = LIMIT_NAMES[1 if is_openai else 0]
  return Form({"temperature": temperature, limit: max_tokens, **cutting, **weighing})


def adapted(refused: Form, error: Exception) -> Form | None:
  """Returns the form without the parameter that a refusal names; None where it names none of it.

  The limit of tokens takes its other name, once, and is never left out: replies would cost what
  they like. Of `top_logprobs` fewer are asked for first. An error of the client openai has the
  status and, where the endpoint says so in a field of its own, which parameter it is.
  """
  if getattr(error, "status_code", None) not in REFUSING:
    return None
  parameters = dict(refused.parameters)
  named = [name for name in parameters if name == getattr(error, "param", None)]

  # Endpoints without such a field name the parameter in their words.
  named += [name for name in parameters if re.search(rf"\b{name}\b", words(error))]
  for name in named:
    if name in LIMIT_NAMES:
      (other,) = set(LIMIT_NAMES) - {name}
      change = f"{name} as {other}"
      # Renamed before: the endpoint knows neither name.
      if f"{other} as {name}" in refused.changes:
        continue
      parameters[other] = parameters.pop(name)
    elif name == "top_logprobs" and parameters[name] > TOP_LOGPROBS[-1]:
      parameters[name] = TOP_LOGPROBS[-1]
      change = f"top_logprobs={TOP_LOGPROBS[-1]}"
    else:
      parameters.pop(name)
      change = f"without {name}"
      if name == "logprobs":
        parameters.pop("top_logprobs", None)

    return Form(parameters, (*refused.changes, change))

  return None


def words(error: Exception) -> str:
  """Returns an endpoint's message on a request that failed, on one line.

  The client openai tells `error.message` of a body; servers made with FastAPI, transformers' among
  them, say `detail`, and proxies send a page: of such a body all is told.
  """
  body = getattr(error, "body", None)
  message = str(error)
  if isinstance(body, str):
    message = f"{message} {body}"
  elif body and not (isinstance(body, dict) and body.get("message")):
    message = f"{message} {json.dumps(body, ensure_ascii=False)}"

  return " ".join(f"{message} {error.__cause__ or ''}".split())


def read(content: str) -> tuple[transcripts.Reply, int | None]:
  """Returns the reply in the JSON of a chat completion, and how many tokens it counts, if it does.

  Raises:
    ValueError: it is no chat completion, or an error that came as one.
  """
  try:
    completion = json.loads(content)
    if error := completion.get("error"):  # some gateways send it with status 200
      raise ValueError(error.get("message") or error if isinstance(error, dict) else error)
    choice = completion["choices"][0]
    text = _text(choice["message"].get("content"))
    weighed = (choice.get("logprobs") or {}).get("content") or []
    reply = transcripts.Reply(text, _logprobs(weighed), choice.get("finish_reason") == "length")
    tokens = (completion.get("usage") or {}).get("total_tokens")
  except (LookupError, TypeError, AttributeError) as error:
    raise ValueError(f"{type(error).__name__}: {error}") from error

  return reply, tokens if isinstance(tokens, int) else None


def answer(text: str) -> str:
  """Returns a reply's answer without its reasoning, "" where it came to no end of that."""
  rest = text.strip()
  for opening, closing in REASONING:
    if rest.startswith("{"):  # an answer in JSON may speak of such marks
      break
    before, mark, thought = rest.partition(opening)

    if mark and (closing in thought or not before):
      rest = (before + thought.partition(closing)[2]).strip()
    elif closing in rest and not mark:  # the prompt's template wrote the opening one
      rest = rest.partition(closing)[2].strip()

  return rest


def asked_wait(headers: Mapping[str, str]) -> float:
  """Returns the seconds that an endpoint asks to wait for, 0.0 where it names none.

  `retry-after-ms` has milliseconds, `retry-after` seconds or a date.
  """
  for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
    with contextlib.suppress(ValueError):
      if math.isfinite(seconds := float(headers.get(name, "")) * unit):
        return max(seconds, 0.0)

  with contextlib.suppress(ValueError):
    date = email.utils.parsedate_to_datetime(headers.get("retry-after", ""))
    return max(date.timestamp() - time.time(), 0.0)

  return 0.0


def _text(content: Any) -> str:
  """Returns the text of a content, which may be parts; those of reasoning are no part of it."""
  if content is None or isinstance(content, str):
    return content or ""
  if not isinstance(content, list):
    raise TypeError(f"the content is {type(content).__name__} and no text")
  parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
  texts = [part["text"] for part in parts if part.get("type") in ("text", "output_text")]
  if not all(isinstance(text, str) for text in texts):
    raise TypeError("a part of the content holds no text")

  return "".join(texts)


def _logprobs(weighed: Sequence[Mapping[str, Any]]) -> dict[str, float] | None:
  """Returns the log-probabilities of what an answer may begin with, after reasoning and blanks."""
  tokens = [entry["token"] for entry in weighed]
  text = "".join(tokens)
  start = text.rfind(begun) if (begun := answer(text)) else 0
  # The token in which the answer begins, at its start or within it.
  ends = list(itertools.accumulate(map(len, tokens)))
  place = min(bisect.bisect_right(ends, start), len(tokens) - 1)

  tops = weighed[place]["top_logprobs"] if weighed else []
  logprobs = {top["token"]: float(top["logprob"]) for top in tops}
  if not all(map(math.isfinite, logprobs.values())):
    raise ValueError("a log-probability is not finite")
  return logprobs or None
