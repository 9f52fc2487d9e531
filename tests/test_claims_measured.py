"""Figures that are no comparisons: pooled over seeds with their intervals, and claims of them."""

import numpy as np
import pytest
import scipy.stats

from pit_jax.evaluate import seeds
from pit_jax.recipes import recipe
from pit_jax.report import claims

OWN, SAME = ("a", "b", "c"), ("a", "a", "a")  # hashes of the seeds' rows


def row(f1, low, high, **more):
  return {
    "system": "x",
    "f1": f1,
    "f1_ci95": [low, high],
    "parts": {"answer": f1, "tone": None},
    **more,
  }


def pooled(*rows, prompts=OWN):
  parts = {seed: [one] for seed, one in enumerate(rows)}
  (found,) = seeds.rows("system")(parts, prompts[: len(rows)])
  return found


THREE = (row(0.6, 0.5, 0.7), row(0.7, 0.6, 0.8), row(0.8, 0.75, 0.85))


def test_figures_of_own_prompts_are_pooled_as_independent_and_over_seeds():
  found = pooled(*THREE)
  half = np.sqrt(0.1**2 + 0.1**2 + 0.05**2) / 3
  assert found["f1"] == pytest.approx(0.7)
  assert found["f1_ci95"] == pytest.approx([0.7 - half, 0.7 + half])
  over = found["f1_over_seeds"]
  assert over["values"] == [0.6, 0.7, 0.8] and over["seeds"] == 3
  # Of so few seeds the spread counts for no less than what the prompts alone make of it.
  error = max(0.1 / np.sqrt(3), half / scipy.stats.norm.ppf(0.975))
  reach = scipy.stats.t.ppf(0.975, 2) * error
  assert over["ci95"] == pytest.approx((0.7 - reach, 0.7 + reach))
  assert found["parts"] == {"answer": pytest.approx(0.7)}, "what a seed lacks is left out"


def test_figures_of_the_same_prompts_are_as_wide_as_if_the_seeds_agreed():
  found = pooled(*THREE, prompts=SAME)
  half = (0.1 + 0.1 + 0.05) / 3
  assert found["f1_ci95"] == pytest.approx([0.7 - half, 0.7 + half])
  assert (
    found["f1_over_seeds"]["standard_error"] > pooled(*THREE)["f1_over_seeds"]["standard_error"]
  )


def test_a_figure_that_a_seed_lacks_has_no_interval():
  lacking = {"system": "x", "f1": None, "f1_ci95": None}
  found = pooled(THREE[0], lacking)
  assert not {"f1", "f1_ci95", "f1_over_seeds"} & {*found}
  assert "f1_over_seeds" not in pooled(THREE[0])


def test_differences_to_a_third_are_pooled_under_the_names_of_comparisons():
  found = pooled(*({"system": "x", "delta": d, "ci95": (d - 3, d + 3)} for d in (1.0, 4.0, 7.0)))
  assert found["delta"] == 4.0 and found["over_seeds"]["values"] == [1.0, 4.0, 7.0]
  assert found["ci95"] == pytest.approx([4 - np.sqrt(3), 4 + np.sqrt(3)])


def sure(value, *values):
  """Returns a row whose figure is known to ± .02 over prompts, and of each seed."""
  of_seeds = {"f1_over_seeds": {"values": list(values)}} if values else {}
  return {"f1": value, "f1_ci95": (value - 0.02, value + 0.02), **of_seeds}


@pytest.mark.parametrize(
  ("a", "b", "outcome"),
  [
    (sure(0.7), sure(0.6), claims.HERE),  # one seed
    (sure(0.7), sure(0.68), claims.NOT_SHOWN),  # ± .028 of both
    (sure(0.6), sure(0.7), claims.OPPOSITE_HERE),
    (sure(0.7, 0.69, 0.7, 0.71), sure(0.5, 0.5, 0.5, 0.5), claims.HOLDS),
    (sure(0.7, 0.4, 0.7, 1.0), sure(0.5, 0.5, 0.5, 0.5), claims.HERE),
    (sure(0.7), 0.5, claims.HERE),
    (sure(0.7), 0.71, claims.NOT_SHOWN),
    (sure(0.7, 0.69, 0.7, 0.71), 0.5, claims.HOLDS),
  ],
)
def test_one_figure_is_surely_above_another_or_a_number(a, b, outcome):
  rows = {"first": a, "second": b} if isinstance(b, dict) else {"first": a}
  other = "second" if isinstance(b, dict) else b
  tests = claims.measured("it is higher", rows, "first", other, "f1", what="F1")
  (found,), _ = claims.decide(tests)
  assert found.outcome == outcome
  assert found.statement == "paper's claim that it is higher"


def test_the_grounds_are_both_figures_their_difference_and_the_seeds_where_they_disagree():
  rows = {"one": sure(0.6, 0.4, 0.8), "other": sure(0.5, 0.5, 0.5)}
  (test,) = claims.measured("x", rows, "one", "other", "f1", what="F1", kind=claims.EXPECTED)
  (found,), _ = claims.decide([test])
  assert found.sentence.startswith("The expectation that x holds for these models: F1 of one 0.6 ")
  assert "against other 0.5, +0.10 (95% interval +0.07 to +0.13, over seeds " in found.sentence
  assert found.sentence.endswith("and the seeds disagree (−0.10, +0.30).")


def test_what_is_not_measured_is_not_tested():
  assert claims.measured("x", {"one": sure(0.6)}, "one", "absent", "f1") == []
  lacking = {"one": sure(0.6), "other": {"f1": 0.5, "f1_ci95": None}}
  assert claims.measured("x", lacking, "one", "other", "f1") == []


def test_pages_state_what_their_methods_measure():
  """The outcome of each claim on rows in which what is claimed is surely so."""
  filters = [{"filter": name, "accuracy": value, "accuracy_ci95": (value - 0.01, value + 0.01)}
             for name, value in (("marv", 0.9), ("all", 0.8), ("random", 0.8),
                                 ("marv_shuffled", 0.8), ("marv_random_reward", 0.7))]  # fmt: skip
  critics = [{"system": f"critic_{name}", **sure(value)}
             for name, value in (("merged", 0.8), ("union", 0.7), ("first", 0.6),
                                 ("rl_marv", 0.9))]  # fmt: skip
  said = {
    "multicritique": {"critique_pairs": filters, "criticism": critics},
    "cot": {"rerankers": [{"chooser": "implicit", "delta": 5.0, "ci95": (3.0, 7.0),
                           "ordered": 0.8, "ordered_ci95": (0.7, 0.9)}]},
    "srt": {"critics": [{"system": f"{name}_refined", "tau": tau, "tau_ci95": (tau, tau + 0.1)}
                        for name, tau in (("stage_1", 0.6), ("srt", 0.2))]},
  }  # fmt: skip
  found = {}
  for name, results in said.items():
    method = recipe.named(name)
    told, _ = method.page.claims({"comparisons": [], **results})
    found[name] = [(one.statement, one.outcome) for one in told]
    assert {outcome for _, outcome in found[name]} == {claims.HERE}, name
  assert [statement for statement, _ in found["multicritique"]] == [
    "paper's claim that MARV makes labels right",
    "expectation that MARV's labels are right more often than as many at random",
    "expectation that critiques of other drafts do not do it",
    "expectation that a reward model of random labels does not do it",
    "paper's claim that merged critiques teach to name flaws better than union's",
    "paper's claim that merged critiques teach to name flaws better than first's",
  ]
  assert len(found["cot"]) == 2 and len(found["srt"]) == 1
