"""Tables for a terminal: no line too wide, and no word or number cut off."""

import hypothesis
import pytest
from hypothesis import strategies

from pit_jax.report import cells, printed

texts = strategies.text("ab·−.1", min_size=1, max_size=14)
tables = strategies.integers(1, 9).flatmap(
  lambda count: strategies.tuples(
    strategies.lists(texts, min_size=count, max_size=count),
    strategies.lists(
      strategies.lists(texts, min_size=count, max_size=count), min_size=1, max_size=4
    ),
    strategies.integers(0, count),
  )
)


@hypothesis.given(tables, strategies.integers(40, 100))
@hypothesis.settings(deadline=None, max_examples=80)
def test_every_cell_is_whole_and_no_line_too_wide(made, width):
  columns, rows, words = made
  table = cells.Table("t", "", tuple(columns), tuple(map(tuple, rows)), words=words)
  lines = printed.grid(table, width).splitlines()
  assert max(map(len, lines)) <= width
  told = " ".join(lines).split()
  assert all(cell in told for row in rows for cell in row)


def test_what_has_no_room_stands_below_with_the_names_again():
  columns = ("system", "first number", "second", "third")
  rows = (("pit", "1,234.5", "2,345.6", "3,456.7"), ("original", "·", "−0.5", "0.0"))
  assert printed.grid(cells.Table("t", "", columns, rows), 29).splitlines() == [
    "               first",
    "system        number   second",
    "-----------------------------",
    "pit          1,234.5  2,345.6",
    "original           ·     −0.5",
    "",
    "system      third",
    "-----------------",
    "pit       3,456.7",
    "original      0.0",
  ]


def test_words_are_wrapped_and_numbers_are_not():
  rows = (("the policy after RLHF", "+66.1 … +74.5"),)
  table = cells.Table("t", "", ("what it is", "95% interval"), rows)
  lines = printed.grid(table, 26).splitlines()
  assert lines[2:] == ["the policy   +66.1 … +74.5", "after RLHF"]


@pytest.mark.parametrize("width", [40, 80])
def test_a_name_longer_than_half_a_line_is_broken(width):
  lines = printed.grid(cells.Table("t", "", ("name", "n"), (("x" * 100, "5"),)), width).splitlines()
  assert max(map(len, lines)) <= width and sum(line.count("x") for line in lines) == 100
