"""Other rewards of the improver than R_PIT, and what the report says of each."""

import dataclasses

import jax
import numpy as np
import pytest
import scripted
import tiny_run

from pit_jax.data import encode
from pit_jax.feedback import judges
from pit_jax.recipes.pit import ablation, curriculum, gap_rewards
from pit_jax.stages import supervised, trained
from pit_jax.statistics import metrics


@pytest.fixture(scope="module")
def difference(finished_run):
  return finished_run.models.gap_rewards["pit_rp_difference"]


def test_the_difference_is_that_of_two_rewards(finished_run, difference):
  context, model = finished_run.context, finished_run.models.policy.reward
  rows = context.rows.folds["rl"][:6]
  questions = [row.prompt for row in rows] * 2
  references = [row.rejected for row in rows] + [row.chosen for row in rows]
  chosen = np.array([7, 0, 11, 3, 3, 6, 10, 1])
  answers = [f"Hi, it is {i}." for i in range(len(chosen))]
  responses = context.models.inference.responses(answers)
  found = difference.signal(questions, references)(chosen, None, responses)
  one_by_one = [
    context.models.inference.rate(model.params, [questions[i]], [text])[0]
    for texts in (answers, [references[i] for i in chosen])
    for i, text in zip(chosen, texts, strict=True)
  ]
  better, worse = np.array(one_by_one).reshape(2, -1)
  expected = difference.facts["gain"] * (better - worse)
  np.testing.assert_allclose(found - difference.facts["shift"], expected, atol=1e-4)
  in_words = ([questions[i] for i in chosen], answers, [references[i] for i in chosen])
  np.testing.assert_allclose(difference.gaps(*in_words), expected, atol=1e-4)


def test_rl_is_given_the_reference_that_the_prompt_shows(finished_run, difference, monkeypatch):
  context, seen = finished_run.context, []
  drafts = [f"Draft {i}." for i in range(len(context.rows.folds["rl"]))]

  def record(context, name, prompts, rewards, *, start, **_):
    rows = np.array([0, 5, len(prompts) - 1])
    responses = context.models.inference.responses(["Hi."] * 3)
    given = (prompts.contents.index[rows], prompts[rows], responses)
    ((weight, reward_fn),) = rewards.values()
    assert weight == 1.0
    seen.append(np.asarray(reward_fn(*given)))
    return start

  monkeypatch.setattr(curriculum.rl, "run", record)
  stages = tiny_run.config().curriculum
  sft = finished_run.models.improver_sft.params
  references = tiny_run.references(drafts)
  given = {"improver_sft": sft, "gap_reward": difference, "from_policy": references}
  fold, job = context.rows.fold("rl"), context.config.rl
  curriculum.run(context, "other", fold, stages, job=job, **given)
  rows = context.rows.folds["rl"]
  for stage, rewards in zip(stages, seen, strict=True):
    texts = [draft for source in stage.references for draft in _references(source, rows, drafts)]
    shown = [texts[i] for i in (0, 5, len(texts) - 1)]
    questions = [rows[i % len(rows)].prompt for i in (0, 5, len(texts) - 1)]
    expected = difference.gaps(questions, ["Hi."] * 3, shown)
    np.testing.assert_allclose(rewards - difference.facts["shift"], expected, atol=1e-4)


def _references(source, rows, drafts):
  return drafts if source == "policy" else [getattr(row, source.split(".")[1]) for row in rows]


def test_the_difference_has_mean_0_and_deviation_1_on_samples(finished_run, copied, sampled):
  path = copied.workdir / "calibration" / "rp_difference.json"
  known = path.read_bytes()
  path.unlink()
  models, rows = finished_run.models, copied.rows.folds["reward_validation"]
  made = gap_rewards.difference(copied, rows, models.policy.reward, models.improver_sft.params)
  ((_, responses),) = sampled
  questions, rejected = [row.prompt for row in rows], [row.rejected for row in rows]
  scores = made.gaps(questions, copied.models.inference.words(responses), rejected)
  assert scores.mean() + made.facts["shift"] == pytest.approx(0, abs=1e-3)
  assert scores.std() == pytest.approx(1, abs=1e-3)
  assert path.read_bytes() == known, "the same samples give the same file"
  again = gap_rewards.difference(copied, rows, models.policy.reward, models.improver_sft.params)
  assert len(sampled) == 1 and again.facts == made.facts
  identical = made.gaps(questions, rejected, rejected)
  np.testing.assert_array_equal(identical, 0)
  assert made.facts["zero_point"] == 0 and made.unchanged == made.facts["shift"]


def test_one_term_is_trained_in_a_stage_of_its_own(finished_run, tmp_path, monkeypatch):
  context, models, given = finished_run.context, finished_run.models, []

  def record(context, name, model, objective, params, table, job, *, frozen=None, **_):
    given.append((name, params["trunk"], np.asarray(frozen["term_weights"]).tolist()))
    return trained.Trained(params, {"steps": 1, "step": 1})

  monkeypatch.setattr(supervised, "run", record)
  start = models.policy.reward.params
  fresh = dataclasses.replace(context, workdir=tmp_path)
  asked = {"start": start, "sampler": models.improver_sft.params, "job": fresh.config.gap_reward}
  gap_rewards.single_term(fresh, fresh.rows.fold("reward"), **asked)
  tiny_run.compare(fresh, start, models.improver_sft.params)
  (single, trunk, weights), (five, other, plain) = given
  assert (single, weights) == ("gap_reward_single_term", [0, 0, 1, 0, 0])
  assert (five, plain) == ("gap_reward", [1] * 5)
  assert jax.tree.all(jax.tree.map(np.array_equal, trunk, other))
  files = {path.name for path in (tmp_path / "calibration").iterdir()}
  assert files == {"gap_reward_single_term.json", "gap_reward.json"}


def test_the_first_value_model_is_that_of_the_rewards_kind(finished_run):
  models = finished_run.models
  rewards = models.gap_rewards
  for name, model in (("pit", models.gap_reward), ("pit_rp_difference", models.policy.reward)):
    value, params = rewards[name].value, model.params
    assert value["trunk"] is params["trunk"] and value["head"] is params["head"]
    assert value["bias"] == pytest.approx(model.facts["shift"])


QUESTIONS = ["5 6 7 8", "5 6 4 9", "5 4 9 9", "5 5 6 7"]


def scripted_reward(gaps, zero_point):
  four = {"wl": [2.0, 0.5, 1.0], "ww": [1.0, 0.0, 1.5], "ll": [0.5, 1.0, 1.0], "lw": [0, 0.2, -1.0]}
  facts = {"accuracy": 1.0, "order": 1 / 3, "ece": 0.1, "zero_point": zero_point, "gaps": four}
  return gap_rewards.GapReward(facts, {}, lambda *texts: None, gaps)


def gain(questions, answers, references):
  """Returns by how much an answer is worth more than its reference."""
  pairs = zip(questions, answers, references, strict=True)
  return np.array([scripted.worth(q, a) - scripted.worth(q, b) for q, a, b in pairs])


def test_another_stop_rule_ends_the_same_rounds_elsewhere():
  suite = scripted.make_suite(QUESTIONS, stop_rule="zero_point")
  made = suite.rounds(["version 0"] * 4, 3, 200)
  assert made.kept.tolist() == [3, 1, 0, 0]
  same = ablation.stop(suite, scripted_reward(lambda *x: gain(*x) + 0.25, 0.25), made)
  np.testing.assert_array_equal(same.kept, made.kept)
  np.testing.assert_allclose(same.gaps, made.gaps)
  strict = ablation.stop(suite, scripted_reward(gain, 1.0), made)
  lax = ablation.stop(suite, scripted_reward(gain, -1.5), made)
  worth = np.array([[float(v) for v in question.split()] for question in QUESTIONS])
  for ruled, least in ((strict, 1.0), (lax, -1.5)):
    kept = []
    for row in worth:  # the slow way: round by round, until one gains too little
      k = 0
      while k < 3 and row[k + 1] - row[k] > least:
        k += 1
      kept.append(k)
    assert ruled.kept.tolist() == kept
    assert ruled.texts == made.texts
  assert strict.kept.tolist() != lax.kept.tolist()
  both = dataclasses.replace(suite, improver=scripted.make_suite(QUESTIONS).improver)
  biased = ablation.stop(both, scripted_reward(lambda *x: gain(*x) + 9.0, 0.25), made)
  assert biased.kept.tolist() == [3, 1, 0, 0], "in both orders no zero is needed"


def test_what_is_said_of_a_gap_reward():
  suite = scripted.make_suite(QUESTIONS, stop_rule="zero_point")
  gold = judges._pointwise(
    "gold", lambda questions, texts: np.array([len(text) for text in texts], float), 1e-9
  )
  suite = dataclasses.replace(suite, judges=[gold, *suite.judges])
  made = suite.rounds(["version 0"] * 4, 3, 200)
  mine = ["version 1", "version 1 x", "version 1", "version 1"]
  row = ablation.describe(suite, scripted_reward(gain, 0.5), made, mine)
  assert row["spread"] == pytest.approx(np.std([1.0, 0.0, 1.5, 0.5, 1.0, 1.0]))
  assert (row["wl"], row["holds"]) == (pytest.approx(3.5 / 3), True)
  # Gold says every "version 1 at 1.0" is better; gaps less the zero point are .5, .5, −1.5, −.5.
  assert row["sign_agreement"] == {"fraction": 0.5, "n": 4}
  assert row["own_sign_agreement"] == {"fraction": 1.0, "n": 1}, "the others tie"
  # Of pit's rounds this rule keeps 3, 1, 0, 0, and gold likes whatever was rewritten.
  kept = ablation.stop(suite, scripted_reward(gain, 0.5), made)
  row = ablation.ruled(suite, ablation.judge_of(suite, "pit_rp_difference"), kept)
  assert (row["k"], row["stopped"], row["win_stop"], row["tie_stop"]) == (3, 0.75, 50, 50)
  alone = dataclasses.replace(suite, judges=suite.judges[1:])
  row = ablation.describe(alone, scripted_reward(gain, 0.5), made, mine)
  assert row["sign_agreement"] is None, "R_P trained what it would judge"
  assert ablation.judge_of(alone, "pit_single_term").name == "R_P"
  assert ablation.judge_of(alone, "pit_rp_difference") is None, "the rule is R_P's own"
  assert ablation.ruled(alone, None, kept) == {"k": 3, "stopped": 0.75}


def test_the_five_terms_facts_are_those_of_the_run(finished_run):
  made = finished_run.models.gap_rewards["pit"]
  gaps = {name: np.array(values) for name, values in made.facts["gaps"].items()}
  found = metrics.gap_order(**gaps)
  assert found["accuracy"] == pytest.approx(made.facts["accuracy"])
  held = finished_run.context.rows.folds["reward_validation"]
  index = encode.gap_preferences(held, finished_run.context.rows.settings).contents.index
  rows = [held[i] for i in index]
  texts = [[getattr(row, name) for row in rows] for name in ("prompt", "chosen", "rejected")]
  np.testing.assert_allclose(made.gaps(*texts), gaps["wl"], atol=1e-3)
