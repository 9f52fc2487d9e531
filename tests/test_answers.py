"""The answers of the headline that a report shows, by what became of them."""

import pytest
import scripted

from pit_jax.evaluate.experiments import main

# What version 0 and version 1 of the answer to each are worth.
QUESTIONS = ["5 6", "3 9", "7 2", "4 4", "2 5"]  # changes +1, +6, −5, 0, +3
TEXTS = {"before": ["version 0 at 1"] * 5, "after": ["version 1 at 1"] * 5}


def test_best_median_worst_and_a_typical_better_one():
  rows = main.answers(scripted.make_suite(QUESTIONS), TEXTS, ("after", "before"))
  told = {row["rank"]: (row["prompt"], row["change"]) for row in rows}
  assert told == {
    "best": ("3 9", 6.0), "median": ("5 6", 1.0), "worst": ("7 2", -5.0), "typical": ("2 5", 3.0)
  }  # fmt: skip
  assert {row["improved"] for row in rows} == {3}
  first, second = rows[0]["answers"]
  assert (first["system"], first["score"], first["text"]) == ("before", 3.0, "version 0 at 1")
  assert (second["system"], second["score"], second["tokens"]) == ("after", 9.0, 4)


@pytest.mark.parametrize("questions", [["5 5"], ["5 4", "6 6"]])
def test_where_none_is_better_there_is_no_typical_one(questions):
  texts = {name: answers[: len(questions)] for name, answers in TEXTS.items()}
  rows = main.answers(scripted.make_suite(questions), texts, ("after", "before"))
  assert [row["rank"] for row in rows] == ["best", "median", "worst"]
  assert {row["improved"] for row in rows} == {0}
