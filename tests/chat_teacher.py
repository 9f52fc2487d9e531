"""A teacher behind an endpoint, by a script, and the chat models that tests have learn from it."""

import contextlib
import json
import pathlib
import random
from collections.abc import Callable, Iterator, Sequence

import chats
import judge_server
import published
import pytest
import smollm2

from pit_jax.models import pure

# (the contents of all turns, the model that is asked) → its reply; None: a message without a text.
Reply = Callable[[list[str], str], str | None]
MODELS = ["tiny", pytest.param("smollm2", marks=pytest.mark.smoke)]


class Handler(judge_server.Handler):
  """Replies as its server's script says."""

  def behave(self, how, body):
    said = self.server.reply([turn["content"] for turn in body["messages"]], body["model"])
    message = {"role": "assistant", "content": said}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    about = {"id": "x", "object": "chat.completion", "created": 0, "model": body["model"]}
    self.send(200, json.dumps(about | {"choices": [choice], "usage": {"total_tokens": 100}}))


@contextlib.contextmanager
def replying(reply: Reply, **settings) -> Iterator[judge_server.Server]:
  """Serves a script from a thread until the block ends."""
  with judge_server.serving(**settings) as server:
    server.RequestHandlerClass = Handler
    server.reply = reply
    yield server


def drawn(text: str, sides: int) -> int:
  """Returns a number below `sides` that a text always has, in any process."""
  return random.Random(text).randrange(sides)


def model(name: str, folder: pathlib.Path) -> pathlib.Path:
  """Returns the directory of a chat model, one of MODELS: a made-up one, or SmolLM2."""
  if name == "smollm2":
    return smollm2.directory()
  words = chats.save(folder / name, "chatml", texts=published.letters(), vocabulary=500)
  return published.directory_of(folder / name, pure.language_model, words)


def source(folder: pathlib.Path, rows: Sequence[dict]) -> str:
  """Writes rows and returns them as a source of preferences."""
  path = folder / "rows.jsonl"
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  return f"jsonl:{path}"


def losses(workdir: pathlib.Path) -> dict[str, list[float]]:
  """Returns every loss that the stages of a run logged."""
  found = {}
  for path in sorted((workdir / "metrics").glob("*.jsonl")):
    lines = [json.loads(line) for line in path.open()]
    pairs = [pair for line in lines for pair in line.items()]
    found[path.stem] = [value for name, value in pairs if name.endswith("loss")]
  return found


def made(workdir: pathlib.Path, name: str) -> list[dict]:
  """Returns rows that a run made."""
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]
