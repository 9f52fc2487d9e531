"""Turns two dialogues that differ in their last reply into a prompt with two responses."""

import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax.data import conversations, rows, values

OTHER_PROMPT = "'prompt' is not what the conversations beside it begin with; it is not read"
WORD = re.compile(r"\S+\s*")
HUMAN = conversations.LABELS["user"]
ASSISTANT = conversations.LABELS["assistant"]


def split_pair(fields: Mapping) -> dict:
  """Splits the dialogues `chosen` and `rejected` into the shared turns and the last replies.

  Format of Anthropic's HH-RLHF: turns begin with "Human:" or "Assistant:" after an empty line. The
  prompt is the conversation of all turns but the last. Where it ends with an assistant's turn, so
  that the assistant speaks twice, it is no conversation that anybody would have: it stays a text.

  Raises a `values.RowError` where a text is no dialogue, or the turns before the last differ.
  """
  chosen_turns, chosen = _split(fields, "chosen")
  rejected_turns, rejected = _split(fields, "rejected")
  _check_shared(chosen_turns, rejected_turns)
  is_asked = chosen_turns[-1].role == "user"
  shown = conversations.messages if is_asked else conversations.write
  return {"prompt": shown(tuple(chosen_turns)), "chosen": chosen, "rejected": rejected}


def split(fields: Mapping) -> list[dict]:
  """Returns a row with `chosen` and `rejected`, its prompt taken out of dialogues without one.

  Where both are lists of texts, each of the chosen is preferred to each of the rejected.
  """
  columns = {name: fields[name] for name in ("prompt", "chosen", "rejected") if name in fields}
  responses = [fields.get(name) for name in ("chosen", "rejected")]
  if all(map(_are_texts, responses)):
    pairs = itertools.product(*responses)
    return [{**columns, "chosen": chosen, "rejected": rejected} for chosen, rejected in pairs]

  are_texts = all(isinstance(text, str | bytes) for text in responses)
  if values.is_empty(fields.get("prompt")) and are_texts and any(map(_is_dialogue, responses)):
    return [split_pair(fields)]
  return [columns]


def split_beginning(fields: Mapping) -> dict:
  """Returns a row whose prompt is what its two texts begin with, up to a word's end.

  Raises a `values.RowError` where a text is missing, or the two begin with no word in common.
  """
  chosen, rejected = (values.read_text(fields, name) for name in ("chosen", "rejected"))
  prompt = "".join(_shared(WORD.findall(chosen), WORD.findall(rejected)))
  if not prompt:
    detail = "'chosen' and 'rejected' begin with no word in common; give a column 'prompt'"
    raise values.RowError("dialogues differ", detail)

  size = len(prompt)
  return {"prompt": prompt, "chosen": chosen[size:], "rejected": rejected[size:]}


def read_prompt(fields: Mapping, name: str) -> conversations.Prompt:
  """Returns a prompt as `rows` does; a dialogue that ends in "Assistant:" as a conversation."""
  prompt = rows.read_prompt(fields, name)
  if not isinstance(prompt, str):
    return prompt
  before, turns = conversations.split(prompt)
  roles = [turn.role for turn in turns]
  is_asked = roles[:1] == ["user"] and roles[-2:] == ["user", "assistant"]
  is_whole = is_asked and not before and not turns[-1].content
  return tuple(turns[:-1]) if is_whole and all(turn.content for turn in turns[:-1]) else prompt


def is_whole(value: Any) -> bool:
  """Returns whether messages are a conversation and not a reply alone."""
  return values.is_messages(value) and not isinstance(value, Mapping) and len(value) > 1


def split_messages(fields: Mapping) -> tuple[dict, list[str]]:
  """Splits the message lists `chosen` and `rejected` into the shared ones and the last replies.

  The lists may be whole conversations, or the reply alone, as a list or a message, where there is a
  `prompt`. Of whole conversations they say what was asked, whatever a `prompt` beside them says. A
  row without message lists stays as it is, and other fields are kept. Returned is also what is to
  be known of how they were read.

  Raises a `values.RowError` where a list holds no reply, or the turns before the replies differ.
  """
  listed = {name: _as_list(fields.get(name)) for name in ("chosen", "rejected")}
  if not all(map(values.is_messages, listed.values())):
    return dict(fields), []
  asked, chosen = split_reply(listed, "chosen")
  others, rejected = split_reply(listed, "rejected")
  _check_shared(asked, others)
  replies = {"chosen": chosen, "rejected": rejected}

  # Replies alone: what was asked is the column `prompt`.
  if not asked:
    return {**fields, **replies}, []
  prompt, notes = _asked(fields, asked)
  return {**fields, **replies, "prompt": conversations.messages(prompt)}, notes


def split_reply(fields: Mapping, name: str) -> tuple[list[conversations.Turn], str]:
  """Splits a message list, as `rows.read_turns`, into turns and what the assistant says last."""
  *turns, (_, reply) = rows.read_turns(fields, name, "assistant")
  return turns, reply


def _as_list(value: Any) -> Any:
  """Returns one message as a list of it, and everything else as it is."""
  return [value] if values.is_message(value) and not values.is_messages(value) else value


def _asked(
  fields: Mapping, turns: list[conversations.Turn]
) -> tuple[Sequence[conversations.Turn], list[str]]:
  """Returns what conversations say was asked, and a note if a `prompt` says something else.

  The prompt may be one of the user's turns, or all turns, and may add the system's.
  """
  if values.is_empty(fields.get("prompt")):
    return turns, []
  try:
    prompt = read_prompt(fields, "prompt")
  except values.RowError:
    return turns, [OTHER_PROMPT]

  if not isinstance(prompt, str) and prompt[0].role == "system" and list(prompt[1:]) == turns:
    return prompt, []
  # A Turn, as a named tuple, equals a plain one.
  is_told = ("user", prompt) in turns if isinstance(prompt, str) else list(prompt) == turns
  return turns, [] if is_told else [OTHER_PROMPT]


def _split(fields: Mapping, name: str) -> tuple[list[conversations.Turn], str]:
  """Returns the turns of one dialogue before its last, and the last one's text."""
  before, turns = conversations.split(values.read_text(fields, name))
  roles = [turn.role for turn in turns]
  if before or len(turns) < 2 or roles[0] != "user" or roles[-1] != "assistant":
    labels = ", ".join(conversations.LABELS[role] for role in roles) or "none"
    raise values.RowError(
      "not a dialogue",
      f"{name!r} must begin with '{HUMAN}:' and end with a turn of '{ASSISTANT}:', each turn after "
      f"an empty line; its turns are: {labels}",
    )

  if not turns[-1].content:
    raise values.RowError("empty field", f"the last reply of {name!r} holds no text")
  return turns[:-1], turns[-1].content


def _is_dialogue(text: str | bytes) -> bool:
  decoded = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
  before, turns = conversations.split(decoded)
  return bool(turns) and not before and turns[0].role == "user"


def _are_texts(value: Any) -> bool:
  is_list = values.is_messages(value) and not isinstance(value, Mapping) and len(value) > 0
  return is_list and all(isinstance(text, str | bytes) for text in value)


def _check_shared(chosen: list[conversations.Turn], rejected: list[conversations.Turn]) -> None:
  if chosen != rejected:
    raise values.RowError(
      "dialogues differ",
      f"'chosen' has {len(chosen)} turns before its last reply and 'rejected' {len(rejected)}, but "
      f"only the first {len(_shared(chosen, rejected))} are the same; all must be",
    )


def _shared(first: list, second: list) -> list:
  """Returns the elements two lists have in common at their beginnings."""
  pairs = zip(first, second, strict=False)
  return [one for one, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
