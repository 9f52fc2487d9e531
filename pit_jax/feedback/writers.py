"""Writers: who answers conversations, with any number of samples of each.

A model of this run, one in a directory, one behind an endpoint, a file of completions and writers
of the embedded task's letters answer alike; configurations name them by named.py.
"""

import dataclasses
import functools
import itertools
import math
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import jax

from pit_jax import configurations
from pit_jax.data import conversations, critiques, files, prompt_formats, questions
from pit_jax.feedback import completions, endpoint, estimates, patience, transcripts
from pit_jax.rollout import inference
from pit_jax.tasks import chains, correctors, marking, synthetic, words
from pit_jax.types import Params

NOTHING = "nothing was written"
SHOWN = 3  # prompts that a message names


@dataclasses.dataclass(frozen=True)
class Written:
  """The samples of a writer for N conversations."""

  # texts[i] are the samples for conversation i; None where one failed.
  texts: list[list[str | None]]
  # The conversations with a sample that failed: place → one of few phrases.
  failures: Mapping[int, str] = dataclasses.field(default_factory=dict)


class Request(NamedTuple):
  """What a writer is asked; see `Writer.write`."""

  asked: Sequence[prompt_formats.Conversation]
  key: jax.Array
  temperature: float | int
  samples: int = 1
  top_p: float | int | None = None


@dataclasses.dataclass(frozen=True)
class Writer:
  """Answers conversations; `write` to ask it."""

  name: str  # as configurations and the facts of rows have it
  # (conversations, key, temperature, samples, top_p) → what it writes.
  answer: Callable[..., Written]
  # Of a file the prompts that it has completions of, as `conversations.said` has them; None of
  # others, which answer anything.
  prompts: Collection[str] | None = None
  # Requests → what it writes for each, where it is better asked all at once.
  together: Callable[[Sequence[Request]], list[Written]] | None = None
  behind: str = ""  # the model behind an endpoint, with its address; "" of all other writers
  # Ends for good what a thread asks an endpoint; what had been replied is kept.
  stop: Callable[[], None] = lambda: None

  def write(
    self,
    asked: Sequence[prompt_formats.Conversation],
    key: jax.Array,
    temperature: float | int,
    *,
    samples: int = 1,
    top_p: float | int | None = None,
  ) -> Written:
    """Returns samples of answers.

    Args:
      asked: N conversations; a text may be asked as `policy_format.conversations([text])`.
      key: source of the noise; an endpoint's replies are kept under it.
      temperature: divides the logits; 0 takes the most likely tokens.
      samples: answers to each conversation, 1 or more.
      top_p: draws from the most likely tokens alone that have this probability, more than 0; None
        draws from all.

    Raises:
      ValueError: there are to be fewer than one, or from no tokens, or a file lacks some.
    """
    (written,) = self.write_all([Request(asked, key, temperature, samples, top_p)])
    return written

  def write_all(self, requests: Sequence[Request]) -> list[Written]:
    """Returns what `write` does for each request; an endpoint is asked all of them in one pass.

    Of one pass it is not asked twice what differs in the key alone.

    Raises:
      ValueError: as `write` does.
    """
    for one in requests:
      if one.samples < 1:
        raise ValueError(f"samples={one.samples}; use 1 or more")
      if one.top_p is not None and not 0 < one.top_p <= 1:
        raise ValueError(f"top_p={one.top_p}; use more than 0 and at most 1, or None")
    return self.together(requests) if self.together else [self.answer(*one) for one in requests]


def model(name: str, asking: inference.Inference, params: Params) -> Writer:
  """Returns a language model on the devices as a writer; its prompts are cut as in training.

  One sample is what `Inference.reply` gives with the same key.
  """

  def answer(asked, key, temperature, samples, top_p):
    how = {"samples": samples, "top_p": top_p}
    replies = asking.reply(params, asked, key, float(temperature), **how) if asked else []
    return Written([replies[i : i + samples] for i in range(0, len(replies), samples)])

  return Writer(name, answer)


def behind_endpoint(
  name: str,
  settings: endpoint.Settings,
  path: str | os.PathLike,
  *,
  key: str = "",
  count: estimates.Count = estimates.by_bytes,
) -> Writer:
  """Returns a model behind an OpenAI-compatible endpoint as a writer.

  All samples of all conversations are asked in one pass. What was paid for is kept in a file of
  transcripts, under conversation, key, temperature and the number of the sample. Reasoning is no
  part of an answer; one that is cut is an answer. Of the settings the temperature does not count.

  Args:
    name: of the writer.
    settings: how it is asked.
    path: of the file.
    key: of the section of the configuration, see `estimates.Account`.
    count: how tokens are estimated.
  """
  account = estimates.Account(name, key, count)
  line = patience.Line()

  @functools.cache
  def opened(temperature, top_p):
    sampling = {"temperature": temperature, "top_p": top_p}
    asked_so = dataclasses.replace(settings, **sampling, is_weighed=False)
    return endpoint.Endpoint(asked_so, path, _failure, account, line)

  def together(requests: Sequence[Request]) -> list[Written]:
    replies: dict[int, list[transcripts.Reply]] = {}
    # Requests of one way of sampling are one pass.
    for sampling in dict.fromkeys((one.temperature, one.top_p) for one in requests):
      places = [i for i, one in enumerate(requests) if (one.temperature, one.top_p) == sampling]
      own = _asked(opened(*sampling), settings, path, [requests[i] for i in places])
      replies |= dict(zip(places, own, strict=True))
    return [_written(replies[i], one.samples) for i, one in enumerate(requests)]

  return Writer(
    name,
    lambda *one: together([Request(*one)])[0],
    together=together,
    behind=f"{settings.model} at {settings.base_url}",
    stop=line.interrupt,
  )


def _asked(
  asking: endpoint.Endpoint,
  settings: endpoint.Settings,
  path: str | os.PathLike,
  requests: Sequence[Request],
) -> list[list[transcripts.Reply]]:
  """Returns the replies to requests that are sampled alike: of each conversation all samples."""
  temperature, top_p = requests[0].temperature, requests[0].top_p
  decided = {"model": settings.model, "endpoint": asking.address, "temperature": temperature}
  # What is kept without it stays what it was.
  decided |= {} if top_p is None else {"top_p": top_p}
  decided |= {"max_tokens": settings.max_tokens}

  chats = []
  own = []
  for one in requests:
    noise = jax.random.key_data(one.key).tolist()
    for conversation in one.asked:
      for sample in range(one.samples):
        chats.append(conversation.turns)
        own.append({transcripts.NOISE: noise, "sample": sample})
  found = iter(transcripts.remembering(asking.ask, path, decided, asking.announce)(chats, own))
  return [list(itertools.islice(found, len(one.asked) * one.samples)) for one in requests]


def _written(replies: Sequence[transcripts.Reply], samples: int) -> Written:
  """Returns the texts in the replies to one request."""
  texts = []
  failures = {}
  for place, start in enumerate(range(0, len(replies), samples)):
    several = replies[start : start + samples]
    reasons = [_failure(reply)[0] for reply in several]
    if any(reasons):
      failures[place] = next(filter(None, reasons))
    pairs = zip(several, reasons, strict=True)
    texts.append([None if reason else completions.answer(reply.text) for reply, reason in pairs])
  return Written(texts, failures)


def _failure(reply: transcripts.Reply) -> tuple[str, str]:
  """Returns why a reply holds no answer, in one of few phrases and in full; "" where it does."""
  if reply.failure:
    return reply.failure, reply.detail
  return ("", "") if completions.answer(reply.text) else (NOTHING, f"it says {reply.text[:200]!r}")


def file(
  name: str, path: str | os.PathLike, *, prompt: str = "prompt", response: str = "response"
) -> Writer:
  """Returns a file of completions as a writer, whatever key, temperature and top-p are asked for.

  Its rows, in JSON lines, one JSON list, CSV or Parquet, are a text or messages in the column
  `prompt` and a text in the column `response`, by the names that these columns have; several of one
  prompt are its samples, in order. A conversation that goes on after its prompt is looked up with
  all its turns, whether these are written as messages or as one text.

  Raises:
    ValueError: it cannot be read, or a row of it is of no use.
  """
  replies_by_prompt = read(path, prompt=prompt, response=response)

  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    texts = [replies_by_prompt.get(said_in(one.turns), [])[:samples] for one in asked]
    missing = [one for one, replies in zip(asked, texts, strict=True) if len(replies) < samples]
    if missing:
      examples = [repr(said_in(one.turns)[:60]) for one in missing[:SHOWN]]
      others = [f"{len(missing) - SHOWN} more"] if len(missing) > SHOWN else []
      counts = f"{samples} completions of {len(missing)} of {len(asked)} prompts"
      said = ", ".join([*examples, *others])
      raise ValueError(f"{path} has fewer than {counts}: {said}; add rows with these prompts")

    return Written(texts)

  return Writer(name, answer, replies_by_prompt.keys())


def grammar(name: str, habits: synthetic.Writer, seed: int = 0) -> Writer:
  """Returns a writer of the embedded task's letters, whatever key and temperature are asked for.

  A letter is a function of habits, seed, question and the number of the sample.

  Raises, where it is asked:
    ValueError: a conversation is no question of the embedded task.
  """

  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    seeds = [f"{seed} {sample}" for sample in range(samples)]
    prompts = [said_in(one.turns) for one in asked]
    return Written([[words.letter_to(x, habits, of) for of in seeds] for x in prompts])

  return Writer(name, answer)


def reasoner(name: str, wrong: float | int = 0.0, seed: int = 0) -> Writer:
  """Returns a writer of rationales to the embedded task's chains, a share of them wrong.

  A rationale is a function of the share, seed, question and the number of the sample; see
  `chains.rationale_to`.

  Raises, where it is asked:
    ValueError: a conversation holds no question of that task.
  """

  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    seeds = [f"{seed} {sample}" for sample in range(samples)]
    prompts = [said_in(one.turns) for one in asked]
    return Written([[chains.rationale_to(x, wrong, of) for of in seeds] for x in prompts])

  return Writer(name, answer)


def marker(
  name: str, noise: float | int = 0.0, invalid: float | int = 0.0, seed: int = 0
) -> Writer:
  """Returns the embedded task's teacher of sentences as a writer; see `marking.marks`.

  Raises, where it is asked:
    ValueError: a conversation holds no question of that task.
  """

  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    seeds = [f"{seed} {sample}" for sample in range(samples)]
    texts = [said_in(one.turns) for one in asked]
    return Written([[marking.marks(x, noise, invalid, of) for of in seeds] for x in texts])

  return Writer(name, answer)


def corrector(
  name: str, corrects: correctors.Corrector, form: critiques.Form, seed: int = 0
) -> Writer:
  """Returns a critic of the embedded task's letters, whatever key and temperature are asked for.

  It is shown a question and, last of the texts beside it, a letter, and writes in the form what is
  weak, a score, what to change and a better letter, as a function of corrector, seed, question,
  letter and the number of the sample.

  Raises, where it is asked:
    ValueError: a conversation is no question of the embedded task.
  """

  def criticised(one, sample):
    made = corrects.correct(conversations.said(one.prompt), one.texts[-1], f"{seed} {sample}")
    weaknesses = ", ".join(made.weak) or words.NONE
    changes = " ".join(made.changes) or words.NOTHING
    return form.write(critiques.Critique(weaknesses, made.score, changes, made.letter))

  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    return Written([[criticised(one, sample) for sample in range(samples)] for one in asked])

  return Writer(name, answer)


def function(name: str, place: str) -> Writer:
  """Returns a Python function as a writer, whatever key and temperature are asked for.

  Args:
    name: of the writer.
    place: "package.module:function" of the turns of a conversation, a list of {"role", "content"},
      that returns a text; the prompt is the first turn, or the first few. Every sample is its.

  Raises:
    ValueError: there is no such function; and where it is asked, that it fails or returns no text,
      with the prompt.
  """
  called = configurations.function(place)

  def written(turns):
    try:
      text = called([turn._asdict() for turn in turns])
    except Exception as error:  # whatever somebody else's function raises
      said = f"{type(error).__name__}: {' '.join(str(error).split())}"
      raise ValueError(_wrong(f"raised {said}", turns)) from error
    if not isinstance(text, str):
      raise ValueError(_wrong(f"returned {text!r}", turns))
    return text

  def _wrong(what, turns):
    prompt = said_in(turns)[:60]
    return f"the writer {name} ({place}) {what} for the prompt {prompt!r}; return a text"

  def answer(asked, key, temperature, samples, top_p):
    del key, temperature, top_p
    return Written([[written(one.turns)] * samples for one in asked])

  return Writer(name, answer)


def read(path: str | os.PathLike, *, prompt: str, response: str) -> dict[str, list[str]]:
  """Returns the texts of a file by `said_in` of their prompts, whose columns have these names.

  Raises:
    ValueError: it cannot be read, or a row of it is of no use.
  """
  columns = {"prompt": prompt, "response": response}
  replies_by_prompt: dict[str, list[str]] = {}
  kind = files.KINDS.get(files.suffix(path), "jsonl")
  for place, fields in files.READERS[kind](str(files.existing(str(path)))):
    if not isinstance(fields, Mapping):
      wrong = fields if isinstance(fields, ValueError) else f"{type(fields).__name__} is no row"
      raise ValueError(f"{place}: {wrong}; write an object with {prompt!r} and {response!r}")

    named = {name: fields[column] for name, column in columns.items() if column in fields}
    text = named.get("response")
    is_finite = isinstance(text, float) and math.isfinite(text)  # NaN is a text that is missing
    if is_finite or (isinstance(text, int) and not isinstance(text, bool)):
      named["response"] = str(text)  # as CSV has it
    row = questions.check(named, 0)
    if row.error or row.response is None:
      listed = ", ".join(map(repr, columns.values()))
      said = (row.error or "the row has no 'response'").replace("'response'", repr(response))
      raise ValueError(f"{place}: {said}; the columns read are {listed}")
    replies_by_prompt.setdefault(said_in(conversations.turns(row.prompt)), []).append(row.response)

  if not replies_by_prompt:
    raise ValueError(f"{path} has no rows; write some with {prompt!r} and {response!r}")
  return replies_by_prompt


def said_in(turns: Sequence[conversations.Turn]) -> str:
  """Returns the key of a conversation: a lone text of the user's, else all in words."""
  return conversations.said(tuple(turns))
