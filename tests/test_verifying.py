"""Verifiers that are functions, and several as one: the answer first, then the steps."""

from unittest import mock

import hypothesis
import ml_collections
import numpy as np
import pytest
import tiny_run
from hypothesis import strategies as st

from pit_jax.feedback import named, verifier
from pit_jax.run import context as contexts

HERE = __name__


def ends_well(prompt, answer):
  return answer.endswith("!")


def has_steps(prompt, answer):
  return np.bool_("so" in answer)


def fails(prompt, answer):
  if prompt == "bad":
    raise KeyError("no street")
  return True


def vague(prompt, answer):
  return "yes"


def check(function, **more):
  return {"kind": "check", "function": f"{HERE}:{function}", **more}


RATERS = {
  "answer": check("ends_well"),
  "steps": check("has_steps"),
  "both": {"kind": "verified", "verifiers": ("answer", "steps")},
}


def config(raters):
  made = tiny_run.config()
  with made.unlocked():
    made.feedback = ml_collections.ConfigDict({"raters": raters})
  return made


def built(name="both", **more):
  made = config(RATERS | more)
  named.check(made)
  return named.build(mock.Mock(spec=contexts.Context, config=made), "raters", name)


TEXTS = st.sampled_from(["so it is!", "it is!", "so it is", "it is"])
WORTH = {"so it is!": 2, "it is!": 1, "so it is": 0, "it is": 0}


@hypothesis.given(st.lists(st.tuples(TEXTS, TEXTS), max_size=8))
def test_right_by_right_steps_is_better_than_right_and_that_than_wrong(pairs):
  rater = built()
  a, b = ([pair[i] for pair in pairs] for i in (0, 1))
  said = rater.verdicts(["q"] * len(pairs), a, b)
  assert said.difference.tolist() == [WORTH[one] - WORTH[other] for one, other in pairs]
  assert rater.score(["q"] * len(a), a).tolist() == [WORTH[one] for one in a]


def test_steps_of_a_wrong_answer_are_not_asked_for():
  counting = mock.Mock(side_effect=lambda questions, texts: np.ones(len(texts)))
  answers = lambda questions, texts: np.array([text == "right" for text in texts], float)  # noqa: E731
  verifier.of("both", [answers, counting]).verdicts(["q", "r"], ["right", "no"], ["no", "no"])
  assert [call.args for call in counting.call_args_list] == [(["q"], ["right"]), ([], [])]


def test_files_and_functions_verify_together(tmp_path):
  path = tmp_path / "right.jsonl"
  path.write_text('{"prompt": "2 + 2?", "answer": "4"}\n')
  files = {"number": {"kind": "verifier", "path": str(path), "form": "number"},
           "mixed": {"kind": "verified", "verifiers": ("number", "steps")}}  # fmt: skip
  rater = built("mixed", **files)
  questions = ["2 + 2?", "2 + 2?", "3 + 3?", "3 + 3?"]
  said = rater.verdicts(questions, ["so 4", "so 5", "so 6", "6"], ["4", "4", "7", "so 6"])
  np.testing.assert_array_equal(said.difference, [1.0, -1.0, np.nan, np.nan])
  assert said.failures == {2: verifier.ABSENT, 3: verifier.ABSENT}
  assert rater.score is None  # of some prompts it knows nothing


def test_a_file_that_knows_every_prompt_scores_single_answers(tmp_path):
  path = tmp_path / "right.jsonl"
  path.write_text('{"prompt": "2 + 2?", "answer": "4"}\n{"prompt": "3 + 3?", "answer": "6"}\n')
  section = {"kind": "verifier", "path": str(path), "form": "number"}
  rater = built("key", key=section | {"scores": True})
  questions = ["2 + 2?", "3 + 3?", "3 + 3?"]
  scored = rater.score(questions, ["so 4", "so 4", "it is 6"])
  np.testing.assert_array_equal(scored, [1.0, 0.0, 1.0])
  compared = rater.verdicts(questions, ["4", "4", "6"], ["4", "6", "5"]).difference
  np.testing.assert_array_equal(compared, [0.0, -1.0, 1.0])
  with pytest.raises(ValueError, match="no right answer in the file to the prompt '5 . 5.'; add"):
    rater.score(["5 + 5?"], ["10"])
  assert built("key", key=section | {"scores": False}).score is None


@pytest.mark.parametrize(("right", "seed"), [(0.8, 0), (0.5, 3), (1.0, 0), (0.0, 1)])
def test_a_verifier_errs_as_often_as_it_is_said_to_and_always_on_the_same(right, seed):
  passes = verifier.function("noisy", f"{HERE}:ends_well", right, seed)
  texts = [f"text {i}{'!' if i % 2 else ''}" for i in range(2000)]
  said = passes(["q"] * 2000, texts)
  agreed = np.mean(said == np.array([text.endswith("!") for text in texts]))
  assert abs(agreed - right) <= 4 * np.sqrt(right * (1 - right) / 2000)
  order = np.random.default_rng(0).permutation(2000)
  again = passes(["q"] * 2000, [texts[i] for i in order])
  np.testing.assert_array_equal(again, said[order])
  if right == 0.5:
    other = verifier.function("noisy", f"{HERE}:ends_well", right, seed + 1)
    assert 0.4 < np.mean(other(["q"] * 2000, texts) == said) < 0.6


def test_a_verifier_that_raises_is_named_with_the_prompt_and_the_error():
  rater = built("judge", judge=check("fails"))
  with pytest.raises(ValueError) as error:
    rater.verdicts(["good", "bad"], ["a", "b"], ["c", "d"])
  said = str(error.value)
  assert said.startswith(f"the verifier judge ({HERE}:fails) raised KeyError: 'no street' (line ")
  assert said.endswith(
    "for the prompt 'bad'; it is called as f(prompt, answer), two texts, and returns True or False"
  )
  assert "\n" not in said


def test_a_verifier_that_says_something_else_is_named():
  rater = built("judge", judge=check("vague"))
  with pytest.raises(ValueError) as error:
    rater.score(["good"], ["a"])
  assert f"the verifier judge ({HERE}:vague) returned 'yes' for the prompt 'good'" in str(
    error.value
  )


@pytest.mark.parametrize(
  ("raters", "said"),
  [
    ({"v": check("absent")}, "feedback.raters.v: .*absent"),
    ({"v": check("ends_well", right=1.5)}, "v.right=1.5; use from 0 to 1"),
    ({"v": {"kind": "check"}}, "v.function is missing, which the kind check needs"),
    ({"v": {"kind": "verified", "verifiers": ()}}, "v.verifiers=\\(\\); use the names of one"),
    ({"v": {"kind": "verified", "verifiers": ("gold",)}, "gold": {"kind": "gold"}},
     "v.verifiers names 'gold'; use raters that are verifiers: none"),
  ],
)  # fmt: skip
def test_sections_of_no_verifier_are_refused(raters, said):
  with pytest.raises(ValueError, match=said):
    named.check(config(raters))
