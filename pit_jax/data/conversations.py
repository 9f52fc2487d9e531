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
