"""What the study of AI feedback says of its claims."""

import pytest

from pit_jax.recipes.rlaif import arms, page

HERE = ["for these models"] * 2


def row(a, b, delta, ci95, **more):
  counts = {"n": 1536, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
  known = {"a": a, "b": b, "judge": "gold", "temperature": 0.7, "delta": delta, "ci95": ci95}
  return known | counts | more


@pytest.mark.parametrize(
  ("matched", "random", "outcomes"),
  [
    ((6.0, (3.0, 9.0)), (0.0, (-3.0, 3.0)), [*HERE, *HERE]),
    ((20.0, (17.0, 23.0)), (0.0, (-3.0, 3.0)), [*HERE, "opposite", None]),
    (
      (9.5, (6.0, 13.0)),
      (14.0, (11.5, 16.5)),
      [*HERE, "not shown", "not shown"],
    ),
    ((3.0, (1.0, 5.0)), (20.0, (17.0, 23.0)), [*HERE, "for these models", "opposite"]),
  ],
)
def test_matched_feedback_and_random_labels_may_add_a_third(matched, random, outcomes):
  rows = [
    row("rlaif", "sft_10", 40.0, (33.0, 47.0)),  # of which a third is 11 to 15.7
    row("sft_100_strong", "rlaif", 80.0, (76.0, 84.0)),
    row(arms.MATCHED, "sft_10_strong", *matched),
    row("rlaif_random_critic", "sft_10", *random, p_holm=1.0),  # as of a Δ of about 0
  ]
  found, remark = page.said({"comparisons": rows, "systems": {}, "recipe": "rlaif"})
  for claim, expected in zip(found, outcomes, strict=True):
    assert expected is None or expected in claim.outcome, claim.sentence
  assert "corrected" in remark


def test_a_third_is_known_as_far_as_the_gain_is_over_seeds():
  """Beyond a third of what prompts allow for, and not of what seeds do: nothing is shown."""
  seeds = {"over_seeds": {"ci95": (20.0, 80.0), "delta": 40.0, "standard_error": 7.0, "seeds": 3}}
  found = []
  for more in ({}, seeds):
    rows = [
      row("rlaif", "sft_10", 40.0, (33.0, 47.0), seed="all", **more),
      row("rlaif", "sft_10", 3.0, (1.0, 5.0), seed=0),  # that of one seed is not asked
      row(arms.MATCHED, "sft_10_strong", 20.0, (17.0, 23.0), seed="all"),
    ]
    claims, _ = page.said({"comparisons": rows, "systems": {}, "recipe": "rlaif"})
    found += [claim.outcome for claim in claims if "third" in claim.statement]
  assert found == ["the opposite for these models", "not shown"]
