"""Which published reward models a run takes, what starts from them, and what is refused."""

import json
import shutil

import chats
import jax
import numpy as np
import published
import pytest
import test_stages
import tiny_run

from pit_jax.data import text
from pit_jax.exchange import convert, export, families
from pit_jax.models import pure
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import published_models
from pit_jax.stages import reward, rl


@pytest.fixture(scope="module")
def base(tmp_path_factory):
  """A base's directory, whose tokenizer knows the embedded task's words."""
  place = tmp_path_factory.mktemp("base")
  return published.directory_of(
    place, pure.language_model, text.train_tokenizer(published.letters(), 300, place)
  )


@pytest.fixture(scope="module")
def near(base, tmp_path_factory):
  """A reward model of the base's shape and with its tokenizer."""
  words = text.load_tokenizer(base)
  return published.directory_of(tmp_path_factory.mktemp("near"), pure.scalar_model, words, seed=2)


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
  return published.foreign(tmp_path_factory.mktemp("foreign"))


def config(base, model, **changes):
  return tiny_run.config(model__base=str(base), reward__model=str(model), **changes)


def test_one_of_the_bases_shape_and_tokenizer_is_the_first_value_model(
  base, near, tmp_path, monkeypatch
):
  test_stages.forbid_steps(monkeypatch)
  context = tiny_run.build(config(base, near), tmp_path)
  policy = context.initial_policy()
  found = policy_chain.train_reward(context, start=policy, sampler=policy)
  assert found.fits
  value = reward.first_value(context, found, policy)
  learner = rl.begin(context, {"policy": policy, "value": value}, context.config.rl)
  jax.tree.map(np.testing.assert_array_equal, learner.train.params["value"], reward.centred(found))


@pytest.mark.parametrize("changed", [{"width": 24}, {"qkv_bias": True}])
def test_another_shape_does_not_fit(base, near, tmp_path, changed):
  words = text.load_tokenizer(base)
  other = published.directory_of(tmp_path / "other", pure.scalar_model, words, **changed)
  model = pure.scalar_model(families.read(near)).config
  for directory, fits in ((near, True), (other, False)):
    found, _ = published_models.find(config(base, directory), "cpu")
    assert found.fits(model, words) is fits


def test_another_tokenizer_does_not_fit(base, near, foreign):
  found, _ = published_models.find(config(base, near), "cpu")
  assert not found.fits(found.config, text.load_tokenizer(foreign))


def test_with_adapters_it_has_weights_of_its_own(base, near, tmp_path):
  lora = {"model__lora__rank": 2, "model__lora__base": "bfloat16"}
  context = tiny_run.build(config(base, near, **lora), tmp_path)
  policy = context.initial_policy()
  found = policy_chain.train_reward(context, start=policy, sampler=policy)
  assert not found.fits and str(found.params["trunk"]["embedding"].dtype) == "float32"
  value = reward.first_value(context, found, policy)
  assert value["trunk"]["embedding"] is context.models.base.params["trunk"]["embedding"]
  export.save(
    tmp_path,
    context.models.inference,
    {"policy": policy, "reward": found.params},
    None,
    published=found.published,
  )
  loaded = export.load_published(tmp_path, mesh=context.mesh)
  jax.tree.map(np.testing.assert_array_equal, loaded.params, found.params)
  written = convert.send_out(tmp_path, tmp_path / "out", ["policy", "reward"], as_adapters=True)
  assert [(place / "adapter_config.json").exists() for place in written] == [True, False]


def test_prompts_that_its_template_refuses_are_rows_that_cannot_be_used(base, tmp_path):
  strict = tmp_path / "strict"
  published.directory_of(strict, pure.scalar_model, chats.save(strict, "mistral"))
  talk = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why ?"}]
  rows = [{"prompt": f"why {i} ?", "chosen": f"so {i}", "rejected": "no"} for i in range(80)]
  rows[0]["prompt"] = talk
  source = tmp_path / "rows.jsonl"
  source.write_text("".join(json.dumps(row) + "\n" for row in rows))
  made = config(base, strict, data__source=f"jsonl:{source}", data__rows=80)
  context = tiny_run.build(made, tmp_path / "run")
  assert len(context.rows.data.rows) == 79
  assert list(context.rows.data.skipped) == ["refused by the chat template"]


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
  "an unknown architecture": (
    lambda place: change_config(place, model_type="abacus"),
    "config.json cannot be read.*abacus",
  ),
  "no tokenizer": (
    lambda place: [path.unlink() for path in place.glob("tokenizer*")],
    r"reward\.model=.* holds no readable tokenizer",
  ),
  "a tokenizer of another model": (
    lambda place: change_config(place, vocab_size=20),
    "the model knows 20 tokens and its tokenizer has",
  ),
  "no config": (lambda place: (place / "config.json").unlink(), "holds no config.json"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_what_cannot_be_a_reward_model_is_named(foreign, tmp_path, name):
  place = shutil.copytree(foreign, tmp_path / "damaged")
  damage, said = DAMAGES[name]
  damage(place)
  with pytest.raises(ValueError, match=said):
    tiny_run.build(tiny_run.config(reward__model=str(place)), tmp_path / "run")
  assert not (tmp_path / "run" / "config.json").exists()


def test_it_is_not_its_own_independent_judge(foreign, tmp_path):
  both = {"reward__model": str(foreign), "evaluation__reward_model": f"{foreign}/"}
  with pytest.raises(ValueError, match="no independent judge"):
    tiny_run.build(tiny_run.config(**both), tmp_path / "run")
