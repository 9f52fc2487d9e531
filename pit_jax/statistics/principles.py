"""What a pair's label is where a judge compared its answers by one principle at a time.

Sun et al. 2024 (arXiv 2310.05910, §3.2): a row shows some principles, some of them negated, and the
answer is preferred that is better by the principle of which the judge is surest.
"""

import numpy as np
from jaxtyping import Bool, Float, Int


def standardised(orders: Float[np.ndarray, "N K 2"]) -> Float[np.ndarray, "N K"]:
  """Returns the scores of N pairs by K principles, comparable between principles.

    s_ik = ½ (d_ik1 + d_ik2) / var_k,    var_k over both orders of all pairs

  so that a principle on which the judge is loud counts no more than others. Where it says the same
  of every pair, it tells none from another, and the scores are 0.

  Args:
    orders: by how much a is better than b, as the judge says where a stands first, and where b
      does; both columns are above 0 where a is better. NaN where it says nothing.
  """
  with np.errstate(invalid="ignore"):
    known = ~np.isnan(orders)
    count = np.maximum(known.sum(axis=(0, 2)), 1)
    mean = np.where(known, orders, 0.0).sum(axis=(0, 2)) / count
    squares = np.where(known, (orders - mean[:, None]) ** 2, 0.0)
    variance = squares.sum(axis=(0, 2)) / count
  scores = orders.mean(axis=2) / np.where(variance > 0, variance, 1.0)
  return np.where(variance > 0, scores, 0.0)


def dominant(
  scores: Float[np.ndarray, "N K"],
  is_shown: Bool[np.ndarray, "N K"],
  is_negated: Bool[np.ndarray, "N K"],
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, " N"]]:
  """Returns the principle that decides each row, and its score: above 0 where a is preferred.

  It is the one with the largest |score| among those shown, the first of equal ones; a negated one's
  score has its sign changed. Of a row that shows none of which the judge says something, 0.

  Args:
    scores: from `standardised`; NaN where the judge says nothing.
    is_shown: which principles the row shows.
    is_negated: which of them it shows negated.
  """
  signed = np.where(is_negated, -scores, scores)
  signed = np.where(is_shown & ~np.isnan(signed), signed, 0.0)
  place = np.abs(signed).argmax(axis=1)
  return place, signed[np.arange(len(signed)), place]
