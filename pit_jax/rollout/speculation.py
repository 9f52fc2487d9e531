"""Speculative sampling whose proposals are copied from texts at hand: a draft, and the prompt.

A rewrite mostly repeats its draft. So the tokens that follow in the draft are read in one forward
together with the last token, and as many are kept as sampling would have drawn (Leviathan et al.
2023, arXiv 2211.17192, with all the mass of a proposal on one token; Saxena 2023 for the lookup).

What is drawn does not depend on how many tokens a forward reads. A proposal is a function of the
tokens before it alone, and every token has noise of its own, so each is accepted or replaced in the
same way wherever a forward began.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from pit_jax.types import Prompts, Responses

NOTHING = -1  # in the place of a token: there is none
SUFFIX = 4  # tokens, at most, by which a text is found again after a deviation
WINDOWS = (16, 8, 4, 2)  # tokens that one forward may read of every row
DEAREST = 3.0  # a forward of a window may take this many times as long as one of a token
SPENT = 0.02  # the share of the time that trying windows in vain may take
# Positions that a forward reads in the time which reading the weights takes. Of CPUs a round number
# between what SmolLM2-135M in float32 takes on two cores with AVX2 (12) and a model of a million
# parameters (some 100). Of the others: peak operations over bandwidth in bfloat16 of a TPU v5e and
# of an H100; that is arithmetic and not measured.
FREE = {"cpu": 24, "tpu": 240, "gpu": 290}


def price(rows: int, window: int, platform: str) -> float:
  """Returns how many times as long a forward of a window takes as one of a single token.

  time ∝ 1 + positions / FREE on CPUs, where products and reading of weights take turns, and
  max(1, positions / FREE) elsewhere.

  Args:
    rows: sequences of the batch on each device.
    window: tokens of each row.
    platform: "cpu", "gpu" or "tpu".
  """
  free = FREE[platform]

  def time(positions):
    return 1 + positions / free if platform == "cpu" else max(1, positions / free)

  return time(rows * window) / time(rows)


def window(rows: int, platform: str, length: int) -> int:
  """Returns how many tokens of every row a forward reads: the most that are not too dear.

  Args:
    rows: sequences of the batch on each device.
    platform: "cpu", "gpu" or "tpu".
    length: the most tokens of a response.
  """
  fitting = [one for one in WINDOWS if one <= max(length, min(WINDOWS))]
  return next((one for one in fitting if price(rows, one, platform) <= DEAREST), min(WINDOWS))


def patience(cost: float) -> int:
  """Returns after how many steps of one token a window is tried again that gave too little.

  The cost is a window's `price`.
  """
  return math.ceil(max(cost - 1, 0) / SPENT)


def sources(prompts: Prompts, drafts: Responses) -> Int[Array, "B L"]:
  """Returns the texts that proposals are copied from, NOTHING between and around them.

  The draft stands first; a row without one has an empty mask there.
  """
  texts = [jnp.where(part.mask, part.tokens, NOTHING) for part in (drafts, prompts)]
  # A pointer that runs over the end of a text points at nothing.
  gap = jnp.full((len(prompts.tokens), 1), NOTHING, jnp.int32)
  return jnp.concatenate([texts[0], gap, texts[1], gap], axis=1).astype(jnp.int32)


def propose(
  texts: Int[Array, "B S"],
  taken: Int[Array, " B"],
  pointer: Int[Array, " B"],
  start: int,
  count: int,
) -> Int[Array, "B T"]:
  """Returns the next `count` tokens of each row, were it to go on as its pointer does.

  Args:
    texts: sources and, from place `start`, the response so far; NOTHING elsewhere.
    taken: tokens of each response so far.
    pointer: the place in the texts of the first proposal.
    start: the place of the response's first token.
    count: T.
  """
  end = start + taken[:, None]
  place = pointer[:, None]
  ahead = jnp.arange(count)
  # A pointer into the response reaches its end, and goes on in what it proposes itself.
  period = jnp.where(place >= start, jnp.maximum(end - place, 1), count)
  places = place + ahead % period
  is_inside = places < texts.shape[1]
  return jnp.where(is_inside, jnp.take_along_axis(texts, places, axis=1, mode="clip"), NOTHING)


def follow(
  texts: Int[Array, "B S"],
  taken: Int[Array, " B"],
  pointer: Int[Array, " B"],
  accepted: Int[Array, " B"],
  was_replaced: Bool[Array, " B"],
  start: int,
) -> Int[Array, " B"]:
  """Returns each row's pointer after a forward.

  It follows accepted tokens. After a token of the row's own it goes where the texts have the
  longest match, of SUFFIX tokens at most, with the end of the response: of several, where that is
  nearest to the place it would have come to, places behind that counting twice. Without a match it
  skips the token that was replaced.

  Args:
    texts: as for `propose`, the new tokens included.
    taken: tokens of each response, the new ones included.
    pointer: before the forward.
    accepted: proposals that were kept.
    was_replaced: whether the last token is another than was proposed.
    start: the place of the response's first token.
  """
  expected = pointer + accepted + was_replaced
  width = texts.shape[1]
  match = jnp.zeros(texts.shape, jnp.int32)
  goes_on = jnp.ones(texts.shape, bool)

  for back in range(1, SUFFIX + 1):
    place = (start + taken - back)[:, None]
    token = jnp.take_along_axis(texts, jnp.maximum(place, 0), axis=1)
    before = jnp.pad(texts, ((0, 0), (back, 0)), constant_values=NOTHING)[:, :width]
    goes_on = goes_on & (before == token) & (taken >= back)[:, None]
    match = match + goes_on

  distance = jnp.arange(width) - expected[:, None]
  cost = jnp.where(distance >= 0, distance, -2 * distance)
  # One more token of a match is worth more than any distance.
  merit = jnp.where(texts == NOTHING, -1, match * (4 * width) - cost)
  found = jnp.where(
    match.max(axis=1, where=texts != NOTHING, initial=0) > 0, merit.argmax(axis=1), expected
  )
  return jnp.where(was_replaced, found, expected)
