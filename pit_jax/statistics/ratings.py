"""Ratings of many systems from all their pairs: Elo over many orders, and Bradley–Terry."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Array, Float, Int, Num

from pit_jax.statistics import resampling

MEAN = 1000.0  # of both ratings
SCALE = 400.0  # points that are odds of ten to one
STEP = 4.0  # Elo's K, points a game can move
TIES = 1.0  # added between every two systems, so that one that never loses has a rating
# As evalica counts.
WON = 1
LOST = 2
TIED = 0

Outcomes = Mapping[tuple[str, str], Num[Array | np.ndarray, " B"]]


@dataclasses.dataclass(frozen=True)
class Rating:
  """A system's place among others."""

  system: str
  elo: float  # mean over the orders
  elo_ci95: tuple[float, float]
  elo_spread: float  # standard deviation of Elo over the orders
  bradley_terry: float
  bradley_terry_ci95: tuple[float, float]


@dataclasses.dataclass(frozen=True)
class _Games:
  """Every pair of systems on every prompt."""

  systems: Sequence[str]
  first: Int[np.ndarray, " G"]  # of each pair, its index in `systems`
  second: Int[np.ndarray, " G"]
  results: Int[np.ndarray, "G B"]  # WON, LOST or TIED, as the first has it


def rate(
  outcomes: Outcomes, *, orders: int = 20, resamples: int = 100, seed: int = 0
) -> list[Rating]:
  """Rates systems by Elo and by Bradley–Terry strengths, best first.

  Both are in Elo's unit: a system rated r_a beats one rated r_b with odds 10^((r_a − r_b) / 400).
  Elo depends on the order of the games, so it is averaged over orders (Wang et al. 2023, table 3).
  Bradley–Terry is the maximum of the likelihood, with one tie added to each pair of systems; its
  mean over the systems is 1000, as Elo's is. Ties are half a win for each.

  The intervals resample prompts, each with all its games; Elo's is that of a mean over as many
  orders, estimate ± 1.96 deviations over the resamples, Bradley–Terry's the middle 95% of them.

  Args:
    outcomes: {(a, b): 1 where a won on a prompt, 0 a tie, −1 where b won}, once for each pair.
    orders: shuffles of the games that Elo is averaged over; at least 2.
    resamples: bootstrap samples over prompts, at least 2; they and the orders follow the `seed`.

  Raises:
    ValueError: if there is no pair or the pairs have different numbers of prompts.
  """
  games = _games(outcomes)
  prompts = games.results.shape[1]
  generator = np.random.default_rng(seed)
  everyone = np.arange(prompts)
  elos = _elos(games, everyone, orders, generator)
  drawn_elos = []
  for draw in resampling.draws(prompts, resamples, seed):
    index = np.repeat(everyone, draw)
    drawn_elos.append(_elos(games, index, orders, generator).mean(axis=0))

  half = resampling.Z * np.std(drawn_elos, axis=0, ddof=1)
  weights = resampling.weights(prompts, resamples, seed)
  strengths = np.stack([_bradley_terry(games, row) for row in weights])
  elo = elos.mean(axis=0)
  rated = [
    Rating(
      system=system,
      elo=float(elo[i]),
      elo_ci95=(float(elo[i] - half[i]), float(elo[i] + half[i])),
      elo_spread=float(elos[:, i].std(ddof=1)),
      bradley_terry=float(strengths[0, i]),
      bradley_terry_ci95=resampling.middle(strengths[1:, i]),
    )
    for i, system in enumerate(games.systems)
  ]

  return sorted(rated, key=lambda rating: -rating.bradley_terry)


def _games(outcomes: Outcomes) -> _Games:
  systems = list(dict.fromkeys(name for pair in outcomes for name in pair))
  lengths = {np.size(column) for column in outcomes.values()}
  if len(lengths) != 1 or lengths == {0}:
    raise ValueError(
      f"{len(outcomes)} pairs with {sorted(lengths)} prompts; give at least one pair, and every "
      "pair's outcomes on the same prompts"
    )

  signs = np.sign(np.stack([np.asarray(column, np.float64) for column in outcomes.values()]))
  return _Games(
    systems=systems,
    first=np.array([systems.index(a) for a, _ in outcomes]),
    second=np.array([systems.index(b) for _, b in outcomes]),
    results=np.select([signs > 0, signs < 0], [WON, LOST], TIED),
  )


def _elos(
  games: _Games, prompts: Int[np.ndarray, " M"], orders: int, generator: np.random.Generator
) -> Float[np.ndarray, "N K"]:
  """Returns Elo after the games on some prompts (repeats count), in each of N random orders."""
  played = games.results[:, prompts]
  shuffled = np.stack([generator.permutation(played.size) for _ in range(orders)])

  # One history for all orders, in which each has systems of its own: a game moves its two alone.
  systems = len(games.systems)
  evalica, index = _library(orders * systems)
  before = systems * np.arange(orders)[:, np.newaxis]

  # Results lie pair by pair, so a game's number tells its pair.
  pair = shuffled // played.shape[1]
  first = (games.first[pair] + before).ravel()
  second = (games.second[pair] + before).ravel()
  winners = played.ravel()[shuffled].ravel().tolist()
  result = evalica.elo(first, second, winners, index=index, initial=MEAN, scale=SCALE, k=STEP)

  return result.scores.reindex(index).to_numpy().reshape(orders, systems)


def _bradley_terry(games: _Games, weights: Float[np.ndarray, " B"]):
  """Returns strengths in Elo's unit where prompt b counts weights[b] times, Float[K]."""
  evalica, index = _library(len(games.systems))
  kinds = (WON, LOST, TIED)
  counts = np.stack([(games.results == kind) @ weights for kind in kinds], axis=1)
  counts[:, kinds.index(TIED)] += TIES
  first, second = (np.repeat(side, len(kinds)) for side in (games.first, games.second))
  result = evalica.bradley_terry(
    first, second, list(kinds) * len(counts), index=index, weights=counts.ravel().tolist(),
    tolerance=1e-10, limit=10_000,
  )  # fmt: skip

  # Only ratios of strengths are known, so the mean rating is set.
  logs = np.log10(result.scores.reindex(index).to_numpy())
  return MEAN + SCALE * (logs - logs.mean())


def _library(systems: int) -> tuple[Any, Any]:
  """Returns evalica and its index of systems; it brings pandas, which nothing else needs."""
  import evalica
  import pandas

  return evalica, pandas.Index(range(systems))
