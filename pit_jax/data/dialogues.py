"""Turns two dialogues that differ in their last reply into a prompt with two responses."""

from collections.abc import Mapping, Sequence

from pit_jax.data import conversations, rows

HUMAN, ASSISTANT = conversations.LABELS["user"], conversations.LABELS["assistant"]


def split_pair(fields: Mapping) -> dict:
  """Splits the dialogues `chosen` and `rejected` into the shared turns and the last replies.

  Format of Anthropic's HH-RLHF: turns begin with "Human:" or "Assistant:" after an empty line. The
  prompt is the conversation of all turns but the last. Where it ends with an assistant's turn, so
  that the assistant speaks twice, it is no conversation that anybody would have: it stays a text.

  Args:
    fields: a row with the texts `chosen` and `rejected`; other fields are kept.

  Returns:
    The fields with `prompt`, `chosen` and `rejected` as in any other source.

  Raises:
    rows.RowError: a text is missing or no dialogue, or the turns before the last replies differ.
  """
  chosen_turns, chosen = _split(fields, "chosen")
  rejected_turns, rejected = _split(fields, "rejected")
  _check_shared(chosen_turns, rejected_turns)
  is_asked = chosen_turns[-1].role == "user"
  prompt = _messages(chosen_turns) if is_asked else conversations.write(tuple(chosen_turns))
  return {**fields, "prompt": prompt, "chosen": chosen, "rejected": rejected}


def split_messages(fields: Mapping) -> dict:
  """Splits the message lists `chosen` and `rejected` into the shared ones and the last replies.

  The lists may be whole conversations, or the reply alone where there is a `prompt`. Beside whole
  conversations a `prompt` adds nothing, but it must be one of the user's turns, or all of them.

  Args:
    fields: a row with the message lists `chosen` and `rejected`; other fields are kept.

  Returns:
    The fields with `prompt`, `chosen` and `rejected` as in any other source.

  Raises:
    rows.RowError: a list holds no reply, the turns before the last replies differ, or `prompt` is
      not what they say.
  """
  heads, replies = {}, {}
  for name in ("chosen", "rejected"):
    turns = rows.read_turns(fields, name)
    if not turns or turns[-1].role != "assistant":
      found = ", ".join(turn.role for turn in turns) or "none"
      detail = f"{name!r} must end with a message of the assistant; its roles are: {found}"
      raise rows.RowError("not a conversation", detail)
    heads[name], replies[name] = list(turns[:-1]), turns[-1].content
  _check_shared(heads["chosen"], heads["rejected"])
  if not heads["chosen"]:
    return {**fields, **replies}
  if not rows.is_empty(fields.get("prompt")):
    _check_prompt(rows.read_prompt(fields, "prompt"), heads["chosen"])
  return {**fields, **replies, "prompt": _messages(heads["chosen"])}


def _split(fields: Mapping, name: str) -> tuple[list[conversations.Turn], str]:
  """Returns the turns of one dialogue before its last, and the last one's text."""
  before, turns = conversations.split(rows.read_text(fields, name))
  roles = [turn.role for turn in turns]
  if before or len(turns) < 2 or roles[0] != "user" or roles[-1] != "assistant":
    found = ", ".join(conversations.LABELS[role] for role in roles) or "none"
    raise rows.RowError(
      "not a dialogue",
      f"{name!r} must begin with '{HUMAN}:' and end with a turn of '{ASSISTANT}:', each turn after "
      f"an empty line; its turns are: {found}",
    )
  if not turns[-1].content:
    raise rows.RowError("empty field", f"the last reply of {name!r} holds no text")
  return turns[:-1], turns[-1].content


def _messages(turns: Sequence[conversations.Turn]) -> list[dict]:
  return [turn._asdict() for turn in turns]


def _check_shared(chosen: list[conversations.Turn], rejected: list[conversations.Turn]) -> None:
  if chosen != rejected:
    shared = sum(1 for _ in _shared(chosen, rejected))
    raise rows.RowError(
      "dialogues differ",
      f"'chosen' has {len(chosen)} turns before its last reply and 'rejected' {len(rejected)}, but "
      f"only the first {shared} are the same; all must be",
    )


def _check_prompt(prompt: conversations.Prompt, turns: list[conversations.Turn]) -> None:
  is_said = ("user", prompt) in turns if isinstance(prompt, str) else prompt == tuple(turns)
  if not is_said:
    raise rows.RowError(
      "dialogues differ", "'prompt' is not what 'chosen' and 'rejected' begin with; leave it out"
    )


def _shared(first: list, second: list):
  """Yields the elements two lists have in common at their beginnings."""
  for one, other in zip(first, second, strict=False):
    if one != other:
      return
    yield one
