"""Asks a language model behind an OpenAI-compatible endpoint, and bears with one that misbehaves.

Every prompt ends with a reply or with the reason why there is none. What may pass (no connection,
time-outs, 408, 409, 429, 500 and above, replies that are no JSON of the wanted form) is tried
again, after longer and longer waits. A parameter that the endpoint refuses by name is left out, see
completions.py. What will not pass ends the asking: a refused key, an unknown model, no money, a
budget that is used up, first prompts that all fail alike, too many in a row without a reply.
"""

import concurrent.futures
import contextlib
import dataclasses
import logging
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pit_jax import hosts, progress
from pit_jax.data import conversations
from pit_jax.feedback import completions, estimates, patience, transcripts

LOG = logging.getLogger(__name__)

KEY = "OPENAI_API_KEY"  # the environment variable with the key
SECTION = "evaluation.language_judge"  # of a configuration: what it says is others' default
ADDRESS = "OPENAI_BASE_URL"  # and that with the endpoint, where none is configured
OPENAI = "api.openai.com"
PROBE = "Write forty letters of the alphabet, drawn at random, and nothing else."
PROBES = 3  # replies to it that are the same where the temperature is ignored
PASSING = (408, 409, 429)  # and 500 and above: the same request may fare better later
FINAL = {401: "key refused", 402: "not paid for", 404: "no such model or address"}
DETAIL = 300  # letters of an endpoint's own words that are kept


@dataclasses.dataclass(frozen=True)
class Settings:
  """Settings of the requests to an endpoint, with their limits and budgets."""

  model: str  # as the endpoint names it
  base_url: str  # of the endpoint; "" is the client's own choice, the environment's or OpenAI's
  is_weighed: bool  # whether the log-probabilities of the first token are asked for
  temperature: float | int  # divides the logits; 0 takes the most likely tokens
  max_tokens: int  # the most tokens of a reply
  requests_per_minute: float | int  # begun in any minute, evenly; 0 for no limit
  budget_requests: int  # the most requests in all, attempts included; 0 for no limit
  # Of prompts and replies; no request is made beyond, but those under way end. 0 for no limit.
  budget_tokens: int
  retries: int  # attempts after the first
  wait: float | int  # seconds before the second attempt, at most; doubled before each further one
  timeout: float | int  # seconds without a sign of the endpoint
  concurrency: int  # requests under way at any time, at most
  # Draws from the most likely tokens alone that have this probability; None: from all.
  top_p: float | int | None = None
  input_price: float | int = 0  # money for a million tokens of requests; 0: nobody says
  output_price: float | int = 0  # the same of replies


class _Unusable(Exception):
  """A reply that came and is no chat completion."""


class _Problem(NamedTuple):
  """The cause of a failed attempt."""

  failure: str  # one of few phrases
  detail: str  # in the endpoint's own words
  may_pass: bool = True  # whether the same request may fare better later
  is_final: bool = False  # whether all other requests will fail too


class Endpoint:
  """A model behind an endpoint; `ask` it. Its `name` has the model and the endpoint's address."""

  def __init__(
    self,
    settings: Settings,
    path: str | os.PathLike,
    failure: Callable[[transcripts.Reply], tuple[str, str]] = lambda reply: ("", ""),
    account: estimates.Account | None = None,
    line: patience.Line | None = None,
  ):
    """Connects to nothing yet.

    Args:
      settings: how it is asked.
      path: the file of transcripts, where spending is counted.
      failure: says of a reply that came why it is of no use, in one of few phrases and in full;
        ("", "") where it is of use.
      account: on which it is asked: who, how tokens are counted, and what refuses too many.
      line: in which requests wait for their turn; None: one of its own.

    Raises:
      ValueError: the client is not installed, or there is no key.
    """
    check(settings.base_url, (account and account.key) or SECTION)
    import openai

    self._openai = openai
    self._settings = settings
    self._path = pathlib.Path(path)
    self._key = os.environ.get(KEY, "").strip()
    self._client = openai.OpenAI(
      api_key=self._key or "none",  # many a server wants none
      base_url=settings.base_url or None,
      max_retries=0,  # attempts are ours: each is counted, and waits its turn
      timeout=settings.timeout,
    )

    self._line = line or patience.Line()
    self._failure = failure
    self._account = account or estimates.Account()
    self.address = str(self._client.base_url)
    asked = {"is_weighed": settings.is_weighed, "is_openai": OPENAI in self.address}
    asked |= {"top_p": settings.top_p}
    self._form = completions.form(settings.temperature, settings.max_tokens, **asked)

    self._is_probed = not settings.temperature
    self.name = f"{settings.model} at {self.address}"  # under which spending is counted

  def announce(
    self,
    prompts: Sequence[conversations.Prompt],
    kept: int,
    file: transcripts.Transcripts | None,
  ) -> None:
    """Says what it takes to ask all prompts, beside so many that were answered before.

    Raises:
      ValueError: the account's budget cannot pay for it.
    """
    s = self._settings
    probes = [] if self._is_probed else [PROBE] * PROBES
    read = self._account.count([*map(conversations.write, prompts), *probes])
    requests = len(prompts) + len(probes)
    written = requests * s.max_tokens
    cost = estimates.price(read, written, s.input_price, s.output_price)
    estimate = estimates.Estimate(requests, kept, read, written, cost)

    name = self._account.name
    estimates.say(estimate, (f"{name} ({s.model})", name) if name else (s.model,))
    if not self._account.key:
      return
    budgets = (s.budget_requests, s.budget_tokens)
    spent = file.spent(self.name) if file else (0, 0)
    # The host that has the file knows.
    if problem := hosts.agree(estimates.over(self._account.key, estimate, spent, *budgets)):
      raise ValueError(problem)

  def ask(
    self,
    prompts: Sequence[conversations.Prompt],
    file: transcripts.Transcripts | None,
    keep: transcripts.Keep,
  ) -> None:
    """Asks all prompts; of several hosts the one with the file asks alone.

    A thread keeps its reply before it asks again, so that a kill costs no more replies than are
    under way.
    """
    if file is None:
      return
    if prompts and not self._is_probed:
      self._is_probed = True
      self._probe(file)

    count = progress.Count(f"asking {self._account.name or self._settings.model}", len(prompts),
                           "requests")  # fmt: skip
    with concurrent.futures.ThreadPoolExecutor(self._settings.concurrency) as pool:
      futures = [
        pool.submit(lambda i, text: keep(i, self._reply(file, text)), i, text)
        for i, text in enumerate(prompts)
      ]
      try:
        for done in concurrent.futures.as_completed(futures):
          done.result()
          count.add(1)
      except BaseException:  # nobody wants the rest
        self._line.interrupt()
        pool.shutdown(cancel_futures=True)
        raise

  def spent(self) -> tuple[int, int]:
    """Returns the requests and tokens that were spent on this model, over all commands."""
    # Hosts without the file take part in the exchange alone.
    with transcripts.opened(self._path) if hosts.is_first() else contextlib.nullcontext() as file:
      return hosts.agree(file.spent(self.name) if file else None)

  @property
  def changes(self) -> tuple[str, ...]:
    """The changes of requests that the endpoint forced, a phrase each."""
    return self._form.changes

  def _reply(
    self, file: transcripts.Transcripts, prompt: conversations.Prompt
  ) -> transcripts.Reply:
    """Asks one prompt until there is a reply, or none can be hoped for."""
    s = self._settings
    form = self._form
    attempt = 0

    while True:
      self._line.wait_for_turn(s.requests_per_minute)
      if self._line.ended.is_set():
        return self._line.end(*self._line.ending)
      if not file.take(self.name, s.budget_requests, s.budget_tokens):
        return self._line.end("budget used up", self._budget(file))

      try:
        reply, tokens = self._request(prompt, form)
      except (self._openai.APIError, _Unusable) as error:
        if changed := completions.adapted(form, error):
          form = changed  # another request, and no further attempt at this one
          continue

        problem = self._explain(error)
        if problem.is_final:
          return self._line.end(problem.failure, problem.detail)
        if not problem.may_pass or attempt >= s.retries:
          return self._line.missed(problem.failure, problem.detail)

        # Not a sleep, so that all pauses end when the asking does.
        self._line.ended.wait(patience.pause(error, attempt, s.wait))
        attempt += 1
      else:
        file.count(self.name, tokens)
        self._remember(form)
        return self._judged(reply)

  def _judged(self, reply: transcripts.Reply) -> transcripts.Reply:
    """Returns a reply that came, after a look at whether replies like this are of any use."""
    line = self._line
    line.without_reply = 0
    failure, detail = self._failure(reply)

    # While no prompt has done well it is the endpoint, and afterwards this reply alone.
    if failure == transcripts.NO_LOGPROBS and reply.text and line.first is not None:
      refused = f", and was asked {', '.join(self.changes)}" if self.changes else ""
      nothing = f"{self.name} sends no log-probabilities, as transformers' server does not{refused}"
      return line.end(failure, f"{nothing}; use evaluation.language_judge.verdict='json'")

    line.met(failure, detail)
    return reply

  def _remember(self, form: completions.Form) -> None:
    """Makes all requests in a form that was replied to, and says once what that changes."""
    with self._line.lock:
      # Threads may be refused at the same time: the form with more changes stays.
      if len(form.changes) <= len(self._form.changes):
        return
      self._form = form

    LOG.warning("%s refuses what was asked for; asked now %s", self.name, ", ".join(form.changes))

  def _probe(self, file: transcripts.Transcripts) -> None:
    """Says at once where the temperature is ignored: one request has the same reply each time."""
    texts = set()
    for _ in range(PROBES):
      if self._line.ended.is_set():
        return
      if not file.take(self.name, self._settings.budget_requests, self._settings.budget_tokens):
        return
      self._line.wait_for_turn(self._settings.requests_per_minute)

      try:
        reply, tokens = self._request(PROBE, self._form)
      except (self._openai.APIError, _Unusable):
        return  # the prompts that follow will say why

      file.count(self.name, tokens)
      texts.add(reply.text)

    if len(texts) == 1 and any(texts):  # replies without a text say nothing of the temperature
      change = f"temperature={self._settings.temperature} without effect"
      self._form = dataclasses.replace(self._form, changes=(*self._form.changes, change))
      LOG.warning(
        "%s: one request had the same reply %d times at temperature %g: the endpoint seems to "
        "ignore it, as transformers' server does of models that do not sample by themselves",
        *(self.name, PROBES, self._settings.temperature),
      )

  def _budget(self, file: transcripts.Transcripts) -> str:
    requests, tokens = file.spent(self.name)
    s = self._settings
    return (
      f"{requests} requests and {tokens} tokens were spent; budget_requests is "
      f"{s.budget_requests} and budget_tokens {s.budget_tokens}, 0 being no limit"
    )

  def _request(
    self, prompt: conversations.Prompt, form: completions.Form
  ) -> tuple[transcripts.Reply, int]:
    """Returns the reply to a request, and the tokens of both."""
    turns = [("user", prompt)] if isinstance(prompt, str) else prompt
    messages = [{"role": role, "content": content} for role, content in turns]
    create = self._client.chat.completions.with_raw_response.create
    raw = create(model=self._settings.model, messages=messages, **form.parameters)

    try:
      content = self._clean(raw.http_response.content.decode())
      reply, tokens = completions.read(content)
    except ValueError as error:
      raise _Unusable(str(error)) from error

    if tokens is None:
      tokens = estimates.by_bytes([conversations.write(prompt) + reply.text])
    return reply, tokens

  def _explain(self, error: Exception) -> _Problem:
    """Returns the cause of a failed attempt."""
    detail = self._clean(completions.words(error))[:DETAIL]
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


def check(base_url: str, key: str = SECTION) -> None:
  """Raises a ValueError where the endpoint of a section, named by its key, cannot be asked."""
  try:
    import openai  # noqa: F401
  except ImportError as error:
    package = "a language model behind an endpoint is asked through the package openai"
    todo = "install the extra: pip install 'pit_jax[judge]'"
    raise ValueError(f"{package}, which is not installed; {todo}") from error

  if not (base_url or os.environ.get(ADDRESS) or os.environ.get(KEY)):
    problem = f"the environment has no {KEY}, which OpenAI's endpoint wants"
    todo = f"set it, or give the address of another endpoint as {key}.base_url"
    raise ValueError(f"{problem}; {todo}")
