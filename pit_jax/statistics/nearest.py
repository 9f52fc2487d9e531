"""The nearest of some points to others, by the cosine of the angle between them."""

import numpy as np
from jaxtyping import Float, Int


def nearest(
  queries: Float[np.ndarray, "N D"], points: Float[np.ndarray, "M D"], count: int
) -> Int[np.ndarray, "N K"]:
  """Returns the places of the points nearest to each query, nearest first.

  similarity(q, p) = q · p / (‖q‖ ‖p‖); of equal ones the earlier point comes first.

  Args:
    queries: any vectors; one of length 0 is as near to all points.
    points: of as many dimensions.
    count: how many points each query gets, 0 or more; all of them where there are fewer.
  """
  count = min(count, len(points))
  if not count or not len(queries):
    return np.zeros((len(queries), count), int)
  similar = _unit(queries) @ _unit(points).T

  # The count-th largest is where the rest begins; sorting alone what is at least as near keeps ties
  # in order.
  least = -np.partition(-similar, count - 1, axis=1)[:, count - 1]
  chosen = []
  for row, bound in zip(similar, least, strict=True):
    places = np.flatnonzero(row >= bound)
    chosen.append(places[np.argsort(-row[places], kind="stable")][:count])
  return np.stack(chosen)


def _unit(vectors: Float[np.ndarray, "N D"]) -> Float[np.ndarray, "N D"]:
  lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
  return vectors / np.where(lengths > 0, lengths, 1.0)
