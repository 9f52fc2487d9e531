"""Final answers that are verified: what is read of a text, and files of right answers as raters."""

import fractions
import json
import math
import time
from unittest import mock

import hypothesis
import hypothesis.strategies as st
import ml_collections
import numpy as np
import pytest
import tiny_run

from pit_jax.feedback import labels, named, verifier
from pit_jax.run import context as contexts
from pit_jax.tasks import verify


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("So 3 + 4 = 7 apples.", 7),
    ("The answer is 1,234.50 dollars, and not 3.", "1234.5"),
    ("It is 5.\n#### -7", -7),
    ("thus \\boxed{3/4}, as was said", "3/4"),
    ("it is −2.5 degrees", "-2.5"),
    ("-$5", -5),
    ("50%", 50),
    ("5kg", 5),
    (".5", "1/2"),
    ("1e3", 1000),
    ("Answer: 12. I had 13 at first.", 12),
    ("the answer is 3. No, the answer is 4, not 9", 4),
    ("see version 1.2.3", None),
    ("10/0", None),
    ("1/2/3", None),
    ("\\boxed{\\frac{1}{2}}", "1/2"),
    ("answer: \\dfrac{-3}{4}", "-3/4"),
    ("answer: 1e999999", None),
    ("1e5e5", None),
    pytest.param("9" * 5000, None, id="many digits"),
    pytest.param("the answer is 1" + ",111" * 5000, None, id="many thousands"),
    pytest.param("1/" + "9" * 5000, None, id="a long divisor"),
    ("of x2 nothing is known", None),
    ("1,23", None),
    ("", None),
    (r"\boxed{2\frac{1}{3}}", "7/3"),
    (r"\boxed{1{,}234}", 1234),
    (r"\boxed{1\,234}", 1234),
    ("The answer is 1 234", 1234),
    ("The answer is 12\u202f345\u202f678.5 dollars", "12345678.5"),
    ("They are 100 200 300", 300),
    ("The answer is 1 1/2", "3/2"),
    ("-1 1/2", "-3/2"),
    ("1 3/2", None),
    ("2½", "5/2"),
    ("10^3", 1000),
    ("10³", 1000),
    ("10^{-2}", "1/100"),
    ("2^{10}", 1024),
    ("2^{1/2}", None),
    ("(-2)^2", None),
    ("0^{-1}", None),
    ("10^9999", None),
    ("3×10^4", 30000),
    (r"3 \times 10^{4}", 30000),
    (r"\sqrt{2}", None),
    (r"\frac{\sqrt{2}}{2}", None),
    (r"the first answer is 4, and the other answer is 5\sqrt{2}", None),
    ("2π", None),
    ("3x + 2", None),
    ("5 m^2", 5),
    (r"90^\circ", 90),
    (r"\frac{1,000}{3}", "1000/3"),
    (r"\frac12", "1/2"),
    ("The answer is - 3", -3),
    ("Answer:\n- 3 apples", 3),
    ("The answer is 3:45", None),
    ("Answer: 3 + 4 = 7", 7),
    ("Answer: 7 = 3 + 4", 7),
    ("Answer: 3 + 4", None),
    ("5-3", None),
    ("3 x 4 = 12", 12),
    ("Answer: 3 apples + 4 apples = 7 apples", 7),
    ("#### 20*5=<<20*5=100>>100", 100),
    ("The answer is 20 * 5 = 100 dollars.", 100),
    ("The answer is **5** 3 times", 5),
    ("The answer is 7. I hope this answer is helpful!", 7),
    ("The answer is 7. That answer is surely right. See page 3.", 7),
    (r"\boxed{5}. The answer is correct because 7 > 3.", 5),
    (r"\boxed{5} and not 6", 5),
    (r"so \boxed{}, not 6", None),
  ],
)
def test_numbers(text, found):
  expected = None if found is None else fractions.Fraction(found)
  assert verify.final(text, "number") == expected


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("The answer is (B).", "B"),
    ("Answer: C", "C"),
    ("answer: **(D)** Oslo, not (A)", "D"),
    ("Let me see.\nA. Paris", "A"),
    ("It could be (A), but it is (C)", "C"),
    ("b", "B"),
    ("the answer is (c), I think", "C"),
    ("The answer is option B", "B"),
    ("A man walks", None),
    ("Answer: Because", None),
    ("**Answer:**\nB", "B"),
    ("**Answer**: B", "B"),
    (r"\boxed{\text{B}}", "B"),
    (r"\boxed{\textbf{(B)}\ 34}", "B"),
    ("The answer is B because A is wrong", "B"),
    ("The correct answer is B, since A is wrong", "B"),
    ("The answer is A, as B is wrong", "A"),
    ("The answer is B (foo)", "B"),
    ("The answer is A good one", None),
    ("The answer is B or C", None),
    ("The answer is T-shirt", None),
    ("The answer is B. The answer is surely right.", "B"),
    ("", None),
  ],
)
def test_choices(text, found):
  assert verify.final(text, "choice") == found


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("The calls go on.\nIt is  the OAK street!", "it is oak street"),
    ("The answer is the Oak Street.\nBye.", "oak street"),
    ("Answer: Éa", "éa"),
    ("**Final Answer:**\n\nParis", "paris"),
    (r"\boxed{\text{Paris}}. Bye", "paris"),
    (
      "The answer is Paris. I hope this answer is helpful!\nBye",
      "paris i hope this answer is helpful",
    ),
    ("−3", "-3"),
    ("well-known", "well known"),
    ("the", None),
    (" \n", None),
  ],
)
def test_few_words(text, found):
  assert verify.final(text, "text") == found


@pytest.mark.parametrize(
  ("text", "answer", "is_right"),
  [
    ("The answer is 3 hours 20 minutes", "3 hours 20 minutes", True),
    ("3 hours  20 minutes", "3 hours 20 minutes", True),
    ("#### 100", "It is 20*5=<<20*5=100>>100", True),
    ("#### 7", "He has 3 and buys 4. So he has 7.", True),
    ("#### 3", "He has 3 and buys 4. So he has 7.", False),
    ("The answer is 1,234", "1 234", True),
  ],
)
def test_texts_and_right_answers_are_read_by_one_rule(text, answer, is_right):
  assert verify.is_right(text, [answer], "number") == is_right


@pytest.mark.parametrize("answer", [r"\sqrt{2}", "3:45", "3x + 2", "3 + 4", "2^x"])
def test_a_right_answer_that_cannot_be_read_is_refused(answer):
  with pytest.raises(ValueError, match="is no answer of the form number"):
    verify.check(answer, "number")


@pytest.mark.parametrize("part", ["1 ", " ", "\\sqrt[", "\\boxed{", "1 111 ", "answer ", "("])
@pytest.mark.parametrize("form", verify.FORMS)
def test_long_texts_are_read_in_time(part, form):
  start = time.process_time()
  verify.final(f"answer: 1{part * 10_000}x", form)
  assert time.process_time() - start < 2  # what is quadratic takes longer


numbers = st.fractions(max_denominator=999) | st.decimals(
  min_value=-(10**9), max_value=10**9, places=3
).map(fractions.Fraction)
prose = st.text("abcdefgh ,.!?\n", max_size=30)


@hypothesis.given(numbers, prose, prose, st.sampled_from(["the answer is ", "Answer: ", "#### "]))
def test_a_number_is_found_behind_its_mark_however_it_is_written(number, before, after, mark):
  whole, rest = divmod(abs(number), 1)
  sign = "-" if number < 0 else ""
  written = [f"{number.numerator}/{number.denominator}"]
  if rest * 1000 == int(rest * 1000):
    decimals = f".{int(rest * 1000):03d}" if rest else ""
    written += [
      f"{sign}{whole}{decimals}",
      f"{sign}{whole:,}{decimals}",
      f"{sign}${whole}{decimals}",
    ]
  for text in written:
    said = f"{before} 17 {mark}{text} {after}"
    assert verify.final(said, "number") == number, said
    assert verify.is_right(said, [str(number)], "number")
    assert not verify.is_right(said, [str(number + 1)], "number")


@hypothesis.given(st.sampled_from("ABCDE"), prose, st.sampled_from(["({})", "{}.", "{}", "{}) it"]))
def test_a_letter_is_found_behind_its_mark(letter, before, form):
  assert verify.final(f"{before} answer: {form.format(letter)}", "choice") == letter


@hypothesis.given(st.text())
def test_words_are_compared_as_they_are_read(text):
  found = verify.final(text, "text")
  if found is not None:
    assert verify.is_right(found, [text], "text") or "answer" in found


def written(tmp_path, rows):
  path = tmp_path / "right.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
  return path


def test_a_file_of_right_answers_labels_pairs_and_fails_on_others(tmp_path):
  rows = [{"q": "2 + 2?", "a": "4"}, {"q": "half?", "a": "1/2"}, {"q": "half?", "a": "50"}]
  section = {"kind": "verifier", "path": str(written(tmp_path, rows)), "form": "number",
             "prompt": "q", "answer": "a"}  # fmt: skip
  config = tiny_run.config()
  with config.unlocked():
    config.feedback = ml_collections.ConfigDict({"raters": {"v": section}})
  named.check(config)
  rater = named.build(mock.Mock(spec=contexts.Context, config=config), "raters", "v")
  pairs = [
    labels.Pair("2 + 2?", "It is 4.", "It is 5."),
    labels.Pair("2 + 2?", "5", "so the answer is 4, I think, of 9"),
    labels.Pair("half?", "50%", "0.5"),
    labels.Pair("half?", "none", "nothing"),
    labels.Pair("3 + 3?", "6", "7"),
  ]
  made = labels.labels(pairs, rater)
  assert made.counts == {"kept": 2, "ties": 2, "disagreeing orders": 0, verifier.ABSENT: 1}
  assert [row["chosen"] for row in made.rows] == [pairs[0].a, pairs[1].b]
  assert [row["margin"] for row in made.rows] == [1.0, 1.0]
  said = rater.verdicts(*zip(*(pair[:3] for pair in pairs)))
  np.testing.assert_array_equal(said.difference, [1.0, -1.0, 0.0, 0.0, np.nan])


def test_numbers_may_be_numbers(tmp_path):
  path = written(tmp_path, [{"prompt": "2 + 2?", "answer": 4}, {"prompt": "half?", "answer": 0.5}])
  said = verifier.rater("v", path, "number").verdicts(["2 + 2?", "half?"], ["4", "1"], ["5", "1/2"])
  np.testing.assert_array_equal(said.difference, [1.0, -1.0])


def test_what_is_no_right_answer_is_named(tmp_path):
  wrong = {
    "has no rows; write some with 'prompt' and 'answer'": [],
    "line 1: .*; write an object with 'prompt' and 'answer'": [3],
    "'answer' must be a text": [{"prompt": "a", "answer": True}],
    "line 1: .*; the columns read are 'prompt', 'answer'": [{"prompt": "a", "answer": math.nan}],
  }
  for message, rows in wrong.items():
    for form in verify.FORMS:
      with pytest.raises(ValueError, match=message):
        verifier.rater("v", written(tmp_path, rows), form)
  path = written(tmp_path, [{"prompt": "2 + 2?", "answer": "four"}])
  with pytest.raises(
    ValueError, match="right.jsonl: of the prompt '2 \\+ 2\\?': 'four' is no answer"
  ):
    verifier.rater("v", path, "number")
  path = written(tmp_path, [{"prompt": "2 + 2?"}])
  with pytest.raises(ValueError, match="line 1: the row has no 'answer'; the columns read are"):
    verifier.rater("v", path, "number")
  with pytest.raises(ValueError, match="form='word'; use one of number, choice, text"):
    verify.final("x", "word")


@pytest.mark.parametrize(
  ("section", "said"),
  [
    ({"path": "nowhere.jsonl", "form": "number"}, "path=nowhere.jsonl is no file"),
    ({"form": "number"}, "path is missing, which the kind verifier needs"),
    ({"path": __file__, "form": "word"}, "form='word'; use one of number, choice, text"),
    ({"path": __file__, "form": "text", "tie": 1.0}, "tie is not known; beside kind, verifier has"),
  ],
)
def test_sections_of_no_verifier_are_refused(section, said):
  config = tiny_run.config()
  with config.unlocked():
    config.feedback = ml_collections.ConfigDict({"raters": {"v": {"kind": "verifier", **section}}})
  with pytest.raises(ValueError, match=said):
    named.check(config)
