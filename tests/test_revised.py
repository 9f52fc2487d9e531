"""MARV as a function of scores: what is kept, what does not count, what a random filter is."""

import math

import hypothesis
import numpy as np
from hypothesis import strategies
from hypothesis.extra import numpy as arrays

from pit_jax.statistics import revised

SCORES = strategies.floats(-5, 5, width=16) | strategies.just(math.nan)
SHAPES = strategies.tuples(*(strategies.integers(1, 4) for _ in range(3)))


def slowly(chosen, rejected, margin):
  """Pair by pair, with sums by hand."""
  kept = []
  for one, other in zip(chosen.tolist(), rejected.tolist(), strict=True):
    sides = [[x for samples in side for x in samples if not math.isnan(x)] for side in (one, other)]
    gain = None if not all(sides) else np.subtract(*(sum(side) / len(side) for side in sides))
    kept.append(gain is not None and gain > margin)
  return kept


@hypothesis.settings(deadline=None)
@hypothesis.given(strategies.data(), SHAPES, strategies.sampled_from([0.0, 0.3]))
def test_a_pair_is_kept_where_the_mean_of_the_chosen_ones_revisions_is_higher(data, shape, margin):
  sides = [data.draw(arrays.arrays(float, shape, elements=SCORES)) for _ in range(2)]
  gains = revised.gains(*sides)
  # What differs by rounding alone may fall on either side.
  sure = ~np.isclose(gains, margin, atol=1e-9)
  kept = revised.kept(*sides, margin)
  assert kept.dtype == bool
  np.testing.assert_array_equal(kept[sure], np.array(slowly(*sides, margin))[sure])
  turned = revised.kept(*sides[::-1])
  assert not (turned & revised.kept(*sides)).any(), "a pair and the same turned are not both kept"


def test_by_hand():
  chosen = np.array([[[1.0, 3.0]], [[1.0, 1.0]], [[0.0, np.nan]], [[np.nan, np.nan]]])
  rejected = np.array([[[2.0, 1.0]], [[1.0, 1.0]], [[-1.0, 5.0]], [[0.0, 0.0]]])
  np.testing.assert_array_equal(revised.gains(chosen, rejected), [0.5, 0.0, -2.0, np.nan])
  assert revised.kept(chosen, rejected).tolist() == [True, False, False, False]
  assert revised.kept(chosen, rejected, 0.5).tolist() == [False] * 4


def test_a_random_filter_keeps_as_many():
  share = np.arange(100) < 37
  drawn = [revised.at_random(share, seed) for seed in (0, 0, 1)]
  assert all(one.sum() == 37 for one in drawn)
  assert (drawn[0] == drawn[1]).all() and (drawn[0] != drawn[2]).any()
  # Who is kept has nothing to do with who was.
  often = np.mean([revised.at_random(share, seed) for seed in range(400)], axis=0)
  assert abs(often[:37].mean() - 0.37) < 0.02
