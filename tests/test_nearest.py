"""Nearest points by cosine, against brute force."""

import hypothesis
import numpy as np
from hypothesis import strategies as st

from pit_jax.statistics import nearest


def slow(queries, points, count):
  """Every pair by itself; a stable sort keeps the order of equal ones."""
  found = []
  for query in queries:
    cosines = []
    for point in points:
      lengths = np.sqrt(sum(x * x for x in query)) * np.sqrt(sum(x * x for x in point))
      product = sum(x * y for x, y in zip(query, point, strict=True))
      cosines.append(round(product / lengths, 9) if lengths else 0.0)
    order = sorted(range(len(points)), key=lambda place: -cosines[place])
    found.append(order[:count])
  return found


@hypothesis.given(
  st.integers(0, 2**31),
  st.integers(1, 6),
  st.integers(1, 40),
  st.integers(1, 12),
  st.integers(1, 8),
)
def test_they_are_those_of_brute_force(seed, queries, points, count, width):
  rng = np.random.default_rng(seed)
  columns = [rng.normal(size=(size, width)) for size in (queries, points)]
  found = nearest.nearest(*columns, count)
  assert found.shape == (queries, min(count, points))
  similar = [np.array([_cosine(q, columns[1][place]) for place in row])
             for q, row in zip(columns[0], found, strict=True)]  # fmt: skip
  expected = [np.array([_cosine(q, columns[1][place]) for place in row])
              for q, row in zip(columns[0], slow(*columns, count), strict=True)]  # fmt: skip
  np.testing.assert_allclose(similar, expected, atol=1e-8)
  assert all(len({*row.tolist()}) == len(row) for row in found)


def _cosine(a, b):
  return a @ b / np.linalg.norm(a) / np.linalg.norm(b)


def test_of_equal_ones_the_first_comes_first_and_length_says_nothing():
  points = np.array([[0.0, 1.0], [2.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [5.0, 0.0]])
  assert nearest.nearest(np.array([[3.0, 0.0]]), points, 4).tolist() == [[1, 2, 4, 0]]
  assert nearest.nearest(np.array([[0.0, 0.0]]), points, 2).tolist() == [[0, 1]]
  assert nearest.nearest(np.array([[1.0, 0.0]]), points, 9).tolist() == [[1, 2, 4, 0, 3]]
  assert nearest.nearest(np.zeros((0, 2)), points, 2).shape == (0, 2)
  assert nearest.nearest(np.ones((2, 2)), points[:0], 2).shape == (2, 0)
