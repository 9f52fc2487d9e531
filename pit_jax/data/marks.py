"""Marks of turns in text: how dialogues are written down where they are no message lists.

Four styles are known: labels ("Human:", "USER:"), headings ("### Instruction:"), special tokens of
chat templates ("<|im_start|>user", "<|user|>", "<start_of_turn>user", …) and Llama 2's brackets
("[INST]"). Labels count at the beginning of a line, in capitals ("ASSISTANT:", as Vicuna writes
them) within one too; few-shot labels (Q:, A:, Question:, Answer:) do not.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

_ROLES = {
  "user": "user human prompter instruction question prompt inst",
  "assistant": "assistant ai bot chatbot chatgpt claude agent moss model gpt response answer output"
  " /inst",
  "system": "system developer",
}
_ROLE_OF = {name: role for role, names in _ROLES.items() for name in names.split()}

_SPEAKER = "(user|human|prompter|assistant|ai|bot|chatbot|chatgpt|claude|agent|moss|system)"
_NAME = f"{_SPEAKER[:-1]}|model|gpt|developer)"
_HEADING = f"{_SPEAKER[:-1]}|instruction|question|prompt|model|gpt|response|answer|output)"

# style → how it begins a turn; each alternative has the role in its only group.
_STYLES = {
  "label": (
    rf"^[ \t>*_]*(?:AI )?{_SPEAKER}(?: \d+)?[*_]* ?[:：][*_]*",
    rf"GPT4 Correct {_SPEAKER}:",
    r"(?<!\w)((?-i:USER|HUMAN|ASSISTANT|SYSTEM)):",
  ),
  "heading": (rf"#{{2,6}}[ \t]*{_HEADING}[ \t]*(?:[:：]|(?=\r?\n|\Z))",),
  "token": (
    rf"<\|im_start\|>\s*{_NAME}\b",
    rf"<\|(?:start_header_id|start_of_role|role_start|start)\|>\s*{_NAME}\b"
    r"(?:[^<\n]*<\|(?:end_header_id|end_of_role|role_end|channel|message)\|>)*",
    rf"<(?:start_of_turn|\|turn|extra_id_\d)>\s*{_NAME}\b",
    rf"<[|｜](?:im_)?{_NAME}(?:_TOKEN)?[|｜]>(?:\w*<\|im_middle\|>)?:?",
    rf"<{_NAME}>:?",
    rf"\[\|{_NAME}\|\]:?",
  ),
  "bracket": (r"\[(/?INST)\]",),
}
_ALTERNATIVES = (
  f"(?P<{style}_{number}>{pattern})"
  for style, patterns in _STYLES.items()
  for number, pattern in enumerate(patterns)
)
_MARK = re.compile("|".join(_ALTERNATIVES), re.IGNORECASE | re.MULTILINE)
_END = re.compile(  # of a turn, as templates write it
  r"<[|｜](?:im_end|eot_id|eom_id|end|endoftext|end_of_text|end_of_turn|END_OF_TURN_TOKEN|"
  r"end▁of▁sentence)[|｜]>|<end_of_turn>|<turn\|>|<eo[hs]>|</s>|</?(?:human|user)>"
)
_SYSTEM = re.compile(r"<<SYS>>.*?<</SYS>>", re.DOTALL)


class Mark(NamedTuple):
  """Where a turn begins in a text."""

  role: str  # user, assistant or system
  style: str  # label, heading, token or bracket
  start: int  # of the mark, in characters
  end: int  # of the mark, where the turn's content begins


def find(text: str) -> Iterator[Mark]:
  """Yields the marks of turns in a text, in order; none where it names no user.

  Without a user there is no dialogue. Looking for a name is fast, looking for marks is slow.
  """
  lower = text.lower()
  if any(name in lower for name in _ROLES["user"].split()):
    yield from map(_mark, _MARK.finditer(text))


def _mark(match: re.Match) -> Mark:
  style, _, _ = match.lastgroup.partition("_")
  name = match[match.lastindex + 1]  # the only group inside the alternative that matched
  return Mark(_ROLE_OF[name.lower()], style, match.start(), match.end())


def first(text: str) -> Mark | None:
  """Returns the mark that a text begins with; None where it begins otherwise."""
  match = _MARK.match(text)
  return match and _mark(match)


def turns(text: str) -> list[tuple[str, str]]:
  """Returns the turns of a text that is a dialogue, as (role, content); none where no user speaks.

  A dialogue keeps the style in which it begins, as long as its user speaks in it: labels in a
  system's turn of special tokens are an example of a dialogue, not a part of this one. What
  precedes the first mark is no turn, unless a special token lets the assistant answer it, as in
  HelpSteer's prompts, whose first turn has no mark. A content may be empty.
  """
  marks = list(find(text))
  styles = [mark.style for mark in marks if mark.role == "user"]
  if not styles:
    return []
  style = marks[0].style if marks[0].style in styles else styles[0]
  marks = [mark for mark in marks if mark.style == style]
  ends = [*(mark.start for mark in marks[1:]), len(text)]
  contents = (text[mark.end : end] for mark, end in zip(marks, ends, strict=True))

  # A turn ends where a template ends it: the next may begin with a name that nobody knows.
  said = (_END.split(_SYSTEM.sub("", content), maxsplit=1)[0].strip() for content in contents)
  dialogue = list(zip((mark.role for mark in marks), said, strict=True))
  is_answered = style == "token" and dialogue[0][0] == "assistant"
  before = text[: marks[0].start].strip() if is_answered else ""
  return [("user", before), *dialogue] if before else dialogue


def first_user_turn(text: str) -> str | None:
  """Returns what the user says first in a text that is a dialogue; None where no user speaks.

  Whatever precedes the user's first turn is passed over and what follows decides nothing, so that
  all turns of one dialogue have the same first turn. One that holds a dialogue is read likewise.
  """
  content = next((turn for role, turn in turns(text) if role == "user" and turn), None)
  return content and (first_user_turn(content) or content)
