"""Prompts in a chat model's own template, exactly as those who serve the model will ask it."""

import dataclasses
import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from pit_jax.data import conversations, prompt_formats, serving, skeletons, template, text, values

KINDS = ("auto", "plain", "model")
Turns = tuple[conversations.Turn, ...]
SAMPLED = 64  # of so many rows one is compared with the template's own rendering, whatever it holds


@dataclasses.dataclass(frozen=True)
class Chat(template.Form):
  """A chat model's own template (Jinja).

  The policy is shown the conversation and where its turn begins. The improver is shown the
  conversation, the reference as the assistant's turn, a user's turn that asks for a better reply,
  and where its turn begins. A response is its text and the token that ends a turn.

  Special tokens are read in what the template writes and never in a content: no user can begin or
  end a turn. The template's text and the contents are encoded apart. Where a template begins its
  contents after a line break and ends them with a special token, as ChatML's, Llama 3's, Qwen's and
  SmolLM2's do, the ids are those of `apply_chat_template`; a template that borders contents with
  ordinary characters may differ in the tokens at the border.

  Contents are as the template writes them: one that leaves reasoning out of earlier answers is
  learnt from as it is served. Rows in which a template might change anything, and a sample of the
  others, are compared with its own rendering, and those that it writes in a way that cannot be
  taken apart are refused; see data/skeletons.py.

  An over-long conversation loses its oldest turns; the system's and the last of the user stay. A
  last turn too long by itself loses its beginning, up to a word's start; a system's turn that
  leaves it no room is left out.
  """

  form: str  # the chat template
  improver_turn: str  # what the user says after the reference
  kind: ClassVar[str] = "model"

  def __post_init__(self):
    if not self.improver_turn.strip():
      raise ValueError("data.improver_turn is empty; say what the improver is to do")

  @functools.cached_property
  def formats(self) -> dict[str, prompt_formats.Format]:
    """The policy's, which shows x alone, and the improver's; see `Form`."""
    request = conversations.Turn("user", self.improver_turn)
    revision = (prompt_formats.Text("assistant", "reference"), request)
    improver = prompt_formats.Format("improver", ("reference",), turns=revision)
    return {"policy": prompt_formats.Format("policy"), "improver": improver}

  @property
  def hash(self) -> str:
    """A sha256 (16 hex digits) of everything that decides what a model sees."""
    content = json.dumps([self.kind, self.form, self.improver_turn, skeletons.DATE, "as shown"])
    return hashlib.sha256(content.encode()).hexdigest()[:16]

  def chat(self, tokenizer: text.Tokenizer, *, shows_reference: bool, is_scored: bool) -> str:
    """Returns the policy's own chat template, or what the others' make of it; see `Form`.

    The policy's is wrapped too where its prompt ends in a space, with which a response begins here.
    """
    unanswered = skeletons.make(tokenizer, self.form, ("user",))
    if not (shows_reference or is_scored or unanswered.spaces[-1]):
      return self.form
    before = skeletons.DATE if "strftime_now" in self.form else ""
    improver_turn = self.improver_turn.strip() if shows_reference else None
    asked = {"improver_turn": improver_turn, "is_scored": is_scored, "before": before}
    return serving.wrapped(self.form, self.lead(tokenizer), tokenizer.eos, **asked)

  def check(self, tokenizer: text.Tokenizer, prompt: conversations.Prompt) -> None:
    """Raises a `values.RowError` for a conversation that the template refuses or entangles."""
    try:
      for shown in self.formats.values():
        turns = prompt_formats.Conversation(prompt, shown, ["…"] * len(shown.texts)).turns
        skeletons.shown(tokenizer, self.form, turns, is_sampled=False)
    except ValueError as error:
      raise values.RowError("refused by the chat template", f"prompt: {error}") from error

  def lead(self, tokenizer: text.Tokenizer) -> str:
    """Returns the white space that the template writes between a prompt and its reply."""
    unanswered = skeletons.make(tokenizer, self.form, ("user",))
    answered = skeletons.make(tokenizer, self.form, ("user", "assistant"), is_asked=False)
    return answered.spaces[1] if answered.befores[1] == unanswered.tail else unanswered.spaces[-1]

  def encode(
    self, tokenizer, asked, max_prompt_length=None, max_response_length=None
  ) -> template.Encoding:
    """Returns the ids of conversations; see `Form`."""
    prompts, further = self._shown(tokenizer, asked)
    fitted, is_cut = self._fit(tokenizer, prompts, max_prompt_length)
    skeletons_of = [
      skeletons.make(tokenizer, self.form, (*roles, *(turn.role for turn in turns)))
      for (roles, _), turns in zip(fitted, further, strict=True)
    ]

    contents = [
      space + turn.content
      for form, turns in zip(skeletons_of, further, strict=True)
      # The template's own space before each turn, which may not be that before a response.
      for space, turn in zip(form.spaces[-1 - len(turns) : -1], turns, strict=True)
    ]
    is_text = [isinstance(turn, prompt_formats.Text) for one in asked for turn in one.format.turns]
    ids = _encode_further(tokenizer, contents, is_text, max_response_length)

    encoded = []
    for i, (form, (_, before), turns) in enumerate(zip(skeletons_of, fitted, further, strict=True)):
      after = [next(ids) for _ in turns]
      is_cut[i] |= any(is_short for _, is_short in after)
      encoded.append(form.join([*before, *(row for row, _ in after)]))

    return template.Encoding(encoded, is_cut)

  def _shown(
    self, tokenizer: text.Tokenizer, asked: Sequence[prompt_formats.Conversation]
  ) -> tuple[list[Turns], list[Turns]]:
    """Returns x and what was said after it, contents as the template writes them."""
    before = []
    after = []
    for i, one in enumerate(asked):
      turns = one.turns
      try:
        contents = skeletons.shown(tokenizer, self.form, turns, is_sampled=i % SAMPLED == 0)
        turns = tuple(turn._replace(content=contents[k]) for k, turn in enumerate(turns))
      except ValueError as error:
        raise ValueError(f"row {i}, {turns[0].content[:40]!r}: {error}") from error

      size = len(turns) - len(one.format.turns)
      before.append(turns[:size])
      after.append(turns[size:])

    return before, after

  def _fit(
    self, tokenizer: text.Tokenizer, asked: Sequence[Turns], limit: int | None
  ) -> tuple[list[tuple[tuple[str, ...], list[list[int]]]], np.ndarray]:
    """Returns roles and contents' ids of every prompt, cut to a limit, and which were cut."""
    skeleton = functools.partial(skeletons.make, tokenizer, self.form)
    forms = [skeleton(tuple(turn.role for turn in turns)) for turns in asked]
    texts = map(_spaced, asked, forms)
    ids = iter(tokenizer.encode_batch(list(itertools.chain.from_iterable(texts))))
    fitted = []
    is_cut = np.zeros(len(asked), bool)

    for i, (turns, form) in enumerate(zip(asked, forms, strict=True)):
      contents = [next(ids) for _ in turns]
      is_cut[i] = limit is not None and len(form.join(contents)) > limit
      whole = tuple(turn.role for turn in turns), contents
      fitted.append(_shorten(tokenizer, skeleton, turns, limit) if is_cut[i] else whole)

    return fitted, is_cut


def choose(
  kind: str, tokenizer: text.Tokenizer, plain: template.Template, improver_turn: str
) -> tuple[template.Form, text.Tokenizer]:
  """Returns how models are asked, and the tokenizer whose responses end as this form's do.

  Args:
    kind: "plain", "model" (the tokenizer's own chat template), or "auto": that where there is one.
    tokenizer: of the base model.
    plain: the plain form; its prompts begin as the tokenizer by itself begins a text.
    improver_turn: as for `Chat`.

  Raises a ValueError where the kind is not known, or the template is absent or cannot be used.
  """
  if kind not in KINDS:
    raise ValueError(f"data.chat is {kind!r}; use one of {', '.join(KINDS)}")
  if kind == "plain" or (kind == "auto" and tokenizer.chat_template is None):
    return dataclasses.replace(plain, bos=tokenizer.bos), tokenizer

  if tokenizer.chat_template is None:
    raise ValueError(
      'data.chat is "model", but the tokenizer has no chat template; use data.chat="plain", or a '
      "base model whose tokenizer has one"
    )

  chat = Chat(tokenizer.chat_template, improver_turn)
  try:
    end, marks = _ending(tokenizer, chat.form)
  except ValueError as error:
    raise ValueError(f'{error}. Use data.chat="plain" for this model') from error

  hidden = [mark for mark in marks.values() if not mark.special and mark.content.strip()]
  is_ready = end == tokenizer.eos_id and not hidden
  return chat, tokenizer if is_ready else tokenizer.with_turns(end, hidden)


def restore(described: dict[str, Any]) -> template.Form:
  """Returns the form that `Form.describe` described.

  Raises a ValueError where there is no such kind, a TypeError for a missing or unknown field.
  """
  forms = {form.kind: form for form in (template.Template, Chat)}
  fields = dict(described)
  kind = fields.pop("kind", None)
  if kind not in forms:
    raise ValueError(f"its kind is {kind!r}; known are {', '.join(forms)}")
  return forms[kind](**fields)


def _ending(tokenizer: text.Tokenizer, form: str) -> tuple[int, dict]:
  """Returns the token that ends a turn, and all tokens that the template marks turns with."""
  answered = skeletons.make(tokenizer, form, ("user", "assistant"), is_asked=False)
  talk = skeletons.make(tokenizer, form, ("user", "assistant", "user"))
  # What ends a turn: the first token after an answer, at the end or before a further turn.
  after = tokenizer.added(answered.tail[:1]) or tokenizer.added(talk.befores[2][:1])
  used = [token for part in (*talk.befores, talk.tail, answered.tail) for token in part]
  return next(iter(after), tokenizer.eos_id), tokenizer.added(used)


def _encode_further(
  tokenizer: text.Tokenizer, contents: Sequence[str], is_text: Sequence[bool], limit: int | None
) -> Iterator[tuple[list[int], bool]]:
  """Yields the ids of each content and whether it was cut, as texts of a row alone may be."""
  rows = tokenizer.encode_batch(contents)
  ids, is_cut = template.shorten(list(itertools.compress(rows, is_text)), limit)
  shortened = zip(ids, is_cut.tolist(), strict=True)
  for row, may_be_cut in zip(rows, is_text, strict=True):
    yield next(shortened) if may_be_cut else (row, False)


def _spaced(turns: Iterable[conversations.Turn], form: skeletons.Skeleton) -> list[str]:
  return [space + turn.content for space, turn in zip(form.spaces, turns, strict=False)]


def _shorten(
  tokenizer: text.Tokenizer,
  skeleton: Callable[[tuple[str, ...]], skeletons.Skeleton],
  turns: tuple[conversations.Turn, ...],
  limit: int,
) -> tuple[tuple[str, ...], list[list[int]]]:
  """Returns the roles and the contents' ids of a conversation that must lose something."""
  for kept in conversations.later(turns):
    roles = tuple(turn.role for turn in kept)
    contents = tokenizer.encode_batch(_spaced(kept, skeleton(roles)))
    if len(skeleton(roles).join(contents)) <= limit:
      return roles, contents

  # Whole turns were not enough: the last one is cut, beside the system's turn or else alone.
  owns = []
  for kept in (conversations.later(turns)[-1], turns[-1:]):
    roles = tuple(turn.role for turn in kept)
    *others, last = _spaced(kept, skeleton(roles))
    contents = tokenizer.encode_batch(others)

    # What the template and the other turns take, the last turn's content left empty.
    owns.append(len(skeleton(roles).join([*contents, []])))
    if owns[-1] < limit:
      return roles, [*contents, tokenizer.suffix(last, limit - owns[-1])]

  raise ValueError(
    f"data.max_prompt_length={limit} leaves no room for a prompt beside the {min(owns)} tokens of "
    f"the chat template; use at least {min(owns) + 1}"
  )
