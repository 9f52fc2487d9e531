"""A teacher behind an endpoint, by a script, and the chat models that tests have learn from it."""

import collections
import contextlib
import json
import math
import pathlib
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

import chats
import judge_server
import published
import pytest
import smollm2

from pit_jax.feedback import endpoint
from pit_jax.models import pure
from pit_jax.run import context as contexts

# (the contents of all turns, the model that is asked) → its reply; None: a message without a text.
Reply = Callable[[list[str], str], str | None]
MODELS = ["tiny", pytest.param("smollm2", marks=pytest.mark.smoke)]


class Handler(judge_server.Handler):
  """Replies as its server's script says, and to probes with letters at random."""

  def behave(self, how, body):
    contents = [turn["content"] for turn in body["messages"]]
    is_probe = contents == [endpoint.PROBE]
    said = random.randbytes(20).hex() if is_probe else self.server.reply(contents, body["model"])
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


def source(folder: pathlib.Path, rows: Sequence[dict], name: str = "rows.jsonl") -> str:
  """Writes rows into a file of a folder and returns them as a source of preferences."""
  path = folder / name
  path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
  return f"jsonl:{path}"


def within_ceilings(context: contexts.Context, bodies: Sequence[dict]) -> int:
  """Returns how many requests there were, no more of any model than the run says before."""
  rows = {name: len(rows) for name, rows in context.rows.folds.items()}
  ceilings = collections.Counter()
  for one in context.recipe.asks(context.config, rows):
    section = context.config.feedback[one.part].get(one.name, {})
    if section.get("kind") == "endpoint":
      ceilings[section.model] += math.inf if one.count is None else one.count
  asked = collections.Counter(
    body["model"] for body in bodies if body["messages"][0]["content"] != endpoint.PROBE
  )
  assert asked.keys() <= ceilings.keys()
  assert all(0 < asked[model] <= ceilings[model] for model in asked)
  return len(bodies)


def problems(answers: Mapping[str, object]) -> list[dict]:
  """Returns prompts with their right answers as rows, whose responses nobody reads."""
  return [{"prompt": prompt, "chosen": "yes", "rejected": "no", "answer": answer}
          for prompt, answer in answers.items()]  # fmt: skip


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
