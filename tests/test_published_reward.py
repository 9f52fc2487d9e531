"""A run whose R_P is a published reward model of another family, asked in words."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import published
import pytest
import test_stages
import tiny
import tiny_run
import transformers

from pit_jax.commands import improve
from pit_jax.data import text
from pit_jax.exchange import convert, export, families, hf
from pit_jax.models import pure
from pit_jax.recipes import pit, running
from pit_jax.recipes.pit import training
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import context as contexts
from pit_jax.run import published_models
from pit_jax.stages import reward, rl, supervised


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
  return published.foreign(tmp_path_factory.mktemp("foreign"))


@dataclasses.dataclass(frozen=True)
class Watched:
  """A finished run, what rewarded its policy, and where its stages started."""

  context: contexts.Context
  models: training.Models
  rewarded: list  # (rows, prompts, responses, scores) of every batch
  starts: dict  # stage → parameters


@pytest.fixture(scope="module")
def run(foreign, tmp_path_factory):
  """A run of recipe pit whose R_P is the foreign one."""
  workdir, rewarded, starts = tmp_path_factory.mktemp("run"), [], {}
  reward_of, supervise = rl.published_reward, supervised.run

  def watched_reward(*given):
    score = reward_of(*given)

    def watched(*batch):
      rewarded.append((*batch, score(*batch)))
      return rewarded[-1][-1]

    return watched

  def watched_run(context, name, model, objective, params, *rest, **settings):
    starts[name] = params
    return supervise(context, name, model, objective, params, *rest, **settings)

  # Those that ask R_P beyond the comparisons of all systems.
  asking = tiny_run.experimenting(pit, "main", "cost", "frontier")
  watching = tiny_run.watched(pit)
  with pytest.MonkeyPatch.context() as patch, tiny_run.unrendered(), asking, watching as kept:
    patch.setattr(rl, "published_reward", watched_reward)
    patch.setattr(supervised, "run", watched_run)
    sizes = {"evaluation__prompts": 8, "evaluation__rounds": 1}
    running.run(tiny_run.config(reward__model=str(foreign), **sizes), workdir)
  return Watched(*kept[0], rewarded, starts)


def read_as_served(foreign, question, answer):
  """Returns the ids that the model's own tokenizer and template make of a question and answer."""
  fast = transformers.PreTrainedTokenizerFast.from_pretrained(foreign)  # what the file says
  said = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
  return fast.apply_chat_template(said, return_dict=False)


def rewarded_words(run):
  """Returns the questions, the answers in words, and the rewards that RL saw of them."""
  questions = [row.prompt for row in run.context.rows.folds["rl"]]
  texts, answers, scores = [], [], []
  for rows, _, responses, given in run.rewarded:
    texts += [questions[row] for row in rows]
    answers += run.context.models.inference.words(responses)
    scores += np.asarray(given).tolist()
  return texts, answers, np.array(scores)


def in_the_runs_unit(run, scores):
  facts = run.models.policy.reward.facts
  return scores * facts["gain"]  # RL adds the shift to what is recorded here


@pytest.fixture(scope="module")
def read(run, foreign):
  """What the classifier has to read, Int[N T] padded on the right, and the mask."""
  questions, answers, _ = rewarded_words(run)
  ids = [read_as_served(foreign, *pair) for pair in zip(questions, answers, strict=True)]
  mask = tiny.right([len(row) for row in ids], max(map(len, ids)))
  tokens = np.zeros(mask.shape, np.int32)
  tokens[mask] = np.concatenate(ids)
  return tokens, mask


def test_rl_saw_what_the_classifier_says_of_the_words(run, foreign, read):
  model = pure.scalar_model(families.read(foreign))
  tokens, mask = read
  scores = jax.jit(model.apply)(hf.load(foreign, model), tokens, mask)
  expected = np.asarray(scores)[np.arange(len(mask)), mask.sum(axis=1) - 1]
  _, answers, found = rewarded_words(run)
  assert len(set(answers)) > 10 and found.std() > 0.1
  np.testing.assert_allclose(found, in_the_runs_unit(run, expected), rtol=1e-4, atol=1e-4)


@pytest.mark.parity
def test_rl_saw_what_transformers_says_of_the_words(run, foreign, read):
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  model = transformers.AutoModelForSequenceClassification.from_pretrained(foreign).eval()
  given = {"input_ids": read[0], "attention_mask": read[1]}
  with torch.no_grad():
    logits = model(**{name: torch.tensor(x, dtype=torch.long) for name, x in given.items()}).logits
  expected = logits[:, 0].numpy()
  _, _, found = rewarded_words(run)
  np.testing.assert_allclose(found, in_the_runs_unit(run, expected), rtol=1e-3, atol=1e-3)


def test_the_rewards_belong_to_the_prompts_and_are_what_was_learnt_from(run):
  for rows, prompts, _, _ in run.rewarded:
    said = run.context.rows.settings.tokenizer.decode_batch(
      [ids[mask].tolist() for ids, mask in zip(*map(np.asarray, (prompts.tokens, prompts.mask)))]
    )
    for row, text_of in zip(rows, said, strict=True):
      assert (
        run.context.rows.folds["rl"][row].prompt[-20:] in text_of
      )  # an over-long one lost its beginning
  lines = (run.context.workdir / "metrics" / "rl_policy.jsonl").read_text().splitlines()
  logged = [json.loads(line)["objective/score"] for line in lines]
  shift = run.models.policy.reward.facts["shift"]
  means = [np.mean(scores) + shift for *_, scores in run.rewarded]
  np.testing.assert_allclose(logged, means[: tiny_run.STEPS], rtol=1e-4, atol=1e-5)


def test_it_is_calibrated_and_no_weight_of_its_trunk_is_trained(run, foreign):
  context, found = run.context, run.models.policy.reward
  there = hf.load(foreign, found.published.model)
  jax.tree.map(np.testing.assert_array_equal, found.params["trunk"], there["trunk"])
  assert not (context.workdir / "checkpoints" / "reward").exists()
  questions = [row.prompt for row in context.rows.folds["reward_validation"]]
  key = jax.random.fold_in(context.key("reward"), 1)
  answers = context.models.inference.answer(run.models.policy.sft.params, questions, key, 1.0)
  scores = reward.rating(run.context, found)(questions, answers)
  assert scores.mean() == pytest.approx(-found.facts["shift"], abs=1e-3)
  assert scores.std() == pytest.approx(1, abs=1e-3)


def test_its_facts_are_of_its_own_reading(run):
  found, rows = run.models.policy.reward, run.context.rows.folds["reward_validation"]
  questions = [row.prompt for row in rows]
  chosen, rejected = (
    reward.rating(run.context, found)(questions, [getattr(row, name) for row in rows])
    for name in ("chosen", "rejected")
  )
  margins = (chosen - rejected) / found.facts["gain"]
  assert found.facts["accuracy"] == pytest.approx((margins > 0).mean())
  assert found.facts["n"] == margins.size
  assert found.facts["margin"] == pytest.approx(margins.mean(), abs=1e-3)
  assert found.facts["cut"] == 0  # or the references here would have to cut too


def test_what_cannot_start_from_it_starts_from_the_fine_tuned_model(run):
  context, models = run.context, run.models
  assert not models.policy.reward.fits
  first = reward.first_value(context, models.policy.reward, models.policy.sft.params)
  starts = (
    (first, models.policy.sft.params),
    (run.starts["gap_reward"], models.improver_sft.params),
  )
  for start, sft in starts:
    jax.tree.map(np.testing.assert_array_equal, start["trunk"], sft["trunk"])
    assert start["head"].shape == (16,) and np.std(start["head"]) > 0.1


def test_it_judges_in_its_own_tokens(run):
  results = run.context.read_json("report", "results.json")
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "R_P", "R_PIT"}
  found = run.models.policy.reward
  held_out = {row.prompt: row for row in run.context.rows.folds["held_out"]}
  rows = list(held_out.values())[:8]
  scores = reward.rating(run.context, found)(
    [row.prompt for row in rows], [row.chosen for row in rows]
  )
  assert results["systems"]["chosen"]["score_R_P"] == pytest.approx(scores.mean(), abs=1e-4)


@pytest.fixture
def copied(run, tmp_path):
  workdir = shutil.copytree(run.context.workdir, tmp_path / "copy")
  return dataclasses.replace(run.context, workdir=workdir)


def test_rl_goes_on_bit_by_bit(run, copied):
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy" / str(tiny_run.STEPS))
  again = policy_chain.train_policy(copied)
  test_stages.assert_same(again.rl.params, run.models.policy.rl.params)
  test_stages.assert_same(again.reward.params, run.models.policy.reward.params)
  samples = [
    place / "samples" / "rl_policy.jsonl" for place in (copied.workdir, run.context.workdir)
  ]
  assert samples[0].read_bytes() == samples[1].read_bytes()


def test_another_one_is_refused(copied, foreign, tmp_path):
  other = shutil.copytree(foreign, tmp_path / "other")
  published.directory_of(
    other, pure.scalar_model, text.load_tokenizer(foreign), seed=4, **published.FOREIGN
  )
  changed = dataclasses.replace(copied.models.reward, directory=other)
  with pytest.raises(ValueError, match=r"reward was \{.* when it was saved and is \{"):
    policy_chain.train_policy(tiny_run.changed(copied, models={"reward": changed}))


QUESTIONS, ANSWERS = ["who gets call 5?", "the letter ?"], ["Ann calls Mia.", "naïve café"]


def test_it_is_exported_as_itself(run, foreign):
  found = run.models.policy.reward
  loaded = export.load_published(run.context.workdir, mesh=run.context.mesh, batch_size=2)
  assert loaded.model == found.published.model
  ours, theirs = found.published.reader, loaded.reader
  assert theirs.describe() == ours.describe() and theirs.form == ours.form
  assert theirs.vocabulary == text.load_tokenizer(foreign).vocabulary
  expected = reward.rating(run.context, found)(QUESTIONS, ANSWERS)
  scores = loaded.rate(QUESTIONS, ANSWERS)
  np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_it_is_sent_out_as_itself(run, foreign, tmp_path):
  (directory,) = convert.send_out(run.context.workdir, tmp_path, ["reward"])
  card = (directory / "README.md").read_text()
  assert f"reward model {foreign.name}, not trained but scaled" in card
  changes = {"reward__model": "", "evaluation__reward_model": str(directory)}
  _, sent = published_models.find(tiny_run.config(**changes), "cpu")
  assert sent.metadata["template"] == run.context.models.reward.metadata["template"]
  scores = sent.load(run.context.mesh, batch_size=4).rate(QUESTIONS, ANSWERS)
  np.testing.assert_allclose(
    scores, reward.rating(run.context, run.models.policy.reward)(QUESTIONS, ANSWERS), atol=1e-5
  )


def test_a_damaged_template_of_it_is_named(run, tmp_path):
  shutil.copytree(run.context.workdir / "models", tmp_path / "models")
  path = tmp_path / "models" / "run.json"
  content = json.loads(path.read_text())
  content["published"]["hash"] = "0" * 16
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="hash 0000.* of what the classifier reads is now"):
    export.load_published(tmp_path, mesh=run.context.mesh)


def test_the_run_improves_answers(run, tmp_path):
  given, made = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  given.write_text(json.dumps({"prompt": QUESTIONS[0], "response": ANSWERS[0]}) + "\n")
  options = ["--mesh=1,1,1", "--batch_size=32", "--rounds=1", "--margin=-inf"]
  improve.main(
    [f"--workdir={run.context.workdir}", f"--input={given}", f"--output={made}", *options]
  )
  row = json.loads(made.read_text())
  assert "error" not in row and len(row["rounds"]) == 1
