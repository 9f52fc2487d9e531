"""Texts that are not what they seem: conversations, or parts of a template, inside one text."""

import collections
import re
from collections.abc import Collection, Sequence

from pit_jax.data import conversations, marks, rows, text

LISTED = "a message list as text"
TEMPLATE = "marks of a chat template"
LABELLED = "a dialogue inside one turn"
KINDS = (LISTED, TEMPLATE, LABELLED)
LABELS = ("label", "heading")  # styles of marks; the others are of templates

_LISTED = re.compile(
  r"\s*(?:array\()?[\[({]\s*(?:\{\s*|dict\()?['\"]?(?:role|content|from|value)['\"]?\s*[:=]"
)
# Tokens that published templates write around turns, and that nobody writes else.
_TOKEN = re.compile(
  r"<[|｜](?:im_start|im_end|im_user|im_assistant|im_system|im_middle|user|assistant|system|prompter"
  r"|end|eot_id|eom_id|start_header_id|end_header_id|begin_of_text|end_of_text|endoftext"
  r"|end_of_turn|START_OF_TURN_TOKEN|END_OF_TURN_TOKEN|start_of_role|end_of_role|start|message"
  r"|channel|Human|Assistant|User|begin▁of▁sentence|end▁of▁sentence)[|｜]>"
  r"|<extra_id_[01]>(?:System|User|Assistant)\b|</?start_of_turn>|<end_of_turn>"
  r"|<\|turn>|<turn\|>|<bos>|<BOS_TOKEN>|\[/?INST\]|<</?SYS>>"
  r"|</s>(?:\s*<s>|\s*\Z)"
)


def spelled(words: text.Tokenizer) -> tuple[str, ...]:
  """Returns the tokens by which a tokenizer's own chat template marks turns; none without one."""
  form = words.chat_template or ""
  added = words.added(words.vocabulary.values()).values()
  contents = {token.content for token in added if not token.content.strip().isalnum()}
  return tuple(sorted(content for content in contents if content.strip() and content in form))


def find(row: rows.Preference, tokens: Collection[str] = ()) -> list[str]:
  """Returns what is suspicious of a row, some of KINDS.

  A dialogue inside one turn is one in which both user and assistant are marked, or which begins
  with the user's mark; a response is one too where it goes on with a turn of the user, or begins
  with the assistant's mark. Tokens are those by which the template that rows are shown in marks
  turns.
  """
  prompts = [turn.content for turn in conversations.turns(row.prompt)]
  responses = [content for content in (row.chosen, row.rejected, row.response) if content]
  texts = [*prompts, *responses]
  spelt = (token for token in tokens for content in texts if token in content)
  suspicious = {
    LISTED: any(map(_LISTED.match, texts)),
    TEMPLATE: any(map(_TOKEN.search, texts)) or any(spelt),
    LABELLED: any(map(_is_dialogue, prompts)) or any(map(_goes_on, responses)),
  }
  return [kind for kind in KINDS if suspicious[kind]]


def _is_dialogue(turn: str) -> bool:
  first = marks.first(turn)
  if first and first.role == "user" and first.style in LABELS:
    return True
  return {"user", "assistant"} <= {mark.role for mark in marks.find(turn) if mark.style in LABELS}


def _goes_on(response: str) -> bool:
  """Returns whether a response holds a turn of the user, or begins with whose turn it is."""
  first = marks.first(response)
  if first and first.style in LABELS:
    return True
  return any(mark.role == "user" and mark.style in LABELS for mark in marks.find(response))


def count(
  preferences: Sequence[rows.Preference], tokens: Collection[str] = ()
) -> dict[str, list[int]]:
  """Returns the numbers of the rows with each of KINDS that there is; see `find`."""
  numbers: dict[str, list[int]] = collections.defaultdict(list)
  for number, row in enumerate(preferences):
    for kind in find(row, tokens):
      numbers[kind].append(number)

  return {kind: numbers[kind] for kind in KINDS if kind in numbers}
