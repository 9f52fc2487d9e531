"""What policy, improver and reward models see: one form for all of them.

A `Form` turns prompts, references and responses into ids. `Template` writes them as plain text;
`chat.Chat` in a chat model's own template. Either way prompts are encoded in parts (the form's own
text, x, reference) and the ids are joined: a reference has exactly the ids it had as a response,
and cutting an over-long x cannot touch anything else.
"""

import abc
import dataclasses
import hashlib
import json
import string
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from pit_jax.data import conversations, serving, text


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
  def hash(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the text a model sees."""

  @abc.abstractmethod
  def chat(self, tokenizer: text.Tokenizer, *, shows_reference: bool, is_scored: bool) -> str:
    """Returns the form as a chat template (Jinja) of Hugging Face; see data/serving.py.

    Args:
      shows_reference: whether the prompt shows an answer: of improver and gap reward.
      is_scored: whether an answer has to follow: of reward models.
    """

  def borders(self, *, shows_reference: bool) -> list[str]:
    """Returns text of the form whose line break tokenizers may join with the content before it."""
    return []

  @abc.abstractmethod
  def check(self, tokenizer: text.Tokenizer, prompt: conversations.Prompt) -> None:
    """Raises a `values.RowError` for a prompt that cannot be shown."""

  @abc.abstractmethod
  def encode_policy_prompts(
    self,
    tokenizer: text.Tokenizer,
    prompts: Sequence[conversations.Prompt],
    max_prompt_length: int | None = None,
  ) -> Encoding:
    """Returns the ids of policy prompts.

    Args:
      tokenizer: turns text into ids.
      prompts: x, one per row.
      max_prompt_length: the most tokens of a row, the form's own included; None for no limit.
    """

  @abc.abstractmethod
  def encode_improver_prompts(
    self,
    tokenizer: text.Tokenizer,
    prompts: Sequence[conversations.Prompt],
    references: Sequence[str],
    max_prompt_length: int | None = None,
    max_response_length: int | None = None,
  ) -> Encoding:
    """Returns the ids of improver prompts.

    Args:
      tokenizer: turns text into ids.
      prompts: x, one per row.
      references: the answer to improve, one per row.
      max_prompt_length: the most tokens of the policy prompt with this x; None for no limit.
      max_response_length: the most tokens of a reference; None for no limit.

    Raises:
      ValueError: there are more or fewer references than prompts.
    """

  @abc.abstractmethod
  def lead(self, tokenizer: text.Tokenizer) -> str:
    """Returns the white space between a prompt and its response, encoded with the response."""

  def describe(self) -> dict[str, Any]:
    """Returns what `chat.restore` makes the form from, as JSON can hold it."""
    return {"kind": self.kind, **dataclasses.asdict(self)}

  def encode_responses(
    self,
    tokenizer: text.Tokenizer,
    responses: Sequence[str],
    max_response_length: int | None = None,
  ) -> Encoding:
    """Returns the ids of responses, each ending in the end-of-sequence token unless it was cut.

    Args:
      tokenizer: turns text into ids.
      responses: y, one per row.
      max_response_length: the most tokens of a row, the last one included; None for no limit.
    """
    ids = self._encode_answers(tokenizer, responses)
    return shorten([[*row, tokenizer.eos_id] for row in ids], max_response_length)

  def encode_references(
    self, tokenizer: text.Tokenizer, references: Sequence[str], prompts: Sequence, limit: int | None
  ) -> Encoding:
    """Returns the ids that references had as responses, without their end; one per prompt."""
    check_pairs(prompts, references)
    return shorten(self._encode_answers(tokenizer, references), limit)

  def _encode_answers(self, tokenizer: text.Tokenizer, answers: Sequence[str]) -> list[list[int]]:
    lead = self.lead(tokenizer)
    return tokenizer.encode_batch([lead + answer.strip() for answer in answers])


def check_pairs(prompts: Sequence, references: Sequence) -> None:
  """Raises a ValueError where there are more or fewer references than prompts."""
  if len(prompts) != len(references):
    raise ValueError(
      f"{len(prompts)} prompts but {len(references)} references; give one reference per prompt"
    )


class Slot(NamedTuple):
  """A place in a template that a text fills."""

  before: str  # template text in front of it, without the space that belongs to the slot
  name: str
  space: str  # " " or "", encoded with the text that fills the slot


@dataclasses.dataclass(frozen=True)
class Template(Form):
  """Plain text around x, and around x with a reference; a response follows after one space.

  A conversation is written as by `conversations.said`, and an over-long x is cut at a word's start.
  The template's text and what fills it are encoded apart: the ids are those of the whole text
  unless its tokenizer joins characters across a border, as Llama 3's and Qwen's do with a question
  mark and the line break after it.

  Attributes:
    policy: text with the slot {prompt}.
    improver: text with the slots {prompt} and {reference}, the latter after a space.
    bos: the special token before either; "" for a tokenizer that begins no text with one.
  """

  policy: str = "Question: {prompt}\nAnswer:"
  improver: str = "Question: {prompt}\nDraft: {reference}\nBetter:"
  bos: str = ""
  kind: ClassVar[str] = "plain"

  def __post_init__(self):
    for name, wanted in (("policy", ["prompt"]), ("improver", ["prompt", "reference"])):
      _check(name, getattr(self, name), wanted)

  @property
  def hash(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the text a model sees."""
    content = [self.policy, self.improver, "response: space, text, eos"]
    content += [f"prompt: {self.bos}, text"] if self.bos else []
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

  def chat(self, tokenizer: text.Tokenizer, *, shows_reference: bool, is_scored: bool) -> str:
    """Returns the template as a chat template; see `Form`."""
    slots, tail = _parse(self.improver if shows_reference else self.policy)
    places = {"prompt": serving.PROMPT, "reference": serving.REFERENCE}
    parts = [serving.literal(self.bos)] if self.bos else []
    for slot in slots:
      parts += [serving.literal(slot.before + slot.space), places[slot.name]]
    parts.append(serving.literal(tail))
    kind = {"shows_reference": shows_reference, "is_scored": is_scored}
    return serving.plain(parts, tokenizer.eos, **kind)

  def borders(self, *, shows_reference: bool) -> list[str]:
    """Returns the text after each slot where it begins with a line break; see `Form`."""
    (_, *slots), tail = _parse(self.improver if shows_reference else self.policy)
    return [text for text in (*(slot.before for slot in slots), tail) if text.startswith("\n")]

  def check(self, tokenizer: text.Tokenizer, prompt: conversations.Prompt) -> None:
    """Does nothing: plain text can show every prompt."""

  def lead(self, tokenizer: text.Tokenizer) -> str:
    """Returns the space before every response."""
    return " "

  def encode_policy_prompts(self, tokenizer, prompts, max_prompt_length=None) -> Encoding:
    """Returns the ids of policy prompts; see `Form`."""
    slots, _ = _parse(self.policy)
    questions = self._encode_questions(tokenizer, prompts, slots[0].space, max_prompt_length)
    rows = self._join(tokenizer, self.policy, {"prompt": questions.ids})
    return Encoding(rows, questions.is_cut)

  def encode_improver_prompts(
    self, tokenizer, prompts, references, max_prompt_length=None, max_response_length=None
  ) -> Encoding:
    """Returns the ids of improver prompts; see `Form`."""
    answers = self.encode_references(tokenizer, references, prompts, max_response_length)
    slots, _ = _parse(self.improver)
    questions = self._encode_questions(tokenizer, prompts, slots[0].space, max_prompt_length)
    rows = self._join(tokenizer, self.improver, {"prompt": questions.ids, "reference": answers.ids})
    return Encoding(rows, questions.is_cut | answers.is_cut)

  def _encode_questions(
    self,
    tokenizer: text.Tokenizer,
    prompts: Sequence[conversations.Prompt],
    space: str,
    max_prompt_length: int | None,
  ) -> Encoding:
    """Encodes x alone, cut to what the policy's template leaves of max_prompt_length."""
    texts = [space + conversations.said(prompt) for prompt in prompts]
    ids = tokenizer.encode_batch(texts)
    if max_prompt_length is None:
      return Encoding(ids, np.zeros(len(ids), bool))
    slots, tail = _parse(self.policy)
    own = len(tokenizer.encode_form(self.bos))
    own += sum(map(len, tokenizer.encode_batch([slots[0].before, tail])))
    limit = max_prompt_length - own
    if limit < 1:
      raise ValueError(
        f"max_prompt_length {max_prompt_length} leaves no room for a prompt beside the {own} "
        f"tokens of the policy's template; use at least {own + 1}"
      )
    is_cut = np.array([len(row) > limit for row in ids], bool)
    rows = [tokenizer.suffix(texts[i], limit) if is_cut[i] else row for i, row in enumerate(ids)]
    return Encoding(rows, is_cut)

  def _join(
    self, tokenizer: text.Tokenizer, form: str, fillings: dict[str, list[list[int]]]
  ) -> list[list[int]]:
    """Puts encoded texts into the slots of an encoded template, after the first token."""
    slots, tail = _parse(form)
    *befores, end = tokenizer.encode_batch([slot.before for slot in slots] + [tail])
    bos, rows = tokenizer.encode_form(self.bos), []
    for filling in zip(*(fillings[slot.name] for slot in slots), strict=True):
      parts = [part for pair in zip(befores, filling, strict=True) for part in pair]
      rows.append(bos + [token for part in parts for token in part] + end)
    return rows


def shorten(ids: list[list[int]], limit: int | None) -> Encoding:
  """Cuts the tail of rows longer than a limit; None for no limit."""
  if limit is not None and limit < 1:
    raise ValueError(f"max_response_length {limit} leaves no room for a response; use at least 1")
  is_cut = np.array([limit is not None and len(row) > limit for row in ids], bool)
  return Encoding([row[:limit] for row in ids], is_cut)


def _parse(form: str) -> tuple[list[Slot], str]:
  """Splits a template into its slots and the text after the last one.

  A space in front of a slot is encoded with the slot's text, as tokenizers expect of a word.
  """
  slots, before = [], ""
  for literal, name, _, _ in string.Formatter().parse(form):
    before += literal
    if name is not None:
      space = " " if before.endswith(" ") else ""
      slots.append(Slot(before.removesuffix(" "), name, space))
      before = ""
  return slots, before


def _check(name: str, form: str, wanted: list[str]) -> None:
  """Raises a ValueError when a template cannot do its work."""
  slots, tail = _parse(form)
  if [slot.name for slot in slots] != wanted:
    raise ValueError(
      f"the {name} template {form!r} has the slots {[slot.name for slot in slots]}; "
      f"it needs exactly {wanted}, in this order"
    )
  if "reference" in wanted and slots[-1].space != " ":
    raise ValueError(
      f"the {name} template {form!r} needs a space before {{reference}}: a reference is read as "
      "the response it was, and that begins with a space"
    )
  if tail.endswith(" "):
    raise ValueError(
      f"the {name} template {form!r} ends in a space, but a response begins with one"
    )
