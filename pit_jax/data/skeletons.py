"""Chat templates taken apart: what a template itself writes, and what it makes of contents.

A template is rendered once for each order of roles, with marks in the contents' places. What stands
around the marks is its skeleton, whose ids are joined with those of contents. That is right as long
as a template writes contents as they are. Some do not: Qwen 3's and DeepSeek's leave what was
thought before `</think>` out of earlier answers, others escape or shorten. So contents are compared
with the template's own rendering of them, of which `shown` takes what it made of each.
"""

import ast
import functools
import operator
import re
from collections.abc import Sequence
from typing import NamedTuple

import jinja2

from pit_jax.data import conversations, text

# A template that tells the date would make prompts depend on the day; this is Llama's default.
DATE = "{%- macro strftime_now(form) -%}26 Jul 2024{%- endmacro %}"
_SLOT = re.compile("\ue000([0-9]+)\ue001")  # of private use: no template writes it
# Contents with what filters, trims and escapes change; see `is_faithful`.
_PROBE = (
  "".join(map(chr, range(33, 127))) + '\n\n a  b\t"c" \\n <d>&amp;\r\n' + "É東—🙂 x" * 200 + "."
)


Turns = Sequence[conversations.Turn]


class Skeleton(NamedTuple):
  """A rendered template without the contents of its messages."""

  pieces: list[str]  # its text around the contents, one more than there are contents
  befores: list[list[int]]  # ids in front of each content
  spaces: list[str]  # " " or "" that belongs to each content, and to what follows the tail
  tail: list[int]  # ids after the last content

  def join(self, contents: Sequence[list[int]]) -> list[int]:
    """Returns the ids of the template with contents."""
    parts = [part for pair in zip(self.befores, contents, strict=True) for part in pair]
    return [token for part in (*parts, self.tail) for token in part]


def dated(form: str) -> str:
  """Returns a chat template that is told one date for ever, where it asks for today's."""
  return DATE + form if "strftime_now" in form else form


@functools.lru_cache(maxsize=1024)
def make(
  tokenizer: text.Tokenizer, form: str, roles: tuple[str, ...], is_asked: bool = True
) -> Skeleton:
  """Renders messages of these roles and takes their contents out again.

  Raises a ValueError where the template refuses the roles, or loses, changes or repeats a content.
  """
  turns = [conversations.Turn(role, _slot(i)) for i, role in enumerate(roles)]
  try:
    pieces = _SLOT.split(_render(tokenizer, form, turns, is_asked))
  except jinja2.TemplateError as error:
    raise ValueError(f"the chat template refuses the roles {', '.join(roles)}: {error}") from error

  if pieces[1::2] != [str(i) for i in range(len(roles))]:
    raise ValueError(
      f"the chat template does not show each message of the roles {', '.join(roles)} once, as it "
      "is and in order"
    )

  kept = [piece.removesuffix(" ") for piece in pieces[::2]]
  spaces = [piece[len(part) :] for piece, part in zip(pieces[::2], kept, strict=True)]
  *befores, tail = map(tokenizer.encode_form, kept)
  return Skeleton(pieces[::2], befores, spaces, tail)


def shown(tokenizer: text.Tokenizer, form: str, turns: Turns, is_sampled: bool) -> tuple[str, ...]:
  """Returns the content of each turn as the template writes it before the assistant's next turn.

  It is rendered where it may be changed, or is of a sample.

  Raises:
    ValueError: the template writes the turns otherwise than as contents between words of its own,
      which do not depend on them; the message names the turn.
  """
  pieces = make(tokenizer, form, tuple(turn.role for turn in turns)).pieces
  contents = tuple(turn.content for turn in turns)
  if not is_sampled and not may_change(tokenizer, form, turns):
    return contents
  try:
    whole = _render(tokenizer, form, turns)
    if whole == _woven(pieces, contents):
      return contents

    # Each content by itself among marks: together they must give the whole again.
    rendered = [_alone(tokenizer, form, turns, pieces, i) for i in range(len(turns))]
  except jinja2.TemplateError as error:
    raise ValueError(f"the chat template refuses the contents: {error}") from error

  if whole != _woven(pieces, rendered):
    raise ValueError(
      "the chat template writes each turn by what others say, which training cannot follow; change "
      'the row, or use data.chat="plain"'
    )

  return tuple(rendered)


def may_change(tokenizer: text.Tokenizer, form: str, turns: Turns) -> bool:
  """Returns whether the template may write contents otherwise than they are.

  So it is where it changes a probe, or where a content holds a string that its source spells:
  what a template searches for it has to spell.
  """
  if not _is_faithful(tokenizer, form):
    return True
  return any(literal in turn.content for turn in turns for literal in _literals(form))


@functools.lru_cache(maxsize=64)
def _is_faithful(tokenizer: text.Tokenizer, form: str) -> bool:
  """Returns whether a template writes all manner of characters, in every role, as they are."""
  probes = [("user",), ("user", "assistant", "user"), ("system", "user", "assistant", "user")]
  for roles in probes:
    turns = [conversations.Turn(role, _PROBE) for role in roles]
    try:
      pieces = make(tokenizer, form, roles).pieces
      if _render(tokenizer, form, turns) != _woven(pieces, [_PROBE] * len(roles)):
        return False
    except jinja2.TemplateError:
      return False
    except ValueError:  # of a template that refuses a role
      continue

  return True


@functools.lru_cache(maxsize=64)
def _literals(form: str) -> tuple[str, ...]:
  """Returns the strings that a template's expressions spell, blank ones left out."""
  spelled = set()
  for _, kind, token in jinja2.Environment().lex(form):
    if kind == "string":
      try:
        spelled.add(ast.literal_eval(token).strip())
      except SyntaxError:  # Jinja's strings may hold line breaks
        spelled.add(token[1:-1].strip())

  return tuple(sorted(spelled - {""}))


def _alone(
  tokenizer: text.Tokenizer, form: str, turns: Turns, pieces: Sequence[str], index: int
) -> str:
  """Returns what the template makes of one content, the others being marks."""
  slots = [_slot(i) for i in range(len(turns))]
  marked = [turn._replace(content=slot) for turn, slot in zip(turns, slots, strict=True)]
  marked[index] = turns[index]
  rendered = _render(tokenizer, form, marked)
  before = _woven(pieces[: index + 1], slots[:index])
  after = _woven(pieces[index + 1 :], slots[index + 1 :])
  is_between = rendered.startswith(before) and rendered.endswith(after)

  if not is_between or len(rendered) < len(before) + len(after):
    role, content = turns[index]
    raise ValueError(
      f"the chat template writes other turns by what the {role} says in turn {index + 1}, "
      f'{content[:40]!r}, which training cannot follow; change the row, or use data.chat="plain"'
    )

  return rendered[len(before) : len(rendered) - len(after)]


def _render(tokenizer: text.Tokenizer, form: str, turns: Turns, is_asked: bool = True) -> str:
  return tokenizer.render(dated(form), conversations.messages(turns), is_asked)


def _woven(pieces: Sequence[str], contents: Sequence[str]) -> str:
  """Returns pieces with contents in between: one piece more than there are contents."""
  return "".join(map(operator.add, pieces, [*contents, ""]))


def _slot(index: int) -> str:
  return f"\ue000{index}\ue001"
