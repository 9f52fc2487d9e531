"""Transcripts of language models on disk: no question is paid for twice.

A file (SQLite) holds every answer under a hash of all that decides it, written as soon as it is
there, and how many requests and tokens were spent. Several processes may share one file.
"""

import contextlib
import dataclasses
import datetime
import hashlib
import json
import os
import pathlib
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from pit_jax import hosts
from pit_jax.data import conversations
from pit_jax.storage import places

FORMAT = 1  # of the keys
NOISE = "key"  # of the settings that which seeds the noise of a writer
NO_LOGPROBS = "no log-probabilities in the reply"  # why a reply that should have some is of no use
BUSY = 60.0  # seconds to wait for another process that writes
TABLES = (
  "CREATE TABLE IF NOT EXISTS transcripts (key TEXT PRIMARY KEY, settings TEXT NOT NULL, "
  "prompt TEXT NOT NULL, reply TEXT NOT NULL, time TEXT NOT NULL)",
  "CREATE TABLE IF NOT EXISTS spending (model TEXT PRIMARY KEY, requests INTEGER NOT NULL, "
  "tokens INTEGER NOT NULL)",
)


@dataclasses.dataclass(frozen=True)
class Reply:
  """The reply of a language model, or why there is none."""

  text: str = ""  # the answer
  # Of what the answer may begin with: token → log-probability in nats, the likeliest tokens alone;
  # None where nobody asked for them or none came.
  logprobs: Mapping[str, float] | None = None
  is_cut: bool = False  # whether the answer was ended by the most tokens allowed
  failure: str = ""  # why there is no answer, one of few phrases; "" where there is one
  detail: str = ""  # the same with particulars


@dataclasses.dataclass(frozen=True)
class Transcripts:
  """An open file of transcripts, which threads may share."""

  connection: sqlite3.Connection
  lock: threading.Lock

  def read(self, keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Returns the replies that are there, by key, as records."""
    query = "SELECT key, reply FROM transcripts WHERE key = ?"
    with self.lock:
      rows = [self.connection.execute(query, (key,)).fetchone() for key in keys]
    return {row[0]: json.loads(row[1]) for row in rows if row}

  def write(
    self, key: str, settings: Mapping[str, Any], prompt: conversations.Prompt, reply: Reply
  ) -> None:
    """Keeps a reply; one that is there already stays."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    text = conversations.write(prompt)
    answer = json.dumps(dataclasses.asdict(reply))
    columns = (key, json.dumps(settings), text, answer, now)
    with self.lock:
      self.connection.execute("INSERT OR IGNORE INTO transcripts VALUES (?, ?, ?, ?, ?)", columns)

  def spent(self, model: str) -> tuple[int, int]:
    """Returns the requests and tokens that were spent on a model."""
    query = "SELECT requests, tokens FROM spending WHERE model = ?"
    with self.lock:
      return self.connection.execute(query, (model,)).fetchone() or (0, 0)

  def take(self, model: str, requests: int, tokens: int) -> bool:
    """Counts one request more of a model, and returns whether its budget allows for it.

    It does up to so many requests in all, and until so many tokens were spent; 0 is no limit.
    """
    with self.lock:
      self.connection.execute("INSERT OR IGNORE INTO spending VALUES (?, 0, 0)", (model,))
      # In one statement, so that no two processes take the last request both.
      cursor = self.connection.execute(
        "UPDATE spending SET requests = requests + 1 WHERE model = ? "
        "AND (? = 0 OR requests < ?) AND (? = 0 OR tokens < ?)",
        (model, requests, requests, tokens, tokens),
      )

      return cursor.rowcount == 1

  def count(self, model: str, tokens: int) -> None:
    """Adds tokens to those that were spent on a model."""
    statement = "UPDATE spending SET tokens = tokens + ? WHERE model = ?"
    with self.lock:
      self.connection.execute(statement, (tokens, model))


# (place, reply): called as soon as the reply is there, in the thread that it came to.
Keep = Callable[[int, Reply], None]
# (prompts, the open file; None on hosts that have none, keep).
Ask = Callable[[Sequence[conversations.Prompt], Transcripts | None, Keep], None]
# (prompts that are to be asked, how many beside them are answered, the file): called before `Ask`.
Announce = Callable[[Sequence[conversations.Prompt], int, Transcripts | None], None]


@contextlib.contextmanager
def opened(path: str | os.PathLike) -> Iterator[Transcripts]:
  """Opens a file of transcripts, which is made if there is none, and closes it in the end.

  Raises:
    ValueError: the file is something else.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Every statement is a transaction of its own, so that a kill loses none that was made.
  connection = sqlite3.connect(path, timeout=BUSY, isolation_level=None, check_same_thread=False)

  with contextlib.closing(connection):
    try:
      for table in TABLES:
        connection.execute(table)
    except sqlite3.DatabaseError as error:
      todo = "remove it, or give another file as evaluation.language_judge.cache"
      raise ValueError(f"{path} cannot be used for transcripts ({error}); {todo}") from error

    yield Transcripts(connection, threading.Lock())


def remembering(
  ask: Ask,
  path: str | os.PathLike,
  settings: Mapping[str, Any],
  announce: Announce = lambda prompts, kept, file: None,
) -> Callable[..., list[Reply]]:
  """Returns `ask` in order, which asks only what is not in a file of transcripts.

  What it returns is called with prompts and, where these differ in it, with what else decides each
  one's reply. All are asked in one pass. What failed is asked again by the next command, and not by
  this one: all that it measures is measured on the same replies. Of several hosts the first has the
  file, and all ask together. The settings are all that decides a reply beside the prompt, as JSON
  can hold it; requests of one pass that differ in NOISE alone are one, whose reply is kept for all.
  """

  missed: dict[str, dict[str, Any]] = {}

  def replies(
    prompts: Sequence[conversations.Prompt], own: Sequence[Mapping[str, Any]] | None = None
  ) -> list[Reply]:
    decided = [{**settings, **one} for one in own or [{}] * len(prompts)]
    keys = [_key(*one) for one in zip(decided, prompts, strict=True)]
    requests = dict(zip(keys, zip(decided, prompts, strict=True), strict=True))
    alike: dict[str, list[str]] = {}  # what is asked once → its keys
    for key, (one, prompt) in requests.items():
      same = {name: value for name, value in one.items() if name != NOISE}
      alike.setdefault(_key(same, prompt), []).append(key)

    with opened(path) if hosts.is_first() else contextlib.nullcontext() as file:
      # All hosts ask together, so they have to agree on what is new.
      records = hosts.agree(file.read(list(requests)) if file else {})
      records |= {key: missed[key] for key in requests if key in missed}

      def keep(same: Sequence[str], reply: Reply) -> None:
        for key in same:
          if key in records:
            continue
          records[key] = dataclasses.asdict(reply)
          if file and not reply.failure:
            file.write(key, *requests[key], reply)

      new = []
      for same in alike.values():
        known = [records[key] for key in same if key in records]
        if known:
          keep(same, Reply(**known[0]))
        else:
          new.append(same)
      if new:
        texts = [requests[first][1] for first, *_ in new]
        announce(texts, len(alike) - len(new), file)
        ask(texts, file, lambda i, reply: keep(new[i], reply))

    if new:
      places.push()  # what was paid for
    records = hosts.agree(records)
    missed.update((key, reply) for key, reply in records.items() if reply["failure"])
    return [Reply(**records[key]) for key in keys]

  return replies


def _key(settings: Mapping[str, Any], prompt: conversations.Prompt) -> str:
  content = json.dumps([FORMAT, settings, prompt], sort_keys=True)
  return hashlib.sha256(content.encode()).hexdigest()
