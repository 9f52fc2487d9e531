"""The ledger on models whose answers are known, and on a finished run."""

import collections
import dataclasses
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scripted

from pit_jax.data import encode
from pit_jax.evaluate import subject as subjects
from pit_jax.feedback import judges
from pit_jax.recipes.pit import ledger, subject

# Question → gold's score of versions 0 … 3. R_PIT and R_P follow the question itself.
GOLD = {
  "5 6 7 8": (5, 7, 6, 8),  # all are kept; the second is worse than the first
  "5 6 4 9": (5, 3, 4, 9),  # one is kept, and is worse
  "5 4 9 9": (5, 9, 9, 9),  # none is kept
  "1 2 3 4": (4, 5, 6, 4),  # all are kept, for nothing
  "1 2 2 2": (1, 2, 2, 2),  # one is kept, and is better
}


def make_lines():
  suite = scripted.make_suite(list(GOLD))
  gold = judges._pointwise(
    "gold",
    lambda questions, texts: np.array(
      [GOLD[question][scripted.version(text)] for question, text in zip(questions, texts)], float
    ),
    1e-9,
  )
  suite = dataclasses.replace(suite, judges=[gold, *suite.judges])
  made = suite.rounds(["version 0"] * len(GOLD), 3, 200)
  rows = [types.SimpleNamespace(chosen=f"c {x}", rejected=f"r {x}") for x in GOLD]
  return ledger.entries(suite, made, rows, np.arange(3.0 * len(GOLD)).reshape(3, -1))


def test_regressions_come_first_and_say_after_which_round():
  lines = make_lines()
  said = [(line["prompt"], line["outcome"], line["worse_after"], line["finding"]) for line in lines]
  assert said == [
    ("5 6 4 9", "worse", [1], "worse after round 1"),
    ("1 2 3 4", "unchanged", [3], "worse after round 3, as good as the draft in the end"),
    ("5 6 7 8", "improved", [2], "worse after round 2, better than the draft in the end"),
    ("5 4 9 9", "unchanged", [], "as good as the draft"),
    ("1 2 2 2", "improved", [], "better than the draft"),
  ]
  assert [line["change"] for line in lines] == [-2, 0, 3, 0, 1]
  assert [(line["kept"], line["stopped"]) for line in lines] == [
    (1, 2), (3, None), (3, None), (0, 1), (1, 2),
  ]  # fmt: skip


def test_several_rounds_are_listed():
  found = ledger._judged(np.array([9.0, 8, 7, 7, 6]), 4, 0.0)
  assert found["finding"] == "worse after rounds 1, 2 and 4"
  # A fall that no single round is to blame for.
  slow = ledger._judged(np.array([1.0, 0.7, 0.4]), 2, 0.5)
  assert (slow["worse_after"], slow["finding"]) == ([], "worse than the draft")


def test_a_line_has_all_that_is_known_of_every_version():
  line = make_lines()[0]  # "5 6 4 9", the second question
  assert (line["chosen"], line["rejected"], line["judge"]) == ("c 5 6 4 9", "r 5 6 4 9", "gold")
  draft, first, second, third = line["rounds"]
  assert draft == {
    "k": 0, "text": "version 0", "tokens": 2, "scores": {"gold": 5.0, "R_P": 5.0},
  }  # fmt: skip
  assert first == {
    "k": 1, "text": "version 1 at 1.0", "tokens": 4, "scores": {"gold": 3.0, "R_P": 6.0},
    "gap": 1.0, "gap_to_draft": 1.0, "kl": 1.0, "is_kept": True,
    "verdicts": {"gold": "lose", "R_P": "win"},
  }  # fmt: skip
  assert (second["gap"], second["gap_to_draft"], second["kl"]) == (-2.0, -1.0, 6.0)
  assert (third["gap"], third["gap_to_draft"], third["is_kept"]) == (5.0, 4.0, False)
  assert third["verdicts"] == {"gold": "win", "R_P": "win"}


def test_a_judge_that_only_compares_has_a_verdict_on_the_first_round_of_its_prompts():
  suite = scripted.make_suite(list(GOLD))
  made = suite.rounds(["version 0"] * len(GOLD), 2, 200)
  asked = []

  def verdicts(questions, a, b):
    asked.append((list(questions), list(a), list(b)))
    return judges.Verdicts(np.array([1.0, np.nan]), failures={1: "refused"})

  model = judges.Judge("language_model", verdicts, None, 0.5, prompts=2)
  found = ledger._verdicts(suite, model, made)
  assert found == [["win", "failed"]]
  assert asked == [(list(GOLD)[:2], ["version 1 at 1.0"] * 2, ["version 0"] * 2)]


def test_summary_counts_what_rounds_did_to_those_that_kept_them():
  found = ledger.summary(make_lines())
  assert (found["worse"], found["unchanged"], found["improved"]) == (1, 2, 2)
  assert (found["regressions"], found["prompts"]) == (3, 5)
  first, second, third = found["rounds"]
  assert [first[name] for name in ("kept", "win", "tie", "lose")] == [4, 3, 0, 1]
  assert [second[name] for name in ("kept", "win", "tie", "lose")] == [2, 1, 0, 1]
  assert [third[name] for name in ("kept", "win", "tie", "lose")] == [2, 1, 0, 1]
  assert second["gap"] == 1.0 and second["kl"] == np.mean([5, 8])


def of_kind(outcome, worse_after=(), text="x"):
  return {
    "outcome": outcome, "worse_after": list(worse_after), "prompt": "p", "rounds": [{"text": text}]
  }  # fmt: skip


def test_the_page_has_equal_shares_of_every_kind(monkeypatch):
  monkeypatch.setattr(ledger, "SHOWN", 7)
  lines = [of_kind("worse", [1])] * 2 + [of_kind("improved", [2])]
  lines += [of_kind("unchanged")] + [of_kind("improved")] * 9
  numbered = [{**line, "place": place} for place, line in enumerate(lines)]
  chosen = ledger.choose(numbered)
  assert [line["place"] for line in chosen] == [0, 1, 2, 3, 4, 5, 6]
  kinds = collections.Counter(line["outcome"] for line in ledger.choose(numbered[2:] * 3))
  assert kinds == {"improved": 3 + 2, "unchanged": 2}, "three of them regressions"


def test_long_answers_leave_room_for_fewer(monkeypatch):
  monkeypatch.setattr(ledger, "CHARACTERS", 100)
  lines = [of_kind("improved", text="y" * 39)] * 5
  assert len(ledger.choose(lines)) == 2
  assert len(ledger.choose([of_kind("improved", text="y" * 500)])) == 1, "one is always shown"


@pytest.mark.slow
def test_kl_is_the_log_ratio_of_every_token(finished_run):
  run = subject.of_run(finished_run.context, finished_run.models)
  found = ledger.log_ratios(run.suite, run.made, run.chain.improver_sft.params)
  assert found.shape == run.made.gaps.shape
  for k, i in ((0, 0), (1, 3), (1, 7)):
    expected = [
      slow_likelihood(run, params, k, i)
      for params in (run.chain.improver.params, run.chain.improver_sft.params)
    ]
    assert found[k, i] == pytest.approx(expected[0] - expected[1], abs=2e-4)


def slow_likelihood(run, params, k, i):
  """Log-probability of version k + 1 given version k, one row without padding, in float64."""
  ask = run.suite.improver.inference
  settings, question = ask.settings, run.suite.questions[i]
  draft, version = run.made.texts[k][i], run.made.texts[k + 1][i]
  prompt = encode.prompts(
    settings.formats["improver"].conversations([question], [draft]), settings
  )[:]
  before = np.asarray(prompt.tokens)[np.asarray(prompt.mask)].tolist()
  limit = ask.response_length
  after = settings.template.encode_responses(settings.tokenizer, [version], limit).ids[0]
  tokens = jnp.array([[*before, *after]])
  logits = ask.language.apply(params, tokens, jnp.ones_like(tokens, bool))[0]
  logits = np.asarray(jax.device_get(logits), np.float64)
  logprobs = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
  return sum(logprobs[len(before) + t - 1, token] for t, token in enumerate(after))


@pytest.mark.slow
def test_a_run_leaves_a_ledger_of_all_its_prompts(finished_run):
  report = finished_run.workdir / "report"
  lines = [json.loads(line) for line in (report / "ledger.jsonl").read_text().splitlines()]
  results = json.loads((report / "results.json").read_text())
  asked = subjects.held_out(finished_run.context)
  assert sorted(line["prompt"] for line in lines) == sorted(row.prompt for row in asked)
  assert results["ledger"]["prompts"] == len(lines) and "lines" not in results
  regressions = [bool(line["worse_after"]) or line["outcome"] == "worse" for line in lines]
  assert regressions == sorted(regressions, reverse=True)
  assert results["samples"] == [line for line in lines if line in results["samples"]]
  assert {line["judge"] for line in lines} == {"gold"}
