"""Instructions in plain English: prompts, what a program makes of answers, rows of a chat model."""

import json
import math
import random

import chat_teacher
import numpy as np
import pytest
import tiny_run

from pit_jax.data import sources
from pit_jax.recipes import own_pairs
from pit_jax.tasks import constraints, instructions

PROMPTS = instructions.prompts(3_200, 0)
TEXT = "Bread takes patience. Bread is good, very good! Ask 2 friends about bread. You will see."
PROMPT = (
  "Explain baking bread at home to a child. Use exactly three sentences. Use no commas. "
  'Say the name "Lena" exactly twice.'
)


def test_prompts_are_distinct_and_hold_up_to_four_constraints_of_every_kind():
  assert len({*PROMPTS}) == 3_200
  read = [instructions.parse(prompt).constraints for prompt in PROMPTS]
  assert {len(found) for found in read} == {1, 2, 3, 4}
  assert {one.name for found in read for one in found} == {*constraints.KINDS}
  assert PROMPTS[:7] == instructions.prompts(7, 0) != instructions.prompts(7, 1)
  assert {instructions.parse(prompt).topic for prompt in PROMPTS} == {*instructions.TOPICS}


def test_constraints_of_one_prompt_decide_different_things():
  for prompt in PROMPTS:
    decided = [part for one in instructions.parse(prompt).constraints for part in one.kind.decides]
    assert len(decided) == len({*decided}), prompt


def test_every_pair_of_kinds_that_stand_together_can_be_met_together():
  """By some text that is made by rule and mended: else no answer could have all the gold."""
  seen, met = set(), set()
  for seed in range(4):
    for row in instructions.preferences(700, seed):
      passed = instructions.checks(row["prompt"], row["chosen"])
      names = sorted(passed)
      pairs = {(a, b) for a in names for b in names if a < b}
      seen |= pairs
      met |= {(a, b) for a, b in pairs if passed[a] and passed[b]}
  assert len(seen) > 100
  assert len(seen - met) <= 0.02 * len(seen), sorted(seen - met)


def test_gold_is_the_weighted_share_of_constraints_and_readability():
  """By hand: of weights 2, 1 and 2 none is met; all three parts of readability are there."""
  assert instructions.checks(PROMPT, TEXT) == {
    "sentences": False,
    "no commas": False,
    "name": False,
  }
  parts = instructions.readability(PROMPT, TEXT)
  assert parts["length"] == parts["topic"] == 1.0 and parts["variety"] == 1.0
  assert instructions.gold(PROMPT, TEXT) == pytest.approx(2.0)
  plain = TEXT.replace(",", "")
  assert instructions.met(PROMPT, plain) == pytest.approx(1 / 5)
  assert instructions.gold(PROMPT, plain) == pytest.approx(8 / 5 + 2)
  best = "Lena bakes bread. Flour and water rest for a day. Then it rises Lena."
  assert instructions.golds([PROMPT], [best]) == [10.0]
  assert instructions.gold(PROMPT, "") == 0.0  # an empty answer meets nothing
  assert instructions.readable([PROMPT, PROMPT], [best, ""]) == [1.0, 0.0]


def test_readability_falls_with_repetition_length_and_another_topic():
  again = "Bread is good for you. " * 12
  parts = instructions.readability(PROMPT, again)
  phrases = [tuple(again.lower().replace(".", "").split()[i : i + 3]) for i in range(58)]
  assert parts["variety"] == pytest.approx(len({*phrases}) / 58) and parts["variety"] < 0.2
  assert instructions.readability(PROMPT, "Bread.")["length"] == 1 / 8
  assert instructions.readability(PROMPT, "bread " * 300)["length"] == 0.5
  assert instructions.readability(PROMPT, "Swim every day with a friend.")["topic"] == 0.0


def test_what_is_no_instruction_is_refused():
  for text, why in (("Describe tea.", "no instruction"), ("Tell a friend about tea.", "without")):
    with pytest.raises(ValueError, match=why):
      instructions.parse(text)
  with pytest.raises(ValueError, match="1 prompt or more"):
    instructions.prompts(0, 0)


def test_mended_texts_have_more_gold_and_rows_are_their_pairs():
  rows = instructions.preferences(200, 3)
  assert rows[:5] == instructions.preferences(5, 3)
  assert [fields for _, fields, *_ in sources.read("instructions", 5, 3)] == rows[:5]
  for row in rows:
    golds = [instructions.gold(row["prompt"], row[side]) for side in ("chosen", "rejected")]
    assert golds[0] > golds[1]
    rng = random.Random(1)
    once = instructions.mended(row["prompt"], row["rejected"], rng)
    assert instructions.gold(row["prompt"], once) > golds[1]


def test_labels_follow_the_difference_of_gold_by_the_logistic_law():
  prompt = "Describe fishing from a pier for a newcomer. Use no commas."
  texts = [
    "Bring a rod, and tea, to the pier today with you.",
    "Bring a rod and tea to the pier today.",
  ]
  ahead = instructions.gold(prompt, texts[1]) - instructions.gold(prompt, texts[0])
  rng = random.Random(0)
  for noise in (4.0, 20.0):
    made = [instructions.preference(prompt, texts, noise, rng) for _ in range(4_000)]
    share = np.mean([row["chosen"] == texts[1] for row in made])
    expected = 1 / (1 + math.exp(-ahead / noise))
    assert share == pytest.approx(expected, abs=4 * math.sqrt(0.25 / 4_000))
  assert instructions.preference(prompt, [texts[0], f" {texts[0]} ", ""], 1.0, rng) is None


# Rows of a chat model


@pytest.fixture(params=["tiny", pytest.param("smollm2", marks=pytest.mark.slow)])
def model(request, tmp_path):
  """The directory of a chat model."""
  return chat_teacher.model(request.param, tmp_path)


def test_a_chat_models_answers_become_rows_and_are_asked_for_once(model, tmp_path, monkeypatch):
  made = {
    "model__base": str(model),
    "model__lora__rank": 0,
    "data__max_prompt_length": 192,
    "data__rows": 12,
    "data__held_out": 0.5,
  }
  config = tiny_run.config("own_pairs", "smollm2_135m_smoke", **made)
  own_pairs.run(config, tmp_path / "run")
  lines = (tmp_path / "run" / own_pairs.ROWS).read_text()
  rows = [json.loads(line) for line in lines.splitlines()]
  record = json.loads((tmp_path / "run" / own_pairs.RECORD).read_text())
  assert record["rows"] == len(rows) <= record["prompts"] == 12
  answers = {}
  for temperature in (0.7, 1.0):
    path = tmp_path / "run" / "rows" / f"answers_{temperature}.jsonl"
    for row in map(json.loads, path.read_text().splitlines()):
      answers.setdefault(row["prompt"], []).append(row["response"].strip())
  for row in rows:
    mended = [
      instructions.mended(row["prompt"], text, random.Random(seed))
      for text in answers[row["prompt"]] for seed in range(20)
    ]  # fmt: skip
    assert {row["chosen"], row["rejected"]} <= {*answers[row["prompt"]], *map(str.strip, mended)}
  assert 0 <= record["fails"] <= 1 and set(record["gold"]) == {"0.7", "1.0"}

  # The same again, from the answers that are there.
  (tmp_path / "run" / own_pairs.ROWS).unlink()
  monkeypatch.setattr(own_pairs, "_asked", lambda *_: pytest.fail("the model was asked again"))
  own_pairs.run(config, tmp_path / "run")
  assert (tmp_path / "run" / own_pairs.ROWS).read_text() == lines


@pytest.mark.parametrize(
  "changes, said",
  [
    ({"data__source": "synthetic"}, "the prompts are those of 'instructions'"),
    ({"own_pairs__temperatures": (1.0, 1.0)}, "has one twice"),
  ],
)
def test_values_that_do_not_go_together_are_refused(changes, said):
  config = tiny_run.config("own_pairs", "smollm2_135m_smoke", **changes)
  assert said in " ".join(own_pairs.problems(config))
