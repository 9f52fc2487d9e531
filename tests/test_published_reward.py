"""A published reward model in the place of R_P: of any family, asked in words."""

import dataclasses
import json
import shutil

import chats
import jax
import numpy as np
import pytest
import test_improve_file
import test_stages
import tiny
import tiny_run
import transformers

from pit_jax import convert, export
from pit_jax.data import synthetic, text
from pit_jax.models import architecture, families, hf, pure
from pit_jax.recipes import pit, rlhf
from pit_jax.stages import context as contexts
from pit_jax.stages import origin, reward, rl, supervised

SHAPE = {"width": 16, "layers": 1, "heads": 2, "kv_heads": 1, "head_width": 8, "hidden": 16}
FOREIGN = {"width": 12, "layers": 2, "heads": 3, "head_width": 4, "hidden": 8, "qkv_bias": True}

TURNS = (
  "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}"
  "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def directory_of(place, make, words, seed=1, **changes):
  """Returns a model directory with random weights and the tokenizer."""
  model = make(architecture.ModelConfig(vocabulary=words.vocab_size, **(SHAPE | changes)))
  hf.save(place, model, tiny.parameters(model, seed), **words.special_ids)
  words.save(place)
  return place


def letters():
  return [row["prompt"] + row["chosen"] for row in synthetic.preferences(50, seed=1)]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """A base's directory, whose tokenizer knows the embedded task's words."""
  place = tmp_path_factory.mktemp("base")
  return directory_of(place, pure.language_model, text.train_tokenizer(letters(), 300, place))


@pytest.fixture(scope="module")
def near(base, tmp_path_factory):
  """A reward model of the base's shape and with its tokenizer."""
  words = text.load_tokenizer(base)
  return directory_of(tmp_path_factory.mktemp("near"), pure.scalar_model, words, seed=2)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
  """A reward model of another family, width and tokenizer, with a chat template of its own."""
  place = tmp_path_factory.mktemp("foreign")
  words = chats.save(place, "chatml", form=TURNS, texts=letters(), vocabulary=500)
  directory_of(place, pure.scalar_model, words, seed=3, **FOREIGN)
  assert json.loads((place / "config.json").read_text())["model_type"] == "qwen2"
  return place


@dataclasses.dataclass(frozen=True)
class Watched:
  """A finished run, what rewarded its policy, and where its stages started."""

  context: contexts.Context
  models: pit.Models
  rewarded: list  # (rows, prompts, responses, scores) of every batch
  starts: dict  # stage → parameters


@pytest.fixture(scope="module")
def run(foreign, tmp_path_factory):
  """A run of recipe pit whose R_P is the foreign one."""
  workdir, kept, rewarded, starts = tmp_path_factory.mktemp("run"), [], [], {}
  train, published, supervise = pit.train, rl.published_reward, supervised.run

  def watched_reward(*given):
    score = published(*given)

    def watched(*batch):
      rewarded.append((*batch, score(*batch)))
      return rewarded[-1][-1]

    return watched

  def watched_run(context, name, model, objective, params, *rest, **settings):
    starts[name] = params
    return supervise(context, name, model, objective, params, *rest, **settings)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(
      pit, "train", lambda context: kept.append((context, train(context))) or kept[0][1]
    )
    patch.setattr(rl, "published_reward", watched_reward)
    patch.setattr(supervised, "run", watched_run)
    pit.run(
      tiny_run.config(
        reward__model=str(foreign),
        evaluation__prompts=8,
        evaluation__rounds=1,
        evaluation__temperatures=(1.0,),
      ),
      workdir,
    )
  return Watched(*kept[0], rewarded, starts)


def read_as_served(foreign, question, answer, limit):
  """Returns the ids that the model's own tokenizer and template make of a question and answer."""
  fast = transformers.PreTrainedTokenizerFast.from_pretrained(foreign)  # what the file says
  asked = fast.apply_chat_template(
    [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=False
  )
  ids = fast(answer, add_special_tokens=False)["input_ids"]
  return asked + [*ids, fast.convert_tokens_to_ids("<|im_end|>")][:limit]


def rewarded_words(run):
  """Returns the questions, the answers in words, and the rewards that RL saw of them."""
  questions = [row.prompt for row in run.context.folds.rl]
  texts, answers, scores = [], [], []
  for rows, _, responses, given in run.rewarded:
    texts += [questions[row] for row in rows]
    answers += run.context.inference.words(responses)
    scores += np.asarray(given).tolist()
  return texts, answers, np.array(scores)


def in_the_runs_unit(run, scores):
  facts = run.models.policy.reward.facts
  return scores * facts["gain"] + facts["bias"]


@pytest.fixture(scope="module")
def read(run, foreign):
  """What the classifier has to read, Int[N T] padded on the right, and the mask."""
  limit = 2 * run.context.inference.response_length
  questions, answers, _ = rewarded_words(run)
  ids = [read_as_served(foreign, *pair, limit) for pair in zip(questions, answers, strict=True)]
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
  expected = logits[:, 0].numpy() + model.config.score_bias
  _, _, found = rewarded_words(run)
  np.testing.assert_allclose(found, in_the_runs_unit(run, expected), rtol=1e-3, atol=1e-3)


def test_the_rewards_belong_to_the_prompts_and_are_what_was_learnt_from(run):
  for rows, prompts, _, _ in run.rewarded:
    said = run.context.settings.tokenizer.decode_batch(
      [ids[mask].tolist() for ids, mask in zip(*map(np.asarray, (prompts.tokens, prompts.mask)))]
    )
    for row, text_of in zip(rows, said, strict=True):
      assert (
        run.context.folds.rl[row].prompt[-20:] in text_of
      )  # an over-long one lost its beginning
  lines = (run.context.workdir / "metrics" / "rl_policy.jsonl").read_text().splitlines()
  logged = [json.loads(line)["objective/score"] for line in lines]
  means = [np.mean(scores) for *_, scores in run.rewarded]
  np.testing.assert_allclose(logged, means[: tiny_run.STEPS], rtol=1e-4, atol=1e-5)


def test_it_is_calibrated_and_no_weight_of_its_trunk_is_trained(run, foreign):
  context, found = run.context, run.models.policy.reward
  published = hf.load(foreign, found.published.scalar)
  jax.tree.map(np.testing.assert_array_equal, found.params["trunk"], published["trunk"])
  assert not (context.workdir / "checkpoints" / "reward").exists()
  questions = [row.prompt for row in context.folds.reward_validation]
  key = jax.random.fold_in(context.key("reward"), 1)
  answers = context.inference.answer(run.models.policy.sft, questions, key, 1.0)
  scores = found.published.rate(found.params, questions, answers)
  assert scores.mean() == pytest.approx(0, abs=1e-3)
  assert scores.std() == pytest.approx(1, abs=1e-3)


def test_its_facts_are_of_its_own_reading(run):
  found, rows = run.models.policy.reward, run.context.folds.reward_validation
  questions = [row.prompt for row in rows]
  chosen, rejected = (
    found.published.rate(found.params, questions, [getattr(row, name) for row in rows])
    for name in ("chosen", "rejected")
  )
  margins = (chosen - rejected) / found.facts["gain"]
  assert found.facts["accuracy"] == pytest.approx((margins > 0).mean())
  assert found.facts["margin"] == pytest.approx(margins.mean(), abs=1e-3)
  assert found.facts["cut"] == 0  # or the references here would have to cut too


def test_what_cannot_start_from_it_starts_from_the_fine_tuned_model(run):
  context, models = run.context, run.models
  assert not models.policy.reward.fits
  first = reward.first_value(context, models.policy.reward, models.policy.sft)
  starts = ((first, models.policy.sft), (run.starts["gap_reward"], models.improver_sft))
  for start, sft in starts:
    jax.tree.map(np.testing.assert_array_equal, start["trunk"], sft["trunk"])
    assert start["head"].shape == (16,) and np.std(start["head"]) > 0.1


def test_it_judges_in_its_own_tokens(run):
  results = run.context.read_json("report", "results.json")
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "R_P", "R_PIT"}
  found = run.models.policy.reward
  held_out = {row.prompt: row for row in run.context.folds.held_out}
  rows = list(held_out.values())[:8]
  scores = found.published.rate(
    found.params, [row.prompt for row in rows], [row.chosen for row in rows]
  )
  assert results["systems"]["chosen"]["score_R_P"] == pytest.approx(scores.mean(), abs=1e-4)


@pytest.fixture
def copied(run, tmp_path):
  workdir = shutil.copytree(run.context.workdir, tmp_path / "copy")
  return dataclasses.replace(run.context, workdir=workdir)


def test_rl_goes_on_bit_by_bit(run, copied):
  shutil.rmtree(copied.workdir / "checkpoints" / "rl_policy" / str(tiny_run.STEPS))
  again = rlhf.train_policy(copied)
  test_stages.assert_same(again.rl, run.models.policy.rl)
  test_stages.assert_same(again.reward.params, run.models.policy.reward.params)
  samples = [
    place / "samples" / "rl_policy.jsonl" for place in (copied.workdir, run.context.workdir)
  ]
  assert samples[0].read_bytes() == samples[1].read_bytes()


def test_another_one_is_refused(copied, foreign, tmp_path):
  other = shutil.copytree(foreign, tmp_path / "other")
  directory_of(other, pure.scalar_model, text.load_tokenizer(foreign), seed=4, **FOREIGN)
  changed = dataclasses.replace(copied.reward, directory=other)
  with pytest.raises(ValueError, match=r"reward was \{.* when it was saved and is \{"):
    rlhf.train_policy(dataclasses.replace(copied, reward=changed))


QUESTIONS, ANSWERS = ["who gets call 5?", "the letter ?"], ["Ann calls Mia.", "naïve café"]


def test_it_is_exported_as_itself(run, foreign):
  found = run.models.policy.reward
  loaded = export.load_one(run.context.workdir, "reward", mesh=run.context.mesh, batch_size=2)
  assert loaded.is_published and loaded.model.config == found.published.scalar.config
  ours, theirs = found.published.settings, loaded.asking.settings
  assert theirs.template == ours.template and theirs.max_prompt_length == ours.max_prompt_length
  assert theirs.tokenizer.vocabulary == text.load_tokenizer(foreign).vocabulary
  expected = found.published.rate(found.params, QUESTIONS, ANSWERS)
  scores = loaded.asking.rate(loaded.params, QUESTIONS, ANSWERS)
  np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-5)


def test_it_is_sent_out_as_itself(run, foreign, tmp_path):
  (directory,) = convert.send_out(run.context.workdir, tmp_path, ["reward"])
  card = (directory / "README.md").read_text()
  assert f"reward model {foreign.name}, not trained but scaled" in card and "score_bias" in card
  changes = {"reward__model": "", "evaluation__reward_model": str(directory)}
  _, sent = origin.published(tiny_run.config(**changes))
  assert sent.metadata["template"] == run.context.reward.metadata["template"]
  asking, params = sent.load(run.context.inference)
  found = run.models.policy.reward
  expected = found.published.rate(found.params, QUESTIONS, ANSWERS)
  np.testing.assert_allclose(asking.rate(params, QUESTIONS, ANSWERS), expected, atol=1e-5)


def test_a_damaged_template_of_it_is_named(run, tmp_path):
  shutil.copytree(run.context.workdir / "models", tmp_path / "models")
  path = tmp_path / "models" / "run.json"
  content = json.loads(path.read_text())
  content["published"]["template_hash"] = "0" * 16
  path.write_text(json.dumps(content))
  with pytest.raises(ValueError, match="trained with template 0000"):
    export.load_one(tmp_path, "reward", mesh=run.context.mesh)


def test_the_run_improves_answers(run, tmp_path):
  given, made = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  given.write_text(json.dumps({"prompt": QUESTIONS[0], "response": ANSWERS[0]}) + "\n")
  options = ["--mesh=1,1,1", "--batch_size=32", "--rounds=1", "--margin=-inf"]
  test_improve_file.launch.main(
    [f"--workdir={run.context.workdir}", f"--input={given}", f"--output={made}", *options]
  )
  row = json.loads(made.read_text())
  assert "error" not in row and len(row["rounds"]) == 1


def config(base, published, **changes):
  return tiny_run.config(model__base=str(base), reward__model=str(published), **changes)


def test_one_of_the_bases_shape_and_tokenizer_is_the_first_value_model(
  base, near, tmp_path, monkeypatch
):
  test_stages.forbid_steps(monkeypatch)
  context = contexts.build(config(base, near), tmp_path)
  found, policy = reward.pointwise(context, context.initial_policy()), context.initial_policy()
  assert found.fits
  value = reward.first_value(context, found, policy)
  learner = rl.begin(context, {"policy": policy, "value": value}, context.config.rl)
  jax.tree.map(np.testing.assert_array_equal, learner.train.params["value"], found.params)


@pytest.mark.parametrize("changed", [{"width": 24}, {"qkv_bias": True}])
def test_another_shape_does_not_fit(base, near, tmp_path, changed):
  words = text.load_tokenizer(base)
  other = directory_of(tmp_path / "other", pure.scalar_model, words, **changed)
  model = pure.scalar_model(families.read(near)).config
  for directory, fits in ((near, True), (other, False)):
    published, _ = origin.published(config(base, directory))
    assert published.fits(model, words) is fits


def test_another_tokenizer_does_not_fit(base, near, foreign):
  published, _ = origin.published(config(base, near))
  assert not published.fits(published.config, text.load_tokenizer(foreign))


def test_with_adapters_it_has_weights_of_its_own(base, near, tmp_path):
  lora = {"model__lora__rank": 2, "model__lora__base": "bfloat16"}
  context = contexts.build(config(base, near, **lora), tmp_path)
  policy = context.initial_policy()
  found = reward.pointwise(context, policy)
  assert not found.fits and str(found.params["trunk"]["embedding"].dtype) == "float32"
  value = reward.first_value(context, found, policy)
  assert value["trunk"]["embedding"] is context.base.params["trunk"]["embedding"]
  export.save(
    tmp_path,
    context.inference,
    {"policy": policy, "reward": found.params},
    None,
    published=found.published,
  )
  loaded = export.load_one(tmp_path, "reward", mesh=context.mesh)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, found.params)
  written = convert.send_out(tmp_path, tmp_path / "out", ["policy", "reward"], as_adapters=True)
  assert [(place / "adapter_config.json").exists() for place in written] == [True, False]


def test_prompts_that_its_template_refuses_are_rows_that_cannot_be_used(base, tmp_path):
  strict = tmp_path / "strict"
  directory_of(strict, pure.scalar_model, chats.save(strict, "mistral"))
  talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why ?"}]
  rows = [{"prompt": f"why {i} ?", "chosen": f"so {i}", "rejected": "no"} for i in range(80)]
  rows[0]["prompt"] = talk
  source = tmp_path / "rows.jsonl"
  source.write_text("".join(json.dumps(row) + "\n" for row in rows))
  made = config(base, strict, data__source=f"jsonl:{source}", data__rows=80)
  context = contexts.build(made, tmp_path / "run")
  assert len(context.data.rows) == 79
  assert list(context.data.skipped) == ["refused by the chat template"]


def change_config(place, **fields):
  path = place / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | fields))


DAMAGES = {  # what is done to a copy of the foreign one → what is said of it
  "a language model": (
    lambda place: change_config(place, architectures=["Qwen2ForCausalLM"]),
    "holds no sequence classifier",
  ),
  "more labels": (
    lambda place: change_config(place, id2label={"0": "bad", "1": "good"}),
    "has 2 labels, and a reward is one number",
  ),
  "another architecture": (
    lambda place: change_config(place, model_type="deberta-v2"),
    "model_type 'deberta-v2' is not supported; supported are llama",
  ),
  "no tokenizer": (
    lambda place: [path.unlink() for path in place.glob("tokenizer*")],
    r"reward\.model=.* cannot be asked: .*holds no readable tokenizer",
  ),
  "a tokenizer of another model": (
    lambda place: change_config(place, vocab_size=20),
    "the model knows 20 tokens and its tokenizer has",
  ),
  "no config": (lambda place: (place / "config.json").unlink(), "config.json cannot be read"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_cannot_be_a_reward_model_is_named(foreign, tmp_path, name):
  place = shutil.copytree(foreign, tmp_path / "damaged")
  damage, said = DAMAGES[name]
  damage(place)
  with pytest.raises(ValueError, match=said):
    contexts.build(tiny_run.config(reward__model=str(place)), tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()


def test_it_is_not_its_own_independent_judge(foreign, tmp_path):
  both = {"reward__model": str(foreign), "evaluation__reward_model": f"{foreign}/"}
  with pytest.raises(ValueError, match="no independent judge"):
    contexts.build(tiny_run.config(**both), tmp_path / "run")
