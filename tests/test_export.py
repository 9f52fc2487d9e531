"""A finished run as files: what was saved is loaded, and what is wrong is named."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import tiny_models

from pit_jax import parallel
from pit_jax.data import text
from pit_jax.exchange import export

QUESTIONS, ANSWERS = ["what is it ?", "the last word ?", "this"], ["the word", "is it", "not this"]


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def run(asking, tmp_path):
  export.save(tmp_path, asking, tiny_models.models_of(asking), zero_point=0.125)
  return tmp_path


def load(workdir, mesh=(1, 1, 1), **settings):
  return export.load(workdir, mesh=parallel.make_mesh(mesh), batch_size=4, **settings)


def change(path, **fields):
  content = json.loads(path.read_text()) | fields
  path.write_text(json.dumps({name: value for name, value in content.items() if value != "gone"}))


def test_what_was_saved_is_loaded(run, asking):
  models, loaded = tiny_models.models_of(asking), load(run)
  found = {name: getattr(loaded, name) for name in ("policy", "improver", "gap_reward")}
  found["reward"] = export.load_one(run, "reward", mesh=loaded.inference.mesh).params
  for name, params in models.items():
    jax.tree.map(np.testing.assert_array_equal, found[name], params)
  assert (loaded.zero_point, loaded.margin) == (0.125, 0.0)
  ours, theirs = asking.settings, loaded.inference.settings
  assert theirs.template == ours.template
  words = "the first word <eos>"
  assert theirs.tokenizer.encode(words) == ours.tokenizer.encode(words)
  for name in ("pad_id", "eos_id", "vocab_size"):
    assert getattr(theirs.tokenizer, name) == getattr(ours.tokenizer, name)
  assert (theirs.max_prompt_length, theirs.max_response_length) == (32, 16)
  assert loaded.inference.response_length == asking.response_length
  assert loaded.inference.language.config == asking.language.config


def test_loaded_models_say_the_same_on_any_mesh(run, asking):
  models = tiny_models.models_of(asking)
  gaps = asking.gaps(models["gap_reward"], QUESTIONS, ANSWERS, ANSWERS[::-1])
  loaded = load(run, mesh=(2, 2, 2))
  found = loaded.inference.gaps(loaded.gap_reward, QUESTIONS, ANSWERS, ANSWERS[::-1])
  np.testing.assert_allclose(found, gaps, rtol=1e-4, atol=1e-4)
  homes = [leaf.sharding for leaf in jax.tree.leaves(loaded.gap_reward)]
  assert all(len(home.device_set) == 8 for home in homes)
  assert not all(home.is_fully_replicated for home in homes)


def test_exporting_again_replaces_everything(run, asking):
  models = tiny_models.models_of(asking)
  for folder in ("models", "models.partial", "models.old"):  # of exports that a kill cut short
    (run / folder).mkdir(exist_ok=True)
    (run / folder / "stray").write_text("of an earlier export")
  models["policy"] = jax.tree.map(lambda leaf: leaf + 1, models["policy"])
  export.save(run, asking, models, zero_point=0.25)
  loaded = load(run)
  jax.tree.map(np.testing.assert_array_equal, loaded.policy, models["policy"])
  assert loaded.zero_point == 0.25
  assert [path.name for path in run.iterdir()] == ["models"]
  names = {path.name for path in (run / "models").iterdir()}
  assert names == {"policy", "improver", "reward", "gap_reward", "tokenizer", "run.json"}


def test_an_export_cut_short_leaves_the_earlier_one(run, asking, monkeypatch):
  def fail(*_):
    raise OSError("disk full")

  with monkeypatch.context() as patch:
    patch.setattr(text.Tokenizer, "save", fail)
    with pytest.raises(OSError, match="disk full"):
      export.save(run, asking, tiny_models.models_of(asking), zero_point=9.0)
  assert load(run).zero_point == 0.125
  export.save(run, asking, tiny_models.models_of(asking), zero_point=9.0)
  assert load(run).zero_point == 9.0


def test_a_run_of_the_policy_alone_has_a_reward_and_no_improver(asking, tmp_path):
  models = tiny_models.models_of(asking)
  chain = {name: models[name] for name in ("policy", "reward")}
  export.save(tmp_path, asking, chain, zero_point=None)
  reward = export.load_one(tmp_path, "reward", mesh=asking.mesh).params
  jax.tree.map(np.testing.assert_array_equal, reward, models["reward"])
  with pytest.raises(ValueError, match="no improver, because its recipe trains none"):
    load(tmp_path)


@pytest.mark.parametrize(
  "names, zero_point",
  [
    ([], None),
    (["policy", "reward"], 0.0),
    (["policy", "reward", "improver"], 0.0),
    (["policy", "reward", "improver", "gap_reward"], None),
    (["policy", "reward", "improver", "gap_reward", "critic"], 0.0),
    (["policy", "improver", "implicit_reward"], None),
    (["improver", "implicit_reward", "reference"], None),
    (["policy", "improver", "implicit_reward", "reference"], 0.0),
    (["policy", "reward", "improver", "gap_reward"], float("nan")),
  ],
)
def test_half_a_run_is_not_exported(asking, tmp_path, names, zero_point):
  with pytest.raises(ValueError, match=r"no whole run|finite"):
    export.save(tmp_path, asking, {name: {} for name in names}, zero_point)
  assert list(tmp_path.iterdir()) == []


def drop(*parts):
  return lambda folder: folder.joinpath(*parts).unlink()


def alter(*parts, **fields):
  return lambda folder: change(folder.joinpath(*parts), **fields)


def write(content, *parts):
  return lambda folder: folder.joinpath(*parts).write_bytes(content)


def retell(folder):
  path = folder / "tokenizer" / "tokenizer.json"
  path.write_text(path.read_text().replace("<eos>", "<end>"))


def swap(folder):
  (folder / "policy").rename(folder / "other")
  (folder / "reward").rename(folder / "policy")


TEMPLATE = {
  "kind": "plain",
  "policy": "Q: {prompt}\nA:",
  "improver": "Q: {prompt}\nD: {reference}\nB:",
}
DAMAGES = {
  "unfinished": (drop("run.json"), r"no finished run: there is no .*models/run\.json"),
  "no JSON": (write(b"{", "run.json"), r"models/run\.json cannot be read"),
  "no UTF-8": (write(b"\xff", "run.json"), r"models/run\.json cannot be read"),
  "no object": (write(b"[]", "run.json"), r"models/run\.json must hold a JSON object"),
  "field gone": (alter("run.json", zero_point="gone"), r"run\.json .*zero_point is missing"),
  "text for a number": (
    alter("run.json", response_length="8"),
    r"run\.json .*response_length is '8', not of type int",
  ),
  "older": (alter("run.json", format=6), r"run\.json has format 6; this version reads 7"),
  "template": (alter("run.json", template=TEMPLATE), r"run\.json: .*trained with template"),
  "half a template": (
    alter("run.json", template={"kind": "plain", "policy": "{prompt}"}),
    r"run\.json: .*template",
  ),
  "no template": (
    alter("run.json", template={"kind": "plain", "question": ""}),
    r"run\.json: .*template",
  ),
  "another kind of template": (
    alter("run.json", template={"kind": "spoken"}),
    r"run\.json: .*its kind is 'spoken'; known are plain, model",
  ),
  "no config": (drop("improver", "config.json"), "improver"),
  "no weights": (drop("gap_reward", "model.safetensors"), "gap_reward"),
  "cut weights": (write(b"1234", "policy", "model.safetensors"), "policy"),
  "wider": (
    alter("policy", "config.json", intermediate_size=32),
    r"models/policy .*shape",
  ),
  "narrow": (alter("policy", "config.json", vocab_size=9), r"policy/config\.json: vocabulary 9"),
  "mixed": (alter("improver", "config.json", rms_norm_eps=5.0), "different models"),
  "another kind": (swap, r"policy/config\.json is of another kind .*language model"),
  "no tokenizer": (drop("tokenizer", "tokenizer.json"), "tokenizer"),
  "another tokenizer": (retell, r"tokenizer\.json is not the tokenizer of this run"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named(run, name):
  damage, message = DAMAGES[name]
  damage(run / "models")
  with pytest.raises(ValueError, match=message):
    load(run)


def test_a_folder_that_is_no_run_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"absent holds no finished run"):
    load(tmp_path / "absent")


def test_rows_too_long_for_a_loaded_run_are_cut_not_dropped(run):
  """A run may have been trained with over_long="drop"; who asks it wants every answer."""
  loaded = load(run)
  answers = loaded.inference.answer(loaded.policy, ["word " * 99], jax.random.key(0), 0.0)
  assert len(answers) == 1


def test_run_json_holds_what_its_record_says(run):
  content = json.loads((run / "models" / "run.json").read_text())
  assert set(content) == {field.name for field in dataclasses.fields(export._Run)}
  assert content["template"]["kind"] == "plain"
  assert content["template"]["policy"] == "Question: {prompt}\nAnswer:"
