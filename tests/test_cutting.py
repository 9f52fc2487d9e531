"""Responses that are cut at words."""

import pytest

from pit_jax.data import cutting, preferences

TEXT = "a  b c\nd e f g h"  # of which two spaces make an empty word, and a line break none


@pytest.mark.parametrize(
  ("most", "least", "wanted"),
  [
    (3, 1, "a  b"),
    (90, 1, TEXT),
    (1, 5, "a"),
    (0.5, 1, "a  b c\nd"),
    (0.5, 6, "a  b c\nd e f"),
    (0.01, 1, "a"),
    (0.5, 90, TEXT),
  ],
)
def test_so_many_words_stay_or_a_share_of_them(most, least, wanted):
  assert cutting.at_words(TEXT, most, least) == wanted


def test_pairs_that_become_equal_are_left_out():
  rows = (
    preferences.Preference("x", "a b c", "a b d"),
    preferences.Preference("y", "a b c", "a e c f"),
  )
  cut = cutting.pairs(preferences.Fold(rows, rows[1:]), 2)
  shortened = (preferences.Preference("y", "a b", "a e"),)
  assert cut == preferences.Fold(shortened, shortened)
