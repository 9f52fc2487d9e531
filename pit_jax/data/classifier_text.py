"""Whole conversations as published classifiers read them: in their chat template, or as a pair.

transformers asks a classifier with the ids of the whole conversation, the answer in it: those of
`apply_chat_template`, or, where there is no template, those of `tokenizer(question, answer)`. So do
these readers. Nothing is appended: what a template writes after an answer is its own matter.
"""

import dataclasses
import functools
import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
import tokenizers
import transformers

from pit_jax.data import conversations, hf_text, skeletons, values

KINDS = ("auto", "chat", "pair")
# Stand for what a content spells out, of private use: no template writes them.
_MARK = "\ue000{}\ue001"
_MARKED = re.compile("\ue000([0-9]+)\ue001")

Fast = transformers.PreTrainedTokenizerFast
Talk = tuple[conversations.Turn, ...]


class Reading(NamedTuple):
  """What a classifier reads of several conversations."""

  ids: list[list[int]]  # token ids of each
  types: list[list[int]]  # of each token 0; in a pair as the tokenizer tells its texts apart
  is_cut: np.ndarray  # Bool[N], which conversations lost a part


@dataclasses.dataclass(frozen=True)
class Reader:
  """Turns x and an answer into the tokens that transformers gives a classifier of both.

  Special tokens, and the tokens that the template marks turns with, are read in what the template
  writes and never in a content: what spells one out is ordinary characters. `apply_chat_template`
  reads it as the token, so that an answer could end its turn and begin another. All other
  conversations have its ids; a template that asks for today's date is told `skeletons.DATE`.

  A pair is x as plain text (`conversations.said`) and the answer.

  Of a conversation that is too long the answer loses what it has beyond `max_answer_length`; then
  the oldest turns are left out, but the system's and the last of the user; then the last turn loses
  its beginning, up to a word's start. A system's turn that leaves no room for any of it is left
  out.
  """

  fast: Fast  # for this reader alone
  form: str | None  # the chat template; None reads pairs
  max_length: int  # the most tokens of a conversation
  max_answer_length: int  # how many of them an answer keeps in any case

  @functools.cached_property
  def vocabulary(self) -> dict[str, int]:
    """The id of every token, added ones included."""
    return self.fast.backend_tokenizer.get_vocab(with_added_tokens=True)

  @functools.cached_property
  def fingerprint(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the ids of a text."""
    return _digest(self.fast.backend_tokenizer.to_str())

  @property
  def hash(self) -> str:
    """A sha256 (16 hex digits) of everything that decides the text that is read."""
    return _digest(json.dumps(["pair"] if self.form is None else ["chat", self.form]))

  def describe(self) -> dict[str, Any]:
    """Returns what `open_reader` makes it from, beside the tokenizer, as JSON can hold it."""
    lengths = {"max_length": self.max_length, "max_answer_length": self.max_answer_length}
    return {"kind": "chat" if self.form else "pair", **lengths}

  def check(self, prompt: conversations.Prompt) -> None:
    """Raises a `values.RowError` for a conversation whose roles the template refuses."""
    roles = tuple(turn.role for turn in conversations.turns(prompt))
    if self.form and (refusal := _refusal(self.fast, self.form, roles)):
      raise values.RowError("refused by the chat template", refusal)

  def read(self, questions: Sequence[conversations.Prompt], answers: Sequence[str]) -> Reading:
    """Returns what the classifier reads of each x and its answer.

    Raises:
      jinja2.TemplateError: the template refuses a conversation; see `check`.
      ValueError: the template leaves no room for a text.
    """
    # Of a pair x is one text of the user.
    shown = questions if self.form else map(conversations.said, questions)
    talks = list(zip(map(conversations.turns, shown), answers, strict=True))
    encodings = self._encode(talks)
    is_cut = np.array([len(ids) > self.max_length for ids, _ in encodings], bool)
    for index in np.flatnonzero(is_cut).tolist():
      encodings[index] = self._shortened(*talks[index])

    return Reading([ids for ids, _ in encodings], [types for _, types in encodings], is_cut)

  def _encode(self, asked: Sequence[tuple[Talk, str]]) -> list[tuple[list[int], list[int]]]:
    """Returns ids and token types of conversations, whole."""
    if self.form is None:
      texts = [(turns[-1].content, answer) for turns, answer in asked]
      return [(encoding.ids, encoding.type_ids) for encoding in self._plain(texts, True)]

    pieces = [self._pieces((*turns, conversations.Turn("assistant", y))) for turns, y in asked]
    # Pieces alternate: the template's (even places) and those a content spells out (odd).
    written = iter(self._written([piece for row in pieces for piece in row[::2]]))
    spelled = iter(self._plain([piece for row in pieces for piece in row[1::2]]))
    encodings = []

    for row in pieces:
      parts = [next(spelled if place % 2 else written).ids for place in range(len(row))]
      ids = [token for part in parts for token in part]
      encodings.append((ids, [0] * len(ids)))

    return encodings

  def _pieces(self, talk: Talk) -> list[str]:
    """Returns a rendered conversation, parted at what its contents spell out: every other piece."""
    spelled = []

    def mark(match: re.Match) -> str:
      spelled.append(match[0])
      return _MARK.format(len(spelled) - 1)

    contents = [self._controls.sub(mark, turn.content) for turn in talk]
    pieces = _MARKED.split(_render(self.fast, self.form, [turn.role for turn in talk], contents))
    pieces[1::2] = [spelled[int(place)] for place in pieces[1::2]]
    return pieces

  @functools.cached_property
  def _controls(self) -> re.Pattern:
    """What is never read as a token where a content spells it out."""
    added = self.fast.added_tokens_decoder.values()
    tokens = sorted((token.content for token in added if token.special), key=len, reverse=True)
    # Longest first: of alternatives the first that fits is taken. Marks in a content count too.
    return re.compile("|".join([*map(re.escape, tokens), _MARKED.pattern]))

  def _plain(self, texts: Sequence, adds: bool = False) -> list[tokenizers.Encoding]:
    """Encodes texts, or pairs of them, in which no special token is read."""
    rust = self.fast.backend_tokenizer
    # The library's name for it: True reads what spells a special token as ordinary characters.
    rust.encode_special_tokens = True
    return rust.encode_batch(list(texts), add_special_tokens=adds)

  def _written(self, texts: Sequence[str]) -> list[tokenizers.Encoding]:
    """Encodes what a template has written, in which special tokens are what they say."""
    rust = self.fast.backend_tokenizer
    rust.encode_special_tokens = False
    return rust.encode_batch_fast(list(texts), add_special_tokens=False)

  def _shortened(self, turns: Talk, answer: str) -> tuple[list[int], list[int]]:
    """Returns ids and token types of a conversation that must lose something."""
    answer = self._beginning(answer, self.max_answer_length)
    for talk in conversations.later(turns):
      (encoding,) = self._encode([(talk, answer)])
      if len(encoding[0]) <= self.max_length:
        return encoding

    question = turns[-1].content
    for others in dict.fromkeys((turns[: turns[0].role == "system"], ())):
      room = self.max_length
      while room > 0:
        last = conversations.Turn("user", self._ending(question, room))
        (encoding,) = self._encode([((*others, last), answer)])
        if len(encoding[0]) <= self.max_length:
          return encoding

        # Cut text may take other tokens than were counted; the excess comes off until all fits.
        room -= len(encoding[0]) - self.max_length

    raise ValueError(
      f"at most {self.max_length} tokens leave no room for a question beside what the classifier's "
      "template writes and the answer; use a larger data.max_prompt_length"
    )

  def _beginning(self, content: str, count: int) -> str:
    """Returns the first tokens of a text, as text."""
    offsets = self._plain([content])[0].offsets
    return content if len(offsets) <= count else content[: offsets[count - 1][1]]

  def _ending(self, content: str, count: int) -> str:
    """Returns the last tokens of a text, as text, from the start of a word if there is one."""
    offsets = self._plain([content])[0].offsets
    if len(offsets) <= count:
      return content
    rest = content[offsets[-count][0] :]
    begun = re.search(r"(?<!\S)\S" if content[offsets[-count][0] - 1].isspace() else r"\s\S", rest)

    return rest[begun.start() :].lstrip() if begun else rest


def open_reader(fast: Fast, kind: str, max_length: int, max_answer_length: int) -> Reader:
  """Returns how a classifier is asked that has this tokenizer, which the reader keeps for itself.

  Args:
    fast: the tokenizer.
    kind: "chat" (its own template), "pair", or "auto": a chat where there is a template.
    max_length: the most tokens of a conversation, at least 2.
    max_answer_length: how many an answer keeps in any case; never more than half of them.

  Raises a ValueError where the kind is not known, or the template is absent or hides one of both.
  """
  if kind not in KINDS:
    raise ValueError(f"the reader is {kind!r}; use one of {', '.join(KINDS)}")
  # A tokenizer's file may ask for both, and the lengths here are the reader's matter.
  fast.backend_tokenizer.no_padding()
  fast.backend_tokenizer.no_truncation()
  form = None if kind == "pair" else hf_text.chat_template(fast)
  if kind == "chat" and form is None:
    raise ValueError('the tokenizer has no chat template; use the reader "pair"')
  lengths = (max_length, min(max_answer_length, max_length // 2))

  if form is None:
    return Reader(fast, None, *lengths)
  form = skeletons.dated(form)
  marks = [_MARK.format(place) for place in range(2)]

  try:
    rendered = _render(fast, form, ("user", "assistant"), marks)
  except jinja2.TemplateError as error:
    raise ValueError(f"the chat template refuses a question and its answer: {error}") from error

  if not all(mark in rendered for mark in marks):
    raise ValueError(
      "the chat template does not show the question and its answer, so that every answer would get "
      'one score; use the reader "pair", or a model whose template shows both'
    )

  # What begins a question and ends an answer is special, even where the file does not call it so.
  # What is written between the two is no mark of a turn alone: Qwen 3's empty thoughts are there,
  # and its template takes an answer's own thoughts out of its content.
  before, *_, after = _MARKED.split(rendered)
  for token in list(fast.added_tokens_decoder.values()):
    if not token.special and token.content.strip() and token.content in before + after:
      token.special = True
      fast.add_tokens([token], special_tokens=True)

  return Reader(fast, form, *lengths)


def _render(fast: Fast, form: str, roles: Sequence[str], contents: Sequence[str]) -> str:
  """Returns a conversation in a chat template, its answer last."""
  messages = conversations.messages(map(conversations.Turn, roles, contents))
  return fast.apply_chat_template(messages, chat_template=form, tokenize=False)


@functools.lru_cache(maxsize=1024)
def _refusal(fast: Fast, form: str, roles: tuple[str, ...]) -> str | None:
  """Returns what a template says against an answer after turns of these roles; None: nothing."""
  try:
    _render(fast, form, (*roles, "assistant"), ["text"] * (len(roles) + 1))
  except jinja2.TemplateError as error:
    return str(error)

  return None


def _digest(content: str) -> str:
  return hashlib.sha256(content.encode()).hexdigest()[:16]
