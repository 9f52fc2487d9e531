"""Retries and rate limits: when requests may begin again, and when the asking ends."""

import dataclasses
import logging
import random
import threading
import time

from pit_jax.feedback import completions, transcripts

LOG = logging.getLogger(__name__)

LONGEST_WAIT = 60.0  # seconds between two attempts
LONGEST_ASKED = 600.0  # the same where the endpoint asks for it
PATIENCE = 20  # prompts in a row without a reply, after all attempts, before the asking ends
FIRST = 10  # prompts that all fail alike before any did well, before it does


@dataclasses.dataclass
class Line:
  """The state that all requests under way share."""

  lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)  # of all that follows
  # Whether no further request is made.
  ended: threading.Event = dataclasses.field(default_factory=threading.Event)
  ending: tuple[str, str] = ("", "")  # failure and detail of all that is not asked any more
  next_start: float = 0.0  # of a request, on the monotonic clock, in seconds
  without_reply: int = 0  # prompts in a row that had none
  # The failures of the first prompts; None once one did well.
  first: list[str] | None = dataclasses.field(default_factory=list)

  def end(self, failure: str, detail: str) -> transcripts.Reply:
    """Ends the asking, once, and returns the reply of whatever was not asked."""
    with self.lock:
      if not self.ended.is_set():
        self.ending = failure, detail
        self.ended.set()
        LOG.warning("no more questions are asked: %s: %s", failure, detail)

      return transcripts.Reply(failure=self.ending[0], detail=self.ending[1])

  def interrupt(self) -> None:
    """Ends the asking since nobody wants the rest."""
    self.end("interrupted", "the asking was interrupted")

  def missed(self, failure: str, detail: str) -> transcripts.Reply:
    """Counts a prompt that had no reply in all its attempts, and ends the asking after too many."""
    self.met(failure, detail)
    with self.lock:
      self.without_reply += 1
      is_enough = self.without_reply >= PATIENCE

    if is_enough:
      many = f"{PATIENCE} prompts in a row had no reply, the last because of: {detail}"
      self.end("endpoint given up", many)
    return transcripts.Reply(failure=failure, detail=detail)

  def met(self, failure: str, detail: str) -> None:
    """Takes down how a prompt fared, "" where it did well, and ends what begins alike and badly."""
    with self.lock:
      if not failure:
        self.first = None
      elif self.first is not None:
        self.first.append(failure)

      is_hopeless = len(self.first or ()) >= FIRST and len(set(self.first)) == 1

    if is_hopeless:
      self.end(failure, f"the first {FIRST} prompts fared alike, the last so: {detail}")

  def wait_for_turn(self, per_minute: float | int) -> None:
    """Returns when another request may begin."""
    if not per_minute:
      return
    with self.lock:
      # Turns are given out under the lock, and waited for outside.
      start = max(self.next_start, time.monotonic())
      self.next_start = start + 60 / per_minute

    self.ended.wait(start - time.monotonic())


def pause(error: Exception, attempt: int, first: float | int) -> float:
  """Returns the seconds before the next attempt: what the endpoint asks for, or twice the last.

  A random part keeps requests that failed together from coming back together.
  """
  wait = min(first * 2**attempt * random.uniform(0.5, 1.0), LONGEST_WAIT)
  headers = getattr(getattr(error, "response", None), "headers", {})
  return max(wait, min(completions.asked_wait(headers), LONGEST_ASKED))
