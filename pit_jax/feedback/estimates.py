"""What a pass of requests takes of an endpoint, as it is said before the first one is made.

Tokens are counted by the run's own tokenizer, which is hardly the endpoint's, or, where there is
none at hand, as BYTES_PER_TOKEN bytes each; of replies only the most that they may have is known.
"""

import contextlib
import contextvars
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from pit_jax import progress

BYTES_PER_TOKEN = 4
MILLION = 1_000_000
_COUNTS = ("requests", "read", "written")  # fields of an estimate that grow with its passes
Count = Callable[[Sequence[str]], int]  # texts → about how many tokens they have together


@dataclasses.dataclass
class Series:
  """Passes like each other, of which the first that asks anything says what the rest takes."""

  passes: int  # about as many that are left, the present one among them; 0: it is said

  def all_of(self, estimate: "Estimate") -> "Estimate":
    """Returns what the passes that are left take, of the estimate of one of them.

    What of a pass was asked before says that somebody had begun it, and nothing of those to come.
    """
    if not estimate.requests:
      return estimate
    times = 1 + (self.passes - 1) * (estimate.requests + estimate.kept) / estimate.requests
    counts = {name: round(getattr(estimate, name) * times) for name in _COUNTS}
    return dataclasses.replace(estimate, **counts, cost=estimate.cost * times)


_SERIES: contextvars.ContextVar[Series | None] = contextvars.ContextVar("series", default=None)


def by_bytes(texts: Sequence[str]) -> int:
  """Returns about how many tokens texts have, whatever the tokenizer."""
  return sum(len(text.encode()) for text in texts) // BYTES_PER_TOKEN


def by(tokenizer: Any) -> Count:
  """Returns how many tokens texts have by a tokenizer."""
  return lambda texts: sum(map(len, tokenizer.encode_batch(list(texts))))


@dataclasses.dataclass(frozen=True)
class Account:
  """On whose account an endpoint is asked."""

  name: str = ""  # of the writer or rater; "": none but the model's
  # Of its section in the configuration, by which a pass is refused that its budget cannot pay for;
  # "": it is asked for as much as the budget pays for.
  key: str = ""
  count: Count = by_bytes


@dataclasses.dataclass(frozen=True)
class Estimate:
  """What a pass takes."""

  requests: int  # to be made
  kept: int  # requests that were answered before, and cost nothing
  read: int  # tokens of the requests, about
  written: int  # tokens of the replies, at most
  cost: float = 0.0  # money, at most; 0: nobody said what tokens cost

  def line(self, who: Sequence[str]) -> str:
    """Returns what is said of it in a line: of the names the first that has room, or the last."""
    kept = f", {_whole(self.kept)} kept" if self.kept else ""
    cost = f", cost ≤{_amount(self.cost)}" if self.cost else ""
    taken = f"~{_short(self.read)} tokens in, ≤{_short(round(_up(self.written)))} out"
    requests = f"{_whole(self.requests)} request{'s' if self.requests != 1 else ''}"
    return titled(who, f": {requests}{kept}, {taken}{cost}")


def titled(who: Sequence[str], text: str) -> str:
  """Returns a line about somebody: of the names the first that has room, or the last, cut."""
  room = progress.WIDTH - len(text)
  fitting = [name for name in who if len(name) <= room]
  return f"{fitting[0] if fitting else f'{who[-1][: room - 1]}…'}{text}"


def ceiling(
  requests: int, max_tokens: int, output_price: float | int, *, is_open: bool = False
) -> str:
  """Returns what so many requests take at most, in words; `is_open`: more may follow from replies.

  What they read is known once they are written.
  """
  if not requests:
    return "as many requests as replies ask for"
  written = requests * max_tokens
  cost = price(0, written, 0, output_price)
  more = ", and what follows" if is_open else ""
  replies = f"replies ≤{_short(round(_up(written)))} tokens{f' (≤{_amount(cost)})' if cost else ''}"
  return f"≤{_whole(requests)} requests{more}, {replies}"


def price(read: int, written: int, input_price: float | int, output_price: float | int) -> float:
  """Returns what tokens cost, by prices of a million of them."""
  return (read * input_price + written * output_price) / MILLION


def over(
  key: str, estimate: Estimate, spent: tuple[int, int], budget_requests: int, budget_tokens: int
) -> str:
  """Returns why a pass cannot end within its budget; "" where it may.

  Of tokens what is to be read counts alone: replies may be shorter than they are allowed to be.

  Args:
    key: of the section that has the budget.
    estimate: of the pass.
    spent: requests and tokens before.
    budget_requests: in all; 0: no limit.
    budget_tokens: the same of tokens.
  """
  limits = (
    ("budget_requests", budget_requests, spent[0], estimate.requests, "requests"),
    ("budget_tokens", budget_tokens, spent[1], estimate.read, "tokens to read"),
  )
  for name, limit, before, new, what in limits:
    if limit and before + new > limit:
      return (
        f"{key}.{name}={limit} cannot pay for {new:,} {what} beside {before:,} that were spent "
        "before; raise it, or use 0 for no limit"
      )
  return ""


@contextlib.contextmanager
def within(series: Series) -> Iterator[None]:
  """Passes within the block are of a series."""
  token = _SERIES.set(series)
  try:
    yield
  finally:
    _SERIES.reset(token)
    series.passes = max(series.passes - 1, 0)


def say(estimate: Estimate, who: Sequence[str]) -> None:
  """Says what a pass takes, or the series that it begins."""
  series = _SERIES.get() or Series(1)
  if series.passes:
    progress.say(series.all_of(estimate).line(who))
  series.passes = 0


def _short(count: int) -> str:
  """Returns a number in three digits or so: "840", "31k", "2.4M"."""
  for size, unit in ((MILLION, "M"), (1000, "k")):
    if count >= 0.9995 * size:
      return f"{count / size:.3g}{unit}" if count < 999.5 * size else f"{count / size:,.0f}{unit}"
  return str(count)


def _whole(count: int) -> str:
  return f"{count:,}" if count < 100_000 else _short(count)


def _up(amount: float | int, places: int = 3) -> float | int:
  """Returns a bound that is shown in so many places and stays one: rounded up to them."""
  if not amount:
    return amount
  unit = 10.0 ** (math.floor(math.log10(amount)) - places + 1)
  return math.ceil(round(amount / unit, 6)) * unit


def _amount(money: float) -> str:
  if money >= MILLION:
    return _short(round(_up(money)))
  if money >= 100:
    return f"{math.ceil(money):,}"
  return (
    f"{math.ceil(round(100 * money, 6)) / 100:.2f}" if money >= 0.01 else f"{_up(money, 1):.1g}"
  )
