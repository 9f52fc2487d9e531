"""Contradictions and circles among preferences, against trying every order."""

import itertools

import numpy as np
import pytest

from pit_jax.tools.doctor import orders


def graph(*edges):
  chosen, rejected = np.array(edges).T
  return orders.pairs(chosen, rejected)


def test_pairs_by_hand():
  judged = graph((0, 1), (1, 0), (0, 1), (2, 3), (5, 4))
  assert list(zip(judged.first, judged.second)) == [(0, 1), (2, 3), (4, 5)]
  assert judged.for_first.tolist() == [2, 1, 0]
  assert judged.for_second.tolist() == [1, 0, 1]
  assert judged.of_row.tolist() == [0, 0, 0, 1, 2]
  assert judged.is_contradictory.tolist() == [True, False, False]


def test_a_circle_is_found_and_a_contradiction_is_none():
  judged = graph((0, 1), (1, 2), (2, 0), (2, 3), (4, 5), (5, 4), (6, 7), (7, 8), (6, 8))
  found = orders.cycles(judged, examples=5)
  assert found.count == 1
  assert found.is_inside.tolist() == [True] * 3 + [False] * 6
  assert found.examples == ((0, 1, 2),)
  assert orders.least_violations(judged, found) == 2  # one of the circle, one of 4 and 5


def test_a_majority_breaks_a_circle_and_a_draw_is_no_part_of_one():
  majority = graph((0, 1), (1, 2), (2, 0), (0, 2), (0, 2))
  assert orders.cycles(majority, 5).count == 0
  assert orders.least_violations(majority, orders.cycles(majority, 5)) == 1
  draw = graph((0, 1), (1, 2), (2, 0), (0, 2))
  assert orders.cycles(draw, 5).count == 0


def test_the_example_is_a_shortest_circle():
  long = [(i, i + 1) for i in range(9)] + [(9, 0), (2, 0)]
  assert orders.cycles(graph(*long), 5).examples == ((0, 1, 2),)


def reaches(edges, start, end):
  seen, waiting = set(), [start]
  while waiting:
    here = waiting.pop()
    for one, other in edges:
      if one == here and other not in seen:
        seen.add(other)
        waiting.append(other)
  return end in seen


@pytest.mark.parametrize("seed", range(25))
def test_random_preferences_against_trying_everything(seed):
  rng = np.random.default_rng(seed)
  edges = []
  while len(edges) < rng.integers(4, 14):
    one, other = rng.integers(0, 6, 2)
    if one != other:
      edges.append((int(one), int(other)))
  judged = graph(*edges)
  found = orders.cycles(judged, examples=6)
  votes = {(a, b): edges.count((a, b)) - edges.count((b, a)) for a, b in edges}
  majorities = [pair for pair, vote in votes.items() if vote > 0]
  circular = [reaches(majorities, a, b) and reaches(majorities, b, a) for a, b in edges]
  assert found.is_inside.tolist() == circular
  for circle in found.examples:
    assert len(circle) >= 3
    assert all(step in majorities for step in zip(circle, (*circle[1:], circle[0])))
  violated = [
    sum(order.index(a) > order.index(b) for a, b in edges)
    for order in itertools.permutations(range(6))
  ]
  least = orders.least_violations(judged, found)
  assert least <= min(violated)
  assert (least == 0) == (min(violated) == 0)
