"""What policy, improver and reward models see: one form for all of them.

A `Form` turns prompts, references and responses into ids. `Template` writes them as plain text;
`chat.Chat` in a chat model's own template. Either way prompts are encoded in parts (the form's own
text, x, reference) and the ids are joined: a reference has exactly the ids it had as a response,
and cutting an over-long x cannot touch anything else.
"""

import abc
import dataclasses
import functools
import hashlib
import json
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from pit_jax.data import conversations, prompt_formats, serving, text


class Encoding(NamedTuple):
  """Token ids of several texts, and which of the texts lost a part."""

  ids: list[list[int]]
  is_cut: np.ndarray  # bool, one per text


class Form(abc.ABC):
  """How x, and x with a reference, are shown to a model; a response follows.

  Lengths are limited in one way everywhere. `max_prompt_length` bounds a policy prompt with the
  form's own tokens; an over-long x loses its oldest part. The improver sees the same x. A response
  longer than `max_response_length` (its end-of-sequence token counted) loses its tail and has no
  such token; the same text as a reference has the same ids. An improver prompt hence has at most
  `max_prompt_length + max_response_length` + its own form's tokens.
  """

  kind: ClassVar[str]  # as run.json names it

  @property
  @abc.abstractmethod
  def formats(self) -> dict[str, prompt_formats.Format]:
    """The formats that a configuration words, by name: "policy" and "improver"."""

  @property
  @abc.abstractmethod
  def hash(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the text a model sees."""

  @abc.abstractmethod
  def chat(self, tokenizer: text.Tokenizer, *, shows_reference: bool, is_scored: bool) -> str:
    """Returns the form as a chat template (Jinja) of Hugging Face; see `serving.plain`."""

  def borders(self, *, shows_reference: bool) -> list[str]:
    """Returns text of the form whose line break tokenizers may join with the content before it."""
    return []

  @abc.abstractmethod
  def check(self, tokenizer: text.Tokenizer, prompt: conversations.Prompt) -> None:
    """Raises a `values.RowError` for a prompt that cannot be shown."""

  @abc.abstractmethod
  def encode(
    self,
    tokenizer: text.Tokenizer,
    asked: Sequence[prompt_formats.Conversation],
    max_prompt_length: int | None = None,
    max_response_length: int | None = None,
  ) -> Encoding:
    """Returns the ids of conversations, up to where the answer begins.

    Limits are the most tokens of the policy prompt with the same x, the form's own included, and of
    every text beside it; None for no limit.

    Raises a ValueError where a limit leaves no room, or a format has no words for this form.
    """

  @abc.abstractmethod
  def lead(self, tokenizer: text.Tokenizer) -> str:
    """Returns the white space between a prompt and its response, encoded with the response."""

  def describe(self) -> dict[str, Any]:
    """Returns what `chat.restore` makes the form from, as JSON can hold it."""
    return {"kind": self.kind, **dataclasses.asdict(self)}

  def encode_responses(
    self, tokenizer: text.Tokenizer, responses: Sequence[str], limit: int | None = None
  ) -> Encoding:
    """Returns the ids of responses, each ending in the end-of-sequence token unless it was cut.

    The limit is the most tokens of a row, the last one included; None for no limit.
    """
    ids = self._encode_answers(tokenizer, responses)
    return shorten([[*row, tokenizer.eos_id] for row in ids], limit)

  def _encode_answers(self, tokenizer: text.Tokenizer, answers: Sequence[str]) -> list[list[int]]:
    lead = self.lead(tokenizer)
    return tokenizer.encode_batch([lead + answer.strip() for answer in answers])


@dataclasses.dataclass(frozen=True)
class Template(Form):
  """Plain text around x, and around x with a reference; a response follows after one space.

  A conversation is written as by `conversations.said`, and an over-long x is cut at a word's start.
  The template's text and what fills it are encoded apart: the ids are those of the whole text
  unless its tokenizer joins characters across a border, as Llama 3's and Qwen's do with a question
  mark and the line break after it.
  """

  policy: str = "Question: {prompt}\nAnswer:"
  # With both slots, {reference} after a space.
  improver: str = "Question: {prompt}\nDraft: {reference}\nBetter:"
  bos: str = ""  # the special token before either, of a tokenizer that begins a text with one
  kind: ClassVar[str] = "plain"

  def __post_init__(self):
    _ = self.formats  # refuses templates that cannot do their work

  @functools.cached_property
  def formats(self) -> dict[str, prompt_formats.Format]:
    """The two formats; see `Form`."""
    policy = prompt_formats.Format("policy", plain=self.policy)
    improver = prompt_formats.Format("improver", ("reference",), plain=self.improver)
    return {"policy": policy, "improver": improver}

  @property
  def hash(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the text a model sees."""
    # What the code itself adds is said in words: whoever changes it changes them too.
    content = [self.policy, self.improver, "response: space, text, eos"]
    content += [f"prompt: {self.bos}, text"] if self.bos else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

  def chat(self, tokenizer: text.Tokenizer, *, shows_reference: bool, is_scored: bool) -> str:
    """Returns the template as a chat template; see `Form`."""
    slots, tail = self.formats["improver" if shows_reference else "policy"].slots
    places = {"prompt": serving.PROMPT, "reference": serving.REFERENCE}
    parts = [serving.literal(self.bos)] if self.bos else []
    for slot in slots:
      parts += [serving.literal(slot.before + slot.space), places[slot.name]]
    parts.append(serving.literal(tail))

    return serving.plain(parts, tokenizer.eos, shows_reference, is_scored)

  def borders(self, *, shows_reference: bool) -> list[str]:
    """Returns the text after each slot where it begins with a line break; see `Form`."""
    (_, *slots), tail = self.formats["improver" if shows_reference else "policy"].slots
    return [text for text in (*(slot.before for slot in slots), tail) if text.startswith("\n")]

  def check(self, tokenizer: text.Tokenizer, prompt: conversations.Prompt) -> None:
    """Does nothing: plain text can show every prompt."""

  def lead(self, tokenizer: text.Tokenizer) -> str:
    """Returns the space before every response."""
    return " "

  def encode(self, tokenizer, asked, max_prompt_length=None, max_response_length=None) -> Encoding:
    """Returns the ids of conversations; see `Form`."""
    if silent := sorted({one.format.name for one in asked if not one.format.plain}):
      raise ValueError(
        f"the format {silent[0]} has no plain text; give it one, or use a chat template"
      )

    texts = [text for one in asked for text in one.texts]
    # Texts of all rows are encoded at once, and taken up again in the order of rows and slots.
    texts = shorten(self._encode_answers(tokenizer, texts), max_response_length)
    shown = zip(texts.ids, texts.is_cut, strict=True)
    questions, is_cut = self._encode_questions(tokenizer, asked, max_prompt_length)
    rows = []
    own = {form: self._own(tokenizer, form) for form in {one.format for one in asked}}

    for i, (one, question) in enumerate(zip(asked, questions, strict=True)):
      begin, *befores, end = own[one.format]
      row = begin + question
      # First the text before, then the pair: with no text left, `shown` is not asked for a pair.
      for before, (text_ids, is_short) in zip(befores, shown, strict=False):
        row += before + text_ids
        is_cut[i] |= is_short

      rows.append(row + end)

    return Encoding(rows, is_cut)

  def _encode_questions(
    self,
    tokenizer: text.Tokenizer,
    asked: Sequence[prompt_formats.Conversation],
    max_prompt_length: int | None,
  ) -> Encoding:
    """Encodes x alone, cut to what the policy's template leaves of max_prompt_length."""
    texts = [one.format.slots[0][0].space + conversations.said(one.prompt) for one in asked]
    ids = tokenizer.encode_batch(texts)
    own = sum(map(len, self._own(tokenizer, self.formats["policy"])))
    limit = math.inf if max_prompt_length is None else max_prompt_length - own
    if limit < 1:
      raise ValueError(
        f"data.max_prompt_length={max_prompt_length} leaves no room for a prompt beside the {own} "
        f"tokens of the policy's template; use at least {own + 1}"
      )

    is_cut = np.array([len(row) > limit for row in ids], bool)
    rows = [tokenizer.suffix(texts[i], limit) if is_cut[i] else row for i, row in enumerate(ids)]
    return Encoding(rows, is_cut)

  def _own(self, tokenizer: text.Tokenizer, shown: prompt_formats.Format) -> list[list[int]]:
    """Returns the ids of a format's own text before each slot and after the last one."""
    slots, tail = shown.slots
    first, *others = tokenizer.encode_batch([slot.before for slot in slots] + [tail])
    return [tokenizer.encode_form(self.bos) + first, *others]


def shorten(ids: list[list[int]], limit: int | None) -> Encoding:
  """Cuts the tail of rows longer than a limit; None for no limit."""
  if limit is not None and limit < 1:
    problem = f"data.max_response_length={limit} leaves no room for a response; use 1 or more"
    raise ValueError(problem)
  is_cut = np.array([limit is not None and len(row) > limit for row in ids], bool)
  return Encoding([row[:limit] for row in ids], is_cut)
