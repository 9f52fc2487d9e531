"""Asks a language model behind an OpenAI-compatible endpoint, and bears with one that misbehaves.

Every prompt ends with a reply or with the reason why there is none. What may pass (no connection,
time-outs, 408, 409, 429, 500 and above, replies that are no JSON of the wanted form) is tried
again, after longer and longer waits. What will not pass ends the asking: a refused key, an unknown
model, no money, a budget that is used up, too many prompts in a row without a reply.
"""

import concurrent.futures
import contextlib
import dataclasses
import json
import math
import os
import pathlib
import random
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pit_jax import hosts
from pit_jax.evaluate import transcripts

KEY = "OPENAI_API_KEY"  # the environment variable with the key
ADDRESS = "OPENAI_BASE_URL"  # and that with the endpoint, where none is configured
OPENAI = "api.openai.com"
LONGEST_WAIT = 60.0  # seconds between two attempts
PATIENCE = 20  # prompts in a row without a reply, after all attempts, before the asking ends
PASSING = (408, 409, 429)  # and 500 and above: the same request may fare better later
FINAL = {401: "key refused", 402: "not paid for", 404: "no such model or address"}
BYTES_PER_TOKEN = 4  # where an endpoint does not say how many tokens it counted
DETAIL = 300  # letters of an endpoint's own words that are kept


@dataclasses.dataclass(frozen=True)
class Settings:
  """How an endpoint is asked.

  Attributes:
    model: as the endpoint names it.
    base_url: of the endpoint; "" is the client's own choice, the environment's or OpenAI's.
    is_weighed: whether the log-probabilities of the first token are asked for.
    temperature: divides the logits; 0 takes the most likely tokens.
    max_tokens: the most tokens of a reply.
    requests_per_minute: begun in any minute, evenly; 0 for no limit.
    budget_requests: the most requests in all, attempts included; 0 for no limit.
    budget_tokens: prompts and replies; no request is made beyond, but those under way end. 0 for
      no limit.
    retries: attempts after the first.
    wait: seconds before the second attempt, at most; doubled before each further one.
    timeout: seconds without a sign of the endpoint.
    concurrency: requests under way at any time, at most.
  """

  model: str
  base_url: str
  is_weighed: bool
  temperature: float | int
  max_tokens: int
  requests_per_minute: float | int
  budget_requests: int
  budget_tokens: int
  retries: int
  wait: float | int
  timeout: float | int
  concurrency: int


@dataclasses.dataclass
class _Line:
  """What the requests under way share."""

  lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
  ended: threading.Event = dataclasses.field(default_factory=threading.Event)
  ending: tuple[str, str] = ("", "")  # failure and detail of all that is not asked any more
  next_start: float = 0.0  # of a request, on the monotonic clock
  without_reply: int = 0  # prompts in a row

  def end(self, failure: str, detail: str) -> transcripts.Reply:
    """Ends the asking, once, and returns the reply of whatever was not asked."""
    with self.lock:
      if not self.ended.is_set():
        self.ending = failure, detail
        self.ended.set()
      return transcripts.Reply(failure=self.ending[0], detail=self.ending[1])

  def missed(self, reply: transcripts.Reply) -> transcripts.Reply:
    """Counts a prompt that had no reply in all its attempts, and ends the asking after too many."""
    with self.lock:
      self.without_reply += 1
      is_enough = self.without_reply >= PATIENCE
    if is_enough:
      many = f"{PATIENCE} prompts in a row had no reply, the last because of: {reply.detail}"
      self.end("endpoint given up", many)
    return reply

  def wait_for_turn(self, per_minute: float | int) -> None:
    """Returns when another request may begin."""
    if not per_minute:
      return
    with self.lock:
      start = max(self.next_start, time.monotonic())
      self.next_start = start + 60 / per_minute
    self.ended.wait(start - time.monotonic())


class _Unusable(Exception):
  """A reply that came and is no chat completion."""


class _Problem(NamedTuple):
  """What a failed attempt means."""

  failure: str  # one of few phrases
  detail: str  # in the endpoint's own words
  may_pass: bool = True  # whether the same request may fare better later
  is_final: bool = False  # whether all other requests will fail too


class Endpoint:
  """A model behind an endpoint; `ask` it.

  Attributes:
    address: of the endpoint.
    name: of model and address, under which spending is counted.
  """

  def __init__(self, settings: Settings, path: str | os.PathLike):
    """Connects to nothing yet.

    Args:
      settings: how it is asked.
      path: the file of transcripts, where spending is counted.

    Raises:
      ValueError: the client is not installed, or there is no key.
    """
    check(settings.base_url)
    import openai

    self._openai, self._settings, self._path = openai, settings, pathlib.Path(path)
    self._key = os.environ.get(KEY, "").strip()
    self._client = openai.OpenAI(
      api_key=self._key or "none",  # many a server wants none
      base_url=settings.base_url or None,
      max_retries=0,  # attempts are ours: each is counted, and waits its turn
      timeout=settings.timeout,
    )
    self._line = _Line()
    self.address = str(self._client.base_url)
    self.name = f"{settings.model} at {self.address}"

  def ask(
    self, prompts: Sequence[str], file: transcripts.Transcripts | None
  ) -> Iterator[tuple[int, transcripts.Reply]]:
    """Yields (place, reply) as replies come; of several hosts the one with the file asks alone."""
    if file is None:
      return
    with concurrent.futures.ThreadPoolExecutor(self._settings.concurrency) as pool:
      asked = {pool.submit(self._reply, file, text): i for i, text in enumerate(prompts)}
      try:
        for done in concurrent.futures.as_completed(asked):
          yield asked[done], done.result()
      except BaseException:  # nobody wants the rest
        self._line.end("interrupted", "the asking was interrupted")
        pool.shutdown(cancel_futures=True)
        raise

  def spent(self) -> tuple[int, int]:
    """Returns the requests and tokens that were spent on this model, over all commands."""
    if not hosts.is_first():
      return hosts.agree(None)
    with transcripts.opened(self._path) as file:
      return hosts.agree(file.spent(self.name))

  def _reply(self, file: transcripts.Transcripts, prompt: str) -> transcripts.Reply:
    """Asks one prompt until there is a reply, or none can be hoped for."""
    s, failed = self._settings, transcripts.Reply()
    for attempt in range(s.retries + 1):
      self._line.wait_for_turn(s.requests_per_minute)
      if self._line.ended.is_set():
        return self._line.end(*self._line.ending)
      if not file.take(self.name, s.budget_requests, s.budget_tokens):
        return self._line.end("budget used up", self._budget(file))
      try:
        reply, tokens = self._request(prompt)
      except (self._openai.APIError, _Unusable) as error:
        problem = self._explain(error)
        failed = transcripts.Reply(failure=problem.failure, detail=problem.detail)
        if problem.is_final:
          return self._line.end(failed.failure, failed.detail)
        if not problem.may_pass:
          break
        if attempt < s.retries:
          self._line.ended.wait(_pause(error, attempt, s.wait))
      else:
        file.count(self.name, tokens)
        self._line.without_reply = 0
        return reply
    return self._line.missed(failed)

  def _budget(self, file: transcripts.Transcripts) -> str:
    requests, tokens = file.spent(self.name)
    s = self._settings
    return (
      f"{requests} requests and {tokens} tokens were spent; budget_requests is "
      f"{s.budget_requests} and budget_tokens {s.budget_tokens}, 0 being no limit"
    )

  def _request(self, prompt: str) -> tuple[transcripts.Reply, int]:
    s = self._settings
    # OpenAI's newer models know no other name for it, and most other servers no name but this.
    limit = "max_completion_tokens" if OPENAI in self.address else "max_tokens"
    weighing = {"logprobs": True, "top_logprobs": 20} if s.is_weighed else {}
    raw = self._client.chat.completions.with_raw_response.create(
      model=s.model,
      messages=[{"role": "user", "content": prompt}],
      temperature=s.temperature,
      **{limit: s.max_tokens},
      **weighing,
    )
    try:
      said = json.loads(self._clean(raw.http_response.content.decode()))
      reply = _read(said["choices"][0])
      tokens = (said.get("usage") or {}).get("total_tokens")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
      raise _Unusable(f"{type(error).__name__}: {error}") from error
    if not isinstance(tokens, int):
      tokens = len((prompt + reply.text).encode()) // BYTES_PER_TOKEN
    return reply, tokens

  def _explain(self, error: Exception) -> _Problem:
    """Returns what a failed attempt means."""
    said = f"{error} {error.__cause__ or ''}"
    detail = self._clean(" ".join(said.split()))[:DETAIL]
    if isinstance(error, _Unusable):
      return _Problem("garbled reply", detail)
    if isinstance(error, self._openai.APITimeoutError):
      return _Problem("timed out", detail)
    if not isinstance(error, self._openai.APIStatusError):
      return _Problem("no connection", detail)
    status = error.status_code
    if status in FINAL:
      return _Problem(f"{FINAL[status]} ({status})", detail, may_pass=False, is_final=True)
    if status == 429:
      no_money = error.code == "insufficient_quota"
      return _Problem("too many requests (429)", detail, is_final=no_money)
    kind = "server error" if status >= 500 else "refused"
    return _Problem(f"{kind} ({status})", detail, may_pass=status in PASSING or status >= 500)

  def _clean(self, text: str) -> str:
    """Takes the key out of what an endpoint said: nothing that is kept may have it."""
    return text.replace(self._key, "…") if self._key else text


def check(base_url: str) -> None:
  """Raises a ValueError where an endpoint cannot be asked from here."""
  try:
    import openai  # noqa: F401
  except ImportError as error:
    raise ValueError(
      "a language model behind an endpoint is asked through the package openai, which is not "
      "installed; install the extra: pip install 'pit_jax[judge]'"
    ) from error
  if not (base_url or os.environ.get(ADDRESS) or os.environ.get(KEY)):
    raise ValueError(
      f"the environment has no {KEY}, which OpenAI's endpoint wants; set it, or give the address "
      "of another endpoint as evaluation.language_judge.base_url"
    )


def _read(choice: Mapping[str, Any]) -> transcripts.Reply:
  """Returns the reply that a choice of a chat completion holds."""
  text = choice["message"].get("content")
  if not isinstance(text, str | None):
    raise TypeError(f"the content is {type(text).__name__} and no text")
  weighed = (choice.get("logprobs") or {}).get("content") or []
  logprobs = None
  if weighed:
    logprobs = {top["token"]: float(top["logprob"]) for top in weighed[0]["top_logprobs"]}
    if not all(map(math.isfinite, logprobs.values())):
      raise ValueError("a log-probability is not finite")
  is_cut = choice.get("finish_reason") == "length"
  return transcripts.Reply(text=text or "", logprobs=logprobs, is_cut=is_cut)


def _pause(error: Exception, attempt: int, first: float | int) -> float:
  """Returns the seconds before the next attempt: what the endpoint asks for, or twice the last.

  A random part keeps requests that failed together from coming back together.
  """
  wait = first * 2**attempt * random.uniform(0.5, 1.0)
  headers = getattr(getattr(error, "response", None), "headers", {})
  with contextlib.suppress(ValueError):  # a date
    wait = max(wait, float(headers.get("retry-after", 0)))
  return min(wait, LONGEST_WAIT)
