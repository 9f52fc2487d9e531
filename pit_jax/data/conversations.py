"""What a model is asked: a text, or a conversation whose last turn is the user's."""

from typing import NamedTuple

LABELS = {"system": "System", "user": "Human", "assistant": "Assistant"}  # role → in plain text


class Turn(NamedTuple):
  """One message of a conversation."""

  role: str  # one of LABELS
  content: str  # without outer white space


Prompt = str | tuple[Turn, ...]


def write(prompt: Prompt) -> str:
  """Returns a prompt as plain text, a conversation up to "Assistant:", whose turn it is."""
  if isinstance(prompt, str):
    return prompt
  said = [f"{LABELS[role]}: {content}" for role, content in prompt]
  return "\n\n".join([*said, f"{LABELS['assistant']}:"])


def turns(prompt: Prompt) -> tuple[Turn, ...]:
  """Returns a prompt as a conversation; a text is what the user says first."""
  return (Turn("user", prompt.strip()),) if isinstance(prompt, str) else prompt


def opening(prompt: Prompt) -> str:
  """Returns what all turns of a conversation share: the user's first message.

  Of a text it is the text, unless that is a conversation as `write` writes it.
  """
  if not isinstance(prompt, str):
    return next(content for role, content in prompt if role == "user")
  first, reply = f"{LABELS['user']}: ", f"\n\n{LABELS['assistant']}:"
  said, is_answered, _ = prompt.removeprefix(first).partition(reply)
  return said if is_answered and prompt.startswith(first) else prompt
