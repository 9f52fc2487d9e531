"""Preferences as a graph of responses: which pairs are judged again, and which contradict.

An edge runs from the chosen response to the rejected one. Responses of different prompts are
different ones, so that one graph holds all prompts.
"""

import dataclasses

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Bool, Int

Responses = Int[np.ndarray, " rows"]


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Every two responses that were judged against each other."""

  first: Int[np.ndarray, " pairs"]  # the response with the smaller number
  second: Int[np.ndarray, " pairs"]  # the other one
  for_first: Int[np.ndarray, " pairs"]  # judgements for it
  for_second: Int[np.ndarray, " pairs"]
  of_row: Responses  # the pair that each row judges

  @property
  def is_contradictory(self) -> Bool[np.ndarray, " pairs"]:
    """Which pairs were judged either way."""
    return (self.for_first > 0) & (self.for_second > 0)


@dataclasses.dataclass(frozen=True)
class Cycles:
  """Where majorities run in a circle, a over b, b over c, c over a.

  Sets of responses that are tied up in circles are the strongly connected components of the
  majorities' graph. An example is a circle in one of them, a shortest through one of its responses,
  each of which is chosen over the next and the last over the first.
  """

  count: int  # of such sets, none of which has a part in two
  is_inside: Bool[np.ndarray, " rows"]  # which rows judge two responses of one set
  examples: tuple[tuple[int, ...], ...]


def pairs(chosen: Responses, rejected: Responses) -> Pairs:
  """Returns the pairs that were judged, whichever way, by the numbers of each row's responses."""
  low = np.minimum(chosen, rejected)
  high = np.maximum(chosen, rejected)
  many = int(high.max(initial=0)) + 1

  # A pair as one number, which sorts much faster than two columns.
  keys, of_row = np.unique(low * many + high, return_inverse=True)
  is_first = chosen == low
  for_first = np.bincount(of_row, weights=is_first, minlength=len(keys)).astype(int)
  total = np.bincount(of_row, minlength=len(keys))
  return Pairs(keys // many, keys % many, for_first, total - for_first, of_row)


def cycles(judged: Pairs, examples: int) -> Cycles:
  """Finds circles among the majorities, and shows those of so many sets as examples.

  Pairs with as many judgements either way are no part.
  """
  is_decided = judged.for_first != judged.for_second
  is_forward = judged.for_first > judged.for_second
  winner = np.where(is_forward, judged.first, judged.second)[is_decided]
  loser = np.where(is_forward, judged.second, judged.first)[is_decided]
  many = int(judged.second.max(initial=0)) + 1
  graph = scipy.sparse.csr_array((np.ones(len(winner)), (winner, loser)), (many, many))
  _, component = scipy.sparse.csgraph.connected_components(graph, connection="strong")
  tied = np.flatnonzero(np.bincount(component) > 1)

  # A pair between two components lies on no circle, whatever its rows say.
  same = component[judged.first] == component[judged.second]
  first_of = [int(np.argmax(component == number)) for number in tied[:examples]]
  circles = tuple(_circle(graph, start) for start in first_of)
  return Cycles(len(tied), same[judged.of_row], circles)


def least_violations(judged: Pairs, found: Cycles) -> int:
  """Returns how many judgements any scoring of the responses must go against, at least.

  Of a pair judged either way the fewer judgements; of each set of circles one majority more. The
  sets have no pair in common, and where a score goes against a majority, it loses by one or more
  than by going with it.
  """
  return int(np.minimum(judged.for_first, judged.for_second).sum()) + found.count


def _circle(graph: scipy.sparse.csr_array, start: int) -> tuple[int, ...]:
  """Returns a shortest circle through a response from which one leads back to it."""
  nearest_first, before = scipy.sparse.csgraph.breadth_first_order(graph, start)
  # The nearest one that leads back closes a shortest circle; then along those that came before.
  path = [next(node for node in nearest_first.tolist() if graph[node, start])]
  while path[-1] != start:
    path.append(int(before[path[-1]]))
  return tuple(path[::-1])
