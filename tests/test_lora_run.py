"""The whole chain with adapters: one frozen base from the first stage to the exported models."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import test_stages
import tiny
import tiny_run

from pit_jax.data import text
from pit_jax.evaluate import subject as subjects
from pit_jax.exchange import convert, export, hf
from pit_jax.models import architecture, pure
from pit_jax.recipes import pit, running
from pit_jax.recipes.pit import subject
from pit_jax.run import origin
from pit_jax.tasks import synthetic

pytestmark = pytest.mark.slow
STORED, PAIR = "bfloat16", ("pit", "original")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """A model directory: random weights, and a tokenizer that knows the embedded task's words."""
  directory = tmp_path_factory.mktemp("base")
  rows = synthetic.preferences(50, seed=1)
  words = text.train_tokenizer((row["prompt"] + row["chosen"] for row in rows), 300, directory)
  shape = {"width": 16, "layers": 2, "heads": 2, "kv_heads": 1, "head_width": 8, "hidden": 16}
  model = pure.language_model(architecture.ModelConfig(vocabulary=words.vocab_size, **shape))
  hf.save(directory, model, tiny.parameters(model, seed=0, scale=0.2), **words.special_ids)
  return directory


@pytest.fixture(scope="module")
def published(tmp_path_factory):
  """A classifier's directory, of another shape and with another tokenizer than the base."""
  directory = tmp_path_factory.mktemp("published")
  words = text.train_tokenizer(["who gets the call", "the calls are"], 270, directory)
  shape = {"width": 8, "layers": 1, "heads": 1, "kv_heads": 1, "head_width": 8, "hidden": 8}
  model = pure.scalar_model(architecture.ModelConfig(vocabulary=words.vocab_size, **shape))
  hf.save(directory, model, tiny.parameters(model, seed=9), **words.special_ids)
  return directory


@pytest.fixture(scope="module")
def run(base, published, tmp_path_factory):
  """A finished run, the context it had, and its models."""
  config = tiny_run.config(
    model__base=str(base),
    model__lora__rank=2,
    model__lora__base=STORED,
    data__judge=0.4,
    evaluation__reward_model=str(published),
    evaluation__prompts=8,
    evaluation__rounds=1,
  )
  workdir = tmp_path_factory.mktemp("adapters") / "run"
  # Those that ask models as their stages left them, and as they were on the way.
  asking = tiny_run.experimenting(pit, "main", "frontier")
  with tiny_run.unrendered(), asking, tiny_run.watched(pit) as kept:
    running.run(config, workdir)
  return kept[0]


def test_all_models_share_the_frozen_base(run):
  context, models = run
  base = pure.named(context.models.base.params)
  for params in (
    models.policy.sft.params,
    models.policy.rl.params,
    models.improver.params,
    models.gap_reward.params,
  ):
    for name, leaf in pure.named(params).items():
      if name in base:
        assert leaf is base[name], name


def test_every_stage_trained_its_adapters(run):
  context, models = run
  start = pure.named(context.initial_policy())
  for params in (models.policy.sft.params, models.policy.rl.params, models.improver.params):
    for name, leaf in pure.named(params).items():
      assert np.array_equal(leaf, start[name]) == (".adapters." not in name), name


def test_checkpoints_hold_adapters_only(run):
  context, _ = run
  for stage in ("sft_policy", "gap_reward", "rl_policy", "pit_policy"):
    (record,) = context.workdir.glob(f"checkpoints/{stage}/3/record/metadata")
    arrays = json.loads(record.read_text())["arrays"]
    params = [name for name in arrays if name.startswith(".")]
    assert any("adapters" in name for name in params)
    assert not any("embedding" in name or name.endswith("['query']") for name in params)


def test_the_export_says_what_the_run_said(run):
  context, models = run
  loaded = export.load(context.workdir, mesh=context.mesh, batch_size=4)
  assert loaded.policy["trunk"]["embedding"] is loaded.gap_reward["trunk"]["embedding"]
  assert str(loaded.policy["trunk"]["embedding"].dtype) == STORED
  questions = [row.prompt for row in context.rows.folds["held_out"][:4]]
  drafts = [row.rejected for row in context.rows.folds["held_out"][:4]]
  asked = (questions, drafts, drafts[::-1])
  found = loaded.inference.gaps(loaded.gap_reward, *asked)
  expected = context.models.inference.gaps(models.gap_reward.params, *asked)
  np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_merged_and_apart_are_the_same_model(run, tmp_path):
  context, models = run
  (whole,) = convert.send_out(context.workdir, tmp_path / "merged", ["improver"])
  (apart,) = convert.send_out(context.workdir, tmp_path / "apart", ["improver"], as_adapters=True)
  assert {path.name for path in (tmp_path / "apart").iterdir()} == {"base", "improver"}
  assert (apart / "adapter_model.safetensors").exists()
  tokens, mask = tiny.ids(0, 2, 6), np.ones((2, 6), bool)
  bare = pure.language_model(
    dataclasses.replace(context.models.language.config, adapter=None, stored="float32")
  )
  merged = jax.jit(bare.apply)(hf.load(whole, bare), tokens, mask)
  ours = jax.jit(context.models.language.apply)(models.improver.params, tokens, mask)
  np.testing.assert_allclose(merged, ours, rtol=1e-4, atol=1e-4)


def test_an_independent_judge_learnt_from_pairs_of_its_own(run):
  context, models = run
  assert not np.array_equal(models.policy.judge.params["head"], models.policy.reward.params["head"])
  results = context.read_json("report", "results.json")
  assert results["data"]["folds"]["judge"] == len(context.rows.folds["judge"]) > 0
  judged = [row["judge"] for row in results["comparisons"] if (row["a"], row["b"]) == PAIR]
  assert judged[:5] == ["gold", "R_public", "R_judge", "R_P", "R_PIT"]
  assert 0 <= results["reward_models"]["R_judge"]["accuracy"] <= 1


def test_a_published_judge_reads_its_own_tokens(run, published):
  context, _ = run
  judge = context.models.judge.load(context.mesh, batch_size=2)
  words = text.load_tokenizer(published)
  (found,) = judge.rate(["who gets it"], ["the call"])
  ids = [*words.encode("who gets it"), *words.encode("the call")]  # it has no template: a pair
  assert ids != context.rows.settings.tokenizer.encode("who gets itthe call")
  apply = jax.jit(judge.model.apply)
  scores = apply(judge.params, np.array([ids]), np.ones((1, len(ids)), bool))
  np.testing.assert_allclose(found, scores[0, -1], rtol=1e-4)


def test_a_published_judge_has_the_unit_in_which_ties_are_told(run):
  """A published score of any scale: a tie is a thousandth of its deviation over samples."""
  context, models = run
  asking = context.models.inference
  questions = [row.prompt for row in context.rows.folds["reward_validation"]]
  raw = context.models.judge.load(context.mesh, batch_size=8).rate
  found = subject.of_run(context, models).suite
  (judge,) = (one for one in found.judges if one.name == subjects.PUBLISHED)
  key = jax.random.fold_in(context.key("reward_public"), 1)
  samples = asking.answer(models.policy.sft.params, questions, key, context.config.rl.temperature)
  scores = judge.score(questions, samples)
  np.testing.assert_allclose(scores.std(), 1.0, rtol=1e-4)
  np.testing.assert_allclose(
    scores * raw(questions, samples).std(), raw(questions, samples), rtol=1e-4
  )


def test_the_same_command_finds_everything_finished(run, monkeypatch):
  context, models = run
  test_stages.forbid_steps(monkeypatch)
  again = pit.RECIPE.train(tiny_run.build(context.config, context.workdir))
  for one, other in (
    (again.improver.params, models.improver.params),
    (again.policy.rl.params, models.policy.rl.params),
  ):
    jax.tree.map(np.testing.assert_array_equal, one, other)


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"model__lora__rank": 2}, "model.lora.rank=2 adapts a base, and there is none"),
    (
      {"model__lora__base": "int8", "model__base": "embedded"},
      "without adapters nothing is frozen",
    ),
    ({"evaluation__reward_model": str(origin.EMBEDDED)}, "holds no sequence classifier"),
    ({"evaluation__reward_model": "nowhere"}, "evaluation.reward_model=nowhere is no directory"),
  ],
)
def test_settings_that_do_not_go_together_are_refused(tmp_path, changes, said):
  with pytest.raises(ValueError, match=said):
    tiny_run.build(tiny_run.config(**changes), tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()
