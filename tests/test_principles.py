"""Banks of principles, how prompts show them, and labels made of a judge's scores."""

import dataclasses
import json
import random

import numpy as np
import pytest

from pit_jax.data import conversations, principles
from pit_jax.feedback import labels, principled
from pit_jax.run import origin
from pit_jax.statistics import principles as aggregation
from pit_jax.tasks import words

BANK = """\
principles:
  concise: {text: It is short., negation: It is long.}
  polite: {text: It is kind., negation: It is rude., weight: 3}
  shown: {text: Steps are shown., negation: None are., weight: 5, classes: [sums]}
classes:
  sums: 'how (many|much)'
"""


@pytest.fixture
def bank(tmp_path):
  path = tmp_path / "bank.yaml"
  path.write_text(BANK)
  return principles.read(str(path))


def names(several):
  return [one.name for one in several]


def test_a_bank_is_read(bank):
  assert names(bank.principles) == ["concise", "polite", "shown"]
  polite = bank.by_name["polite"]
  assert (polite.text, polite.negation, polite.weight) == ("It is kind.", "It is rude.", 3.0)
  assert bank.by_name["concise"].weight == 1.0 and bank.by_name["concise"].classes == ()


@pytest.mark.parametrize(
  ("changed", "said"),
  [
    (("negation: It is long.", "weight: 2"), "line 2: concise has no negation, which every"),
    (("  polite:", "  concise:"), "line 3: concise stands in line 2 already; leave one out"),
    (("weight: 3", "wait: 3"), "line 3: polite.wait is not known; a principle has text, negation"),
    (("weight: 3", "weight: -1"), "line 3: polite.weight=-1; use more than 0, and finite"),
    (("[sums]", "[maths]"), "line 4: shown is for the class 'maths', which nobody has; there ar"),
    (("[sums]", "sums"), "line 4: shown.classes='sums'; use a list of classes"),
    ((", classes: [sums]", ""), "line 6: no principle is for the class sums; leave it out"),
    (("'how (many|much)'", "'how ('"), "line 6: the class sums has to be a regular expression"),
    (("classes:\n", "kinds:\n"), "line 6: kinds.sums is not known; give principles.NAME with"),
    (("concise:", "'con cise':"), "line 2: 'con cise' is no name of a principle"),
    (("text: It is short.", "text: 3"), "line 2: concise.text=3; use a text that is not blank"),
  ],
)  # fmt: skip
def test_what_is_wrong_with_a_bank_is_said_with_its_line(tmp_path, changed, said):
  path = tmp_path / "bank.yaml"
  assert changed[0] in BANK
  path.write_text(BANK.replace(*changed))
  with pytest.raises(ValueError) as error:
    principles.read(str(path))
  assert said in str(error.value) and str(path) in str(error.value)
  assert "\n" not in str(error.value)


def test_files_that_are_no_bank_are_refused(tmp_path):
  path = tmp_path / "bank.yaml"
  with pytest.raises(ValueError, match="there is no file of principles"):
    principles.read(str(path))
  path.write_text("classes: {a: b}\n")
  with pytest.raises(ValueError, match="holds no principle"):
    principles.read(str(path))


@pytest.mark.parametrize(
  ("template", "said"),
  [("{prompt}", "each once"), ("{principles} {prompt} {more}", "slot"), ("{", "slot"),
   ("{prompt} {principles} {prompt}", "each once")],
)  # fmt: skip
def test_a_form_shows_prompt_and_principles_once(template, said):
  with pytest.raises(ValueError, match=said):
    principles.check_template(template)


def test_the_shipped_banks_are_banks_and_that_of_the_task_says_what_its_base_knows():
  told = principles.read(str(origin.BANKS["embedded"]))
  said = {one.name: (one.text, one.negation) for one in told.principles}
  assert said == words.PRINCIPLES and not told.classes
  shown = told.show("x", told.chosen("tone,not:closing"))
  assert shown == f"{words.principles(['Nobody grumbles.', 'The closing is cold.'])}\nx"
  brief = principles.read(str(origin.BANKS["embedded_brief"]))
  assert {one.name: (one.text, one.negation) for one in brief.principles} == words.BRIEF
  chat = principles.read(str(origin.BANKS["chat"]))
  fitting = names(chat.fitting("How many are there?"))
  assert "reasoned" in fitting and "careful" not in fitting


def test_principles_are_shown_in_the_last_turn_in_either_order(bank):
  shown = bank.chosen(["polite", "not:concise"])
  assert bank.show("  why? ", shown) == "Principles: It is kind. It is long.\nwhy?"
  assert bank.show("why?", ()) == "why?"
  turns = tuple(conversations.Turn(*turn) for turn in
                [("user", "a"), ("assistant", "b"), ("user", "c")])  # fmt: skip
  told = principles.Bank(bank.principles, bank.classes, "{prompt}\n- {principles}", "\n- ")
  *earlier, last = told.show(turns, shown)
  assert tuple(earlier) == turns[:2]
  assert last == conversations.Turn("user", "c\n- It is kind.\n- It is long.")
  assert told.show("{a} {b}", shown).startswith("{a} {b}\n")  # braces of a prompt are its own


@pytest.mark.parametrize(
  ("form", "prompt", "response"),
  [
    ("{response}", "Principles: It is rude.\nwhy?", "so."),
    ("{response}\nPrinciples: {principles}", "why?", "so.\nPrinciples: It is rude."),
    ("{response}\nQ: {prompt}\n{principles}", "", "so.\nQ: why?\nIt is rude."),
  ],
)
def test_a_reward_model_reads_response_prompt_and_principles_in_the_order_of_the_form(
  bank, form, prompt, response
):
  told = dataclasses.replace(bank, response=form)
  assert told.read("why?", "so.", bank.chosen("not:polite")) == (prompt, response)
  pairs = [labels.Pair("why?", "so.", "no.", ("me", "you"))]
  rows = [{"output_1": "no.", "output_2": "so.", "preference": 2, "principles": ["not:polite"],
           "pair": 0, "written_by": ["you", "me"]}]  # fmt: skip
  (row,) = principled.preferences(rows, pairs, told)
  other = response.replace("so.", "no.")
  assert (row.prompt, row.chosen, row.rejected) == (prompt, response, other)
  assert row.writers == ("me", "you") and row.position == 2
  (row,) = principled.preferences(rows, pairs, told, is_read=False)
  assert (row.prompt, row.chosen) == ("Principles: It is rude.\nwhy?", "so.")


@pytest.mark.parametrize("form", ["{prompt}", "{response} {prompt}", "{response}{response}", "{a}"])
def test_a_form_shows_a_response_once(form):
  with pytest.raises(ValueError, match="; use {response}"):
    principles.check_response(form)


@pytest.mark.parametrize(
  ("listed", "said"),
  [("funny", "there is no principle 'funny'; use some of concise, polite, shown, or not:"),
   ("concise,not:concise", "'concise' is named twice"), ("", "there is no principle ''")],
)  # fmt: skip
def test_lists_name_principles_of_the_bank_once(bank, listed, said):
  with pytest.raises(ValueError) as error:
    bank.chosen(listed)
  assert said in str(error.value)


def test_principles_of_a_class_are_drawn_for_its_prompts_alone_and_by_weight(bank):
  rng = random.Random(0)
  first = [bank.draw(rng, "how many?", 1)[0].name for _ in range(3000)]
  shares = [first.count(name) / 3000 for name in ("concise", "polite", "shown")]
  np.testing.assert_allclose(shares, [1 / 9, 3 / 9, 5 / 9], atol=0.03)
  assert {*names(bank.draw(rng, "who?", 9))} == {"concise", "polite"}


def test_a_bank_is_restored_from_what_describes_it(bank):
  assert principles.restored(json.loads(json.dumps(bank.described()))) == bank
  with pytest.raises(ValueError, match="damaged"):
    principles.restored({"principles": [{"name": "a"}]})


# Labels

# Two pairs, three principles, both orders; worked below by hand.
ORDERS = np.array([
  [[1.0, 3.0], [0.2, 0.2], [5.0, 5.0]],
  [[-1.0, 1.0], [-0.2, -0.6], [5.0, 5.0]],
])  # fmt: skip


def test_scores_are_means_of_both_orders_over_the_variance_of_the_principle():
  # Principle 1: scores 1, 3, −1, 1 have mean 1 and variance 2; principle 2: .2, .2, −.2, −.6 have
  # mean −.1 and variance .11; principle 3 tells nothing apart.
  expected = [[2.0 / 2, 0.2 / 0.11, 0.0], [0.0 / 2, -0.4 / 0.11, 0.0]]
  np.testing.assert_allclose(aggregation.standardised(ORDERS), expected)


def test_what_the_judge_did_not_say_counts_nowhere():
  orders = np.concatenate([ORDERS, np.full((1, 3, 2), np.nan)])
  scores = aggregation.standardised(orders)
  np.testing.assert_allclose(scores[:2], aggregation.standardised(ORDERS))
  shown = np.ones((3, 3), bool)
  assert aggregation.dominant(scores, shown, ~shown)[1][2] == 0.0


@pytest.mark.parametrize(
  ("shown", "negated", "place", "value"),
  [
    ([1, 0, 0, 0], [0, 0, 0, 0], 0, 1.0),
    ([1, 1, 0, 0], [0, 0, 0, 0], 1, -2.0),  # the larger of the two, by size
    ([1, 1, 0, 0], [0, 1, 0, 0], 1, 2.0),
    ([1, 0, 1, 0], [1, 0, 1, 0], 0, -1.0),
    ([0, 0, 0, 1], [0, 0, 0, 1], 0, 0.0),
    ([0, 0, 1, 0], [0, 0, 1, 0], 0, 0.0),
  ],
)
def test_the_surest_principle_shown_decides(shown, negated, place, value):
  scores = np.array([[1.0, -2.0, 0.0, np.nan]])
  told = aggregation.dominant(scores, np.array([shown], bool), np.array([negated], bool))
  assert told[1][0] == value and (not value or told[0][0] == place)


def test_rows_follow_the_rule_slowly_written_out(bank):
  rng = np.random.default_rng(1)
  pairs = [labels.Pair(f"how many {i}?", f"a{i}", f"b{i}", ("one", "two")) for i in range(400)]
  scores = rng.normal(size=(400, 3))
  drawing = principled.Drawing(passes=3)
  made = [*principled.rows(pairs, scores, bank, drawing, seed=5, labelled_by="me")]
  assert made == [*principled.rows(pairs, scores, bank, drawing, seed=5, labelled_by="me")]
  assert len(made) == 1200 and [row["pair"] for row in made] == 3 * [*range(400)]
  places = {"concise": 0, "polite": 1, "shown": 2}

  for row in made:
    pair = pairs[row["pair"]]
    first_is_a = row["output_1"] == pair.a
    assert {row["output_1"], row["output_2"]} == {pair.a, pair.b}
    assert row["written_by"] == (["one", "two"] if first_is_a else ["two", "one"])
    best = (0.0, "")
    for name, told in zip(row["principles"], row["scores"], strict=True):
      score = scores[row["pair"], places[name.removeprefix("not:")]]
      score = (score if first_is_a else -score) * (-1 if name.startswith("not:") else 1)
      assert told == score
      best = max(best, (abs(score), name, score))
    if not best[0]:
      assert row["preference"] is None and row["decided_by"] is None
      continue
    assert row["decided_by"] == best[1].removeprefix("not:")
    assert row["preference"] == (1 if (best[2] > 0) != row["is_flipped"] else 2)

  preferred = [(row["preference"] == 1) for row in made]
  swapped = [row["output_1"].startswith("b") for row in made]
  negated = [name.startswith("not:") for row in made for name in row["principles"]]
  flipped = [row["is_flipped"] for row in made]
  for share, expected in ((preferred, 0.5), (swapped, 0.5), (negated, 0.5), (flipped, 0.1)):
    assert abs(np.mean(share) - expected) < 4 * np.sqrt(0.25 / len(share))
  # Geometric(.2) within 1 … 3: .2, .16, .128 of .488.
  counts = [len(row["principles"]) for row in made]
  shares = [counts.count(k) / len(counts) for k in (1, 2, 3)]
  np.testing.assert_allclose(shares, np.array([0.2, 0.16, 0.128]) / 0.488, atol=0.05)


def test_rows_of_score_0_are_left_out_and_prompts_show_what_labelled(bank):
  pairs = [labels.Pair("q", "a", "b"), labels.Pair("r", "c", "d")]
  scores = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0]])
  drawing = principled.Drawing(passes=2, flip=0.0)
  made = [*principled.rows(pairs, scores, bank, drawing, seed=0, labelled_by="me")]
  assert principled.counts(made) == {"kept": 2, "score 0": 2}
  trained = principled.preferences(made, pairs, bank)
  assert len(trained) == 2
  for row, one in zip([made[1], made[3]], trained, strict=True):
    assert one.prompt == bank.show("r", bank.chosen(row["principles"]))
    assert one.chosen == row[f"output_{row['preference']}"] and one.position == row["preference"]


@pytest.mark.parametrize("size", [1, 3])
def test_no_row_shows_more_principles_than_there_are(bank, size):
  few = principles.Bank(bank.principles[:size], bank.classes)
  pairs = [labels.Pair("how many?", "a", "b")] * 200
  drawing = principled.Drawing(stop=0.01)
  made = principled.rows(pairs, np.ones((200, size)), few, drawing, seed=0, labelled_by="me")
  counts = {len(row["principles"]) for row in made}
  assert counts == {*range(1, size + 1)}


def test_no_row_shows_more_than_eight():
  many = tuple(principles.Principle(f"p{i}", f"P{i}.", f"N{i}.") for i in range(12))
  pairs = [labels.Pair("q", "a", "b")] * 300
  bank = principles.Bank(many, {})
  drawing = principled.Drawing(stop=0.05)
  made = principled.rows(pairs, np.ones((300, 12)), bank, drawing, seed=0, labelled_by="me")
  assert {len(row["principles"]) for row in made} == {*range(1, 9)}
