"""Turns two dialogues that differ in their last reply into a prompt with two responses."""

import re
from collections.abc import Mapping

from pit_jax.data import rows

HUMAN, ASSISTANT = "Human", "Assistant"
_TURN = re.compile(rf"(?:\A|\n\n)({HUMAN}|{ASSISTANT}):")


def split_pair(fields: Mapping) -> dict:
  """Splits the dialogues `chosen` and `rejected` into the shared turns and the last replies.

  Format of Anthropic's HH-RLHF: turns begin with "Human:" or "Assistant:" after an empty line.
  The prompt is all turns but the last, white space around each turn removed, and "Assistant:".

  Args:
    fields: a row with the texts `chosen` and `rejected`; other fields are kept.

  Returns:
    The fields with `prompt`, `chosen` and `rejected` as in any other source.

  Raises:
    rows.RowError: a text is missing or no dialogue, or the turns before the last replies differ.
  """
  chosen_turns, chosen = _split(fields, "chosen")
  rejected_turns, rejected = _split(fields, "rejected")
  if chosen_turns != rejected_turns:
    shared = sum(1 for _ in _shared(chosen_turns, rejected_turns))
    raise rows.RowError(
      "dialogues differ",
      f"'chosen' has {len(chosen_turns)} turns before its last reply and 'rejected' "
      f"{len(rejected_turns)}, but only the first {shared} are the same; all must be",
    )
  turns = [f"{role}: {text}" for role, text in chosen_turns] + [f"{ASSISTANT}:"]
  return {**fields, "prompt": "\n\n".join(turns), "chosen": chosen, "rejected": rejected}


def _split(fields: Mapping, name: str) -> tuple[list[tuple[str, str]], str]:
  """Returns the (role, text) turns of one dialogue before its last, and the last one's text."""
  pieces = _TURN.split(rows.read_text(fields, name))
  texts = [piece.strip() for piece in pieces]
  turns = list(zip(texts[1::2], texts[2::2], strict=True))
  if texts[0] or len(turns) < 2 or turns[0][0] != HUMAN or turns[-1][0] != ASSISTANT:
    found = ", ".join(role for role, _ in turns) or "none"
    raise rows.RowError(
      "not a dialogue",
      f"{name!r} must begin with '{HUMAN}:' and end with a turn of '{ASSISTANT}:', each turn after "
      f"an empty line; its turns are: {found}",
    )
  if not turns[-1][1]:
    raise rows.RowError("empty field", f"the last reply of {name!r} holds no text")
  return turns[:-1], turns[-1][1]


def _shared(first: list, second: list):
  """Yields the elements two lists have in common at their beginnings."""
  for one, other in zip(first, second, strict=False):
    if one != other:
      return
    yield one
