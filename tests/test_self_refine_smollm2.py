"""A real chat model refines its answers to real prompts, and judges what that changed."""

import jax
import numpy as np
import pytest
import smollm2
import tiny_run

from pit_jax import parallel
from pit_jax.data import critiques
from pit_jax.feedback import language_judge
from pit_jax.models import pure
from pit_jax.recipes.pit import cost, rounds, subject, training
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.rollout import inference
from pit_jax.stages import reward, trained

pytestmark = pytest.mark.slow

PROMPTS, ROUNDS = 20, 1


@pytest.fixture(scope="module")
def context(shared_data, tmp_path_factory):
  """A run from SmolLM2 on real dialogues, of which nothing is trained, cut short for two cores."""
  source, model = shared_data / "hh_harmless.jsonl.gz", smollm2.directory()
  if not source.exists():
    pytest.skip(f"{source} is absent")
  judge = {"model": str(model), "base_url": "local", "prompts": PROMPTS}
  judge |= {"max_tokens": 24, "max_prompt_tokens": 320}
  refine = {"max_feedback_tokens": 20, "max_prompt_tokens": 400}
  config = tiny_run.config(
    "pit_hh",
    "smollm2_135m_smoke",
    model__base=str(model),
    model__unroll=False,
    model__lora__rank=0,
    data__source=f"hh:{source}",
    data__rows=240,
    data__max_prompt_length=96,
    data__max_response_length=20,
    inference_batch_size=PROMPTS,
    evaluation__prompts=PROMPTS,
    evaluation__rounds=ROUNDS,
    **{f"evaluation__language_judge__{name}": value for name, value in judge.items()},
    **{f"evaluation__self_refine__{name}": value for name, value in refine.items()},
  )
  return tiny_run.build(config, tmp_path_factory.mktemp("refine") / "run")


@pytest.fixture(scope="module")
def run(context):
  """The run as its experiments see it; R_P has a fresh head, so its scores mean nothing."""
  return opened(context, context.initial_policy())


def opened(context, policy):
  places = parallel.homes(context.models.scalar, context.mesh)
  rewards = pure.complete(context.models.scalar, jax.random.key(0), policy, places)
  scoring = reward.RewardModel(rewards, {"zero_point": 0.0})
  policy = trained.Trained(policy, {})
  chain = training.Models(
    policy_chain.Policy(policy, scoring, policy, None), policy, scoring, policy, {}, {}
  )
  return subject.of_run(context, chain)


def test_smollm2_refines_its_answers_to_twenty_real_prompts(run):
  played, original = run.refined, run.original
  assert run.context.rows.settings.template.kind == "model" and run.absent == {}
  assert len(original) == PROMPTS and played.texts[0] == original
  assert [len(texts) for texts in played.texts] == [PROMPTS] * (ROUNDS + 1)
  for k, outcomes in enumerate(played.outcomes, start=1):
    for i, outcome in enumerate(outcomes):
      is_new = outcome == critiques.REFINED
      assert played.texts[k][i] == (played.written if is_new else played.texts)[k - 1][i]
  (row,) = rounds.refinements(run.suite, played)
  shares = [row[name] for name in ("refined", "unchanged", "stopped", "fallback")]
  assert sum(shares) == pytest.approx(1)
  assert sum(row["kinds"].values()) == round(row["fallback"] * PROMPTS)
  words = run.context.rows.settings.tokenizer
  texts = [
    original,
    *(said for k in range(ROUNDS) for said in (played.feedback[k], played.written[k])),
  ]
  paid = sum(len(words.encode(text or "")) for column in texts for text in column)
  spent = cost.of_refinements(run.suite, played)
  assert spent[-1]["tokens"] == pytest.approx(paid / PROMPTS)
  assert 1 < spent[-1]["samples"] <= 3 and row["feedback_tokens"] > 0


def test_smollm2_judges_what_that_changed_and_is_asked_once(run, monkeypatch):
  texts = {"original": run.original, "self_refine": run.refined.texts[1]}
  (row,) = compare(run, texts)
  assert row["n"] + row["failed"] == len(row["verdicts"]) == PROMPTS
  outcomes = [pair["outcome"] for pair in row["verdicts"]]
  assert outcomes.count("failed") == row["failed"] == sum(row.get("failures", {}).values())
  assert set(row.get("failures", ())) <= language_judge.LASTING
  asked = [pair for pair in row["verdicts"] if pair["reason"] != "the answers are the same"]
  assert all(pair["reason"].count("first: ") == 2 for pair in asked)

  def nobody(*_):
    raise AssertionError("the model was asked again")

  monkeypatch.setattr(inference.Inference, "respond", nobody)
  (again,) = compare(opened(run.context, run.policy.rl.params), texts)
  np.testing.assert_equal(again, row)


def compare(run, texts):
  """Returns how the language model compares Self-Refine's answers with the originals."""
  rows = run.suite.compare("self_refine", "original", texts, without=("R_P", "R_PIT"))
  assert [row["judge"] for row in rows] == [language_judge.NAME]
  return rows
