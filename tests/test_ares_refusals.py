"""Recipe `ares`: what cannot be is a sentence before anything is trained."""

import pytest
import tiny_run

from pit_jax.feedback import named
from pit_jax.recipes import ares
from pit_jax.run import checks


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"ares__author": "who"}, "ares.author='who'; use a name of feedback.writers, which has"),
    ({"ares__teacher": "who"}, "ares.teacher='who'; use a name of feedback.writers, which has"),
    ({"ares__corrector": "who"}, "ares.corrector='who'; use a name of feedback.writers"),
    ({"ares__score_request": "{prompt}"}, "ares.score_request='{prompt}'; use {prompt} and {sent"),
    ({"ares__correct_request": "{sentences}"}, "ares.correct_request='{sentences}'; use {prompt}"),
    ({"correct__fold": "sft"}, "correct.fold='sft': corrections are of answers to the prompts of"),
    ({"rl__estimator": "rloo"}, "rl.estimator='rloo': answers that the teacher does not score are"),
    ({"rl__steps": 2, "rl__value_warmup": 1}, "each of the two rounds of ares_twice has half of"),
    ({"rl__rewards": (("gap", 1.0),)}, "rl.rewards names 'gap'"),
    ({"ares__neutral": 2.0}, "ares.neutral=2.0; use from 0 to 1"),
    ({"feedback__writers__teacher__invalid": 2.0}, "feedback.writers.teacher.invalid=2.0; use"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  changed = tiny_run.config("ares", **{"rl__samples": 2, "rl__steps": 4} | changes)
  with pytest.raises(ValueError) as error:
    checks.values(changed, ares.RECIPE)
    named.check(changed)
  assert said in str(error.value)
