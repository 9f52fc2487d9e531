"""Recipe `cot`: what is refused, teachers that are files, and what its page claims."""

import json
from unittest import mock

import numpy as np
import pytest
import test_cot
import tiny_run

from pit_jax import configurations
from pit_jax.data import conversations
from pit_jax.recipes import cot
from pit_jax.recipes.cot import arms, page, rationales
from pit_jax.run import checks
from pit_jax.stages import sft
from pit_jax.tasks import chains

HERE = __name__
config = test_cot.config


def test_prompts_of_conversations_end_in_their_last_turn():
  turns = (conversations.Turn("user", "a"), conversations.Turn("assistant", "b"),
           conversations.Turn("user", "c?"))  # fmt: skip
  assert arms.ended(turns, "Why?") == (*turns[:2], conversations.Turn("user", "c? Why?"))
  request = rationales._request("{prompt} It is {answer}", turns, "d.")
  assert request == (*turns[:2], conversations.Turn("user", "c? It is d."))
  assert arms.ended(" c? ", "Why?") == "c? Why?"


def wrong(prompt, answer):
  return False


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"cot__teacher": "who"}, "cot.teacher='who'; use a name of feedback.writers, which has"),
    ({"cot__answers": "who"}, "cot.answers='who'; use a name of feedback.writers"),
    ({"cot__verifier": "right"}, "cot.verifier='right' is of kind function; use a rater of"),
    ({"cot__request": "{question}"}, "cot.request='{question}'; use a text with {prompt}"),
    ({"cot__request": "{prompt"}, "use a text with {prompt}"),
    ({"cot__request": "{prompt:d}"}, "cot.request='{prompt:d}'; use a text with {prompt}"),
    ({"cot__request": "{prompt!z}"}, "cot.request='{prompt!z}'; use a text with {prompt}"),
    ({"cot__short_end": " step by  step: "}, "nothing else tells them apart"),
    ({"cot__cut": 1.0}, "cot.cut=1.0; use a whole number of words, 1 or more, or a share"),
    ({"cot__short_end": "Step by step:"}, "cot.short_end and cot.steps_end are both 'Step by"),
    ({"cot__pairs": 3}, "cot.pairs=3 with cot.samples=4: no rationale is in two pairs; use 2"),
    ({"cot__unseen": "call ("}, "cot.unseen='call (' is no regular expression: "),
    ({"cot__samples": 1}, "cot.samples=1; use 2 or more"),
    ({"cot__weights": ("all",)}, "cot.weights=('all',); use a list of some of cos, linear"),
    ({"reward__fold": "sft"}, "reward.fold='sft': R_P learns from the pairs of dpo.fold='preferen"),
    ({"dpo__token_weights": "cos"}, "cot.weights names the arms that have weights; use 'all'"),
    ({"dpo__loss": "kto"}, "dpo.loss='kto'; use one of sigmoid"),
  ],
)  # fmt: skip
def test_what_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    checks.values(config(**changes), cot.RECIPE)
  assert said in str(error.value)


def test_a_function_that_scores_is_a_judge_of_other_data(tmp_path):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(f"{json.dumps(row)}\n" for row in chains.preferences(3, 0)))
  changes = {"data__source": f"jsonl:{path}"}
  checks.values(config(**changes), cot.RECIPE)
  with pytest.raises(ValueError, match="name a judge as evaluation.reward_model=DIRECTORY"):
    checks.values(config(**changes, evaluation__judges=()), cot.RECIPE)


def test_rationales_that_are_all_wrong_are_told_before_anything_is_trained(tmp_path):
  changed = config().unlock()
  changed.feedback.raters.answer.function = f"{HERE}:wrong"
  changed.lock()
  trained = mock.Mock(side_effect=AssertionError("trained"))
  with mock.patch.object(sft, "run", trained), pytest.raises(ValueError) as error:
    cot.RECIPE.train(tiny_run.build(changed, tmp_path))
  assert "ends with an answer that answer finds right; read rows/rationales.jsonl" in str(
    error.value
  )


def test_a_kind_of_prompts_that_is_all_prompts_is_refused(tmp_path):
  with pytest.raises(ValueError, match="cot.unseen='Phone' is in all prompts of sft"):
    cot.RECIPE.train(tiny_run.build(config(cot__unseen="Phone"), tmp_path))


def test_teacher_and_answers_may_be_files(tmp_path):
  """The teacher's by the prompt alone, where the request says nothing else."""
  rows = chains.preferences(220, 0)
  key = [{"prompt": row["prompt"], "response": f"{chains.parse(row['prompt']).answer()}."}
         for row in rows]  # fmt: skip
  teacher = [{"prompt": row["prompt"], "response": row["chosen"]} for row in rows]
  answers = [{"prompt": row["prompt"], "answer": row["response"]} for row in key]
  files = {"key": key, "teacher": teacher, "right": answers}
  paths = {name: tmp_path / f"{name}.jsonl" for name in files}
  for name, lines in files.items():
    paths[name].write_text("".join(f"{json.dumps(line)}\n" for line in lines))
  changed = config(cot__request="{prompt}").unlock()
  for name in ("key", "teacher"):
    changed.feedback.writers[name] = {"kind": "file", "path": str(paths[name])}
  changed.feedback.raters.answer = {"kind": "verifier", "path": str(paths["right"]), "form": "text"}
  changed.lock()
  context = tiny_run.build(changed, tmp_path / "run")
  taught = rationales.taught(context)
  assert taught.counts["kept"] == taught.counts["asked"] > 30 and taught.counts["sound"] == 1.0
  with test_cot.reasoning():
    found = rationales.sampled(context, {})
  assert found.counts["unknown"] == 0 and found.counts["pairs"] > 20
  assert all(chains.is_right(row.prompt, row.chosen) for row in test_cot.rows_of(found.fold))


def test_of_a_chat_model_the_file_of_answers_is_named_once():
  c = configurations.load("cot:smollm2_135m")
  checks.values(c, cot.RECIPE)
  c.feedback.raters.answer.path = "mine.jsonl"
  assert c.feedback.writers.key.path == c.feedback.raters.right.path == "mine.jsonl"


def test_the_page_says_of_the_unseen_kind_too_how_often_every_call_is_right():
  rows = [
    {"system": "dpo_cut", "mode": mode, "prompts": prompts, "right": right, **sound}
    for mode, prompts, right, sound in (
      ("steps", "seen", 0.5, {"sound": 0.4}),
      ("steps", "unseen", 0.39, {"sound": 0.23}),
      ("direct", "seen", 0.25, {}),
    )
  ]
  table = page.modes({"modes": rows})
  told = dict(zip(table.columns, *table.rows, strict=True))
  assert told["of unseen kind"] == "39.0%" and told["every call right, unseen"] == "23.0%"
  # Where nothing is unseen, or nobody tells calls apart, there is no such column.
  assert "every call right, unseen" not in page.modes({"modes": [rows[0]]}).columns


def row(a, b, delta, ci95, judge="right"):
  counts = {"n": 1800, "win": 50 + delta / 2, "lose": 50 - delta / 2, "tie": 0.0}
  return {"a": a, "b": b, "judge": judge, "delta": delta, "ci95": ci95} | counts


@pytest.mark.parametrize(("data", "random"), [(8.0, 0.0), (-8.0, 25.0)])
def test_claims_are_of_right_answers_and_of_the_controls(data, random):
  rows = [
    row("sft_short_direct", "base_direct", 30.0, (27.0, 33.0)),
    row("sft_short", "base", 0.0, (-2.0, 2.0)),
    row("sft_both", "sft_short", 40.0, (35.0, 45.0)),
    row("dpo", "sft_both", 20.0, (17.0, 23.0)),
    row("dpo", "sft_both", -90.0, (-95.0, -85.0), judge="gold"),
    row("dpo_direct", "sft_both_direct", 0.5, (-3.0, 4.0)),
    row("dpo", "rejection", data, (data - 3, data + 3)),
    row("dpo_random", "sft_both", random, (random - 3, random + 3)),
  ]
  found, remark = page.said({"comparisons": rows, "systems": {}, "recipe": "cot"})
  outcomes = [claim.outcome for claim in found]
  here, opposite, nothing = "for these models", "the opposite for these models", "not shown"
  assert outcomes[:5] == [here, here, here, here, nothing]
  assert outcomes[5:] == ([here, here] if data > 0 else [opposite, opposite])
  assert "corrected" in remark


@pytest.mark.parametrize(("held", "is_enough"), [(0, False), (1, False), (2, True)])
def test_pairs_too_few_to_validate_are_told_before_dpo(held, is_enough, tmp_path):
  context = tiny_run.build(config(cot__pairs=1), tmp_path)
  asked = rationales.prompts(context, context.config.dpo.fold)
  assert len(asked.validation) >= 2 and asked.rows
  # Half of the samples to these prompts are right, and none to others.
  mixed = {row.prompt for row in (*asked.rows[:3], *asked.validation[:held])}
  texts = lambda *given: [[f"{n}" for n in range(given[-1])] for _ in given[-2]]  # noqa: E731
  passes = lambda prompts, texts: np.array(  # noqa: E731
    [float(x in mixed and int(text) % 2) for x, text in zip(prompts, texts, strict=True)]
  )
  with (
    mock.patch.object(rationales, "drawn", texts),
    mock.patch.object(rationales, "passing", lambda _: passes),
  ):
    if is_enough:
      assert len(rationales.sampled(context, {}).fold.validation) == held
      return
    with pytest.raises(ValueError, match="to validate; at least 1 and 2 are needed: use more prom"):
      rationales.sampled(context, {})
