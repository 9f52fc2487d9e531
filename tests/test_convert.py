"""Models in and out: a published one becomes a directory, a run's own become ones to serve."""

import dataclasses
import json
import os

import numpy as np
import pytest
import report_example
import test_gguf
import tiny
import tiny_models
import tiny_run
import transformers

from pit_jax.commands import convert as command
from pit_jax.data import conversations, template, text
from pit_jax.exchange import cards, convert, export, families, hf
from pit_jax.models import pure


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """Returns a finished run with a report."""
  workdir = tmp_path_factory.mktemp("run")
  asking = tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))
  export.save(workdir, asking, tiny_models.with_likelihoods(asking), zero_point=0.125)
  (workdir / "report").mkdir()
  results = json.dumps(report_example.example(), default=lambda x: x.tolist())
  (workdir / "report" / "results.json").write_text(results)
  return workdir


def assert_equal(left, right):
  left, right = pure.named(left), pure.named(right)
  assert left.keys() == right.keys()
  for name in left:
    np.testing.assert_array_equal(left[name], right[name])


def test_a_gguf_file_becomes_a_directory(tmp_path, capsys):
  model = tiny.language(**test_gguf.SHAPE)
  params = tiny.parameters(model, seed=0)
  test_gguf.write(tmp_path / "x.gguf", model, params)
  words = text.train_tokenizer(["some words"], 258, tmp_path / "words")
  arguments = ["import", f"--source={tmp_path / 'x.gguf'}", f"--output={tmp_path / 'out'}"]
  with pytest.raises(SystemExit, match=r"258 tokens, the model knows 40.*--tokenizer"):
    command.main([*arguments, f"--tokenizer={tmp_path / 'words'}"])
  assert words.vocab_size == 258
  wide = tiny.language(**test_gguf.SHAPE | {"vocabulary": 300})
  params = tiny.parameters(wide, seed=1)
  test_gguf.write(tmp_path / "x.gguf", wide, params)
  capsys.readouterr()
  command.main([*arguments, f"--tokenizer={tmp_path / 'words'}"])
  said = f"{wide.size:,} parameters, llama, chat template: no → --config.model.base={tmp_path}/out"
  assert capsys.readouterr().out == f"{tmp_path}/out: {said}\n"
  assert families.read(tmp_path / "out") == wide.config
  assert_equal(hf.load(tmp_path / "out", wide), params)
  assert text.load_tokenizer(tmp_path / "out").fingerprint == words.fingerprint


@pytest.mark.parametrize(
  ("fields", "name", "license"),
  [
    ({}, "x-y", None),
    ({"name": "A model", "license": "mit"}, "A-model", "mit"),
    ({"organization": "Some Lab", "basename": "small", "name": "odd"}, "Some-Lab/small", None),
    ({"name": "n", "repo_url": "https://hub.example/lab/small-1b/"}, "lab/small-1b", None),
  ],
)
def test_a_card_names_what_was_brought_in_and_its_licence(tmp_path, fields, name, license):
  model = tiny.language(**test_gguf.SHAPE | {"vocabulary": 300})
  text.train_tokenizer(["some words"], 258, tmp_path / "words")

  def describe(writer):
    for field, value in fields.items():
      writer.add_string(f"general.{field}", value)

  source = tmp_path / "x y.gguf"
  test_gguf.write(source, model, tiny.parameters(model, seed=0), more=describe)
  convert.bring_in(source, tmp_path / "base", tokenizer=tmp_path / "words")
  assert cards.license_of(str(tmp_path / "base")) == license
  config = {"model": {"base": str(tmp_path / "base")}}
  assert cards.base_of(config) == name
  written = (tmp_path / "base" / "README.md").read_text()
  assert all(value in written for value in fields.values())

  # A directory that was brought in before is still what it was.
  convert.bring_in(tmp_path / "base", tmp_path / "again")
  assert cards.license_of(str(tmp_path / "again")) == license


def test_numbers_of_parameters_are_said_in_words():
  said = [convert._counted(number) for number in (9_999, 134_515_008, 8_030_261_248)]
  assert said == ["9,999", "135 million", "8.03 billion"]


def test_weights_may_be_read_by_whom_other_files_may(run, tmp_path):
  before = os.umask(0o027)
  try:
    convert.send_out(run, tmp_path / "out", ["policy"])
  finally:
    os.umask(before)
  modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "out").rglob("*.*")}
  assert modes["model.safetensors"] == 0o640 and set(modes.values()) == {0o640}


def test_an_export_in_another_form_is_not_replaced(run, tmp_path):
  arguments = ["export", f"--workdir={run}", f"--output={tmp_path}"]
  command.main([*arguments, "--models=improver", "--dtype=bfloat16"])
  command.main([*arguments, "--models=improver", "--dtype=bfloat16"])  # as after more training
  with pytest.raises(SystemExit, match="improver holds a model in bfloat16, which one in float32 "):
    command.main(arguments)
  assert [path.name for path in tmp_path.iterdir()] == ["improver"], "nothing is written before"


def test_an_export_is_told_from_a_run_that_is_not_finished(run, tmp_path):
  command.main(["export", f"--workdir={run}", f"--output={tmp_path}", "--models=policy"])
  for folder in (tmp_path, tmp_path / "policy"):
    with pytest.raises(ValueError, match="as pit convert export writes them, and no finished run"):
      export.names(folder)


def test_a_classifier_stays_a_classifier(tmp_path, capsys):
  model = tiny.scalar(vocabulary=300)
  params = tiny.parameters(model, seed=2)
  hf.save(tmp_path / "in", model, params)
  text.train_tokenizer(["some words"], 258, tmp_path / "in")
  command.main(["import", f"--source={tmp_path / 'in'}", f"--output={tmp_path / 'out'}"])
  assert families.is_classifier(tmp_path / "out")
  assert f"a reward model → --config.reward.model={tmp_path}/out\n" in capsys.readouterr().out
  assert_equal(hf.load(tmp_path / "out", model), params)


def test_a_run_is_sent_out_whole(run, tmp_path, capsys):
  command.main(["export", f"--workdir={run}", f"--output={tmp_path}", "--dtype=bfloat16"])
  assert capsys.readouterr().out.split() == [str(tmp_path / name) for name in cards.KINDS]
  for name in cards.KINDS:
    described = json.loads((tmp_path / name / "config.json").read_text())
    scores = name in ("reward", "gap_reward")
    kind = "LlamaForSequenceClassification" if scores else "LlamaForCausalLM"
    assert (described["architectures"], described["dtype"]) == ([kind], "bfloat16")
    model = (pure.scalar_model if scores else pure.language_model)(families.read(tmp_path / name))
    hf.load(tmp_path / name, model)
    assert (tmp_path / name / "generation_config.json").exists() == (not scores)
    card = (tmp_path / name / "README.md").read_text()
    assert cards.KINDS[name] in card and "| pit | original | gold |" in card
  said = transformers.GenerationConfig.from_pretrained(tmp_path / "policy")
  assert (said.max_new_tokens, said.do_sample) == (8, True)


@pytest.mark.parametrize("name", ["policy", "improver"])
def test_the_chat_template_writes_what_the_model_was_trained_on(run, tmp_path, name):
  command.main(["export", f"--workdir={run}", f"--output={tmp_path}", f"--models={name}"])
  words = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
  talk = [
    {"role": "user", "content": " what is {{ it }} ?\n"},
    {"role": "assistant", "content": ' the "word" '},
  ][: 2 if name == "improver" else 1]
  form = template.Template()
  expected = {
    "policy": form.policy.format(prompt="what is {{ it }} ?"),
    "improver": form.improver.format(prompt="what is {{ it }} ?", reference='the "word"'),
  }
  assert words.apply_chat_template(talk, tokenize=False) == expected[name]


@pytest.mark.parametrize("name", ["policy", "improver"])
@pytest.mark.parametrize(
  "roles", [("user",), ("system", "user"), ("user", "assistant", "user"), ("assistant", "user")]
)
def test_conversations_are_asked_in_the_words_they_were_trained_in(run, tmp_path, name, roles):
  command.main(["export", f"--workdir={run}", f"--output={tmp_path}", f"--models={name}"])
  served = transformers.AutoTokenizer.from_pretrained(tmp_path / name)
  talk = tuple(conversations.Turn(role, f"what? {i}\n\nyes") for i, role in enumerate(roles))
  messages, form = [turn._asdict() for turn in talk], template.Template()
  words = text.load_tokenizer(tmp_path / name)
  if name == "improver":
    messages.append({"role": "assistant", "content": "a draft"})
    (ids,) = form.encode(words, form.formats["improver"].conversations([talk], ["a draft"])).ids
  else:
    (ids,) = form.encode(words, form.formats["policy"].conversations([talk])).ids
  assert served.apply_chat_template(messages, tokenize=False) == words.decode(ids)


def test_a_run_without_a_report_is_sent_out_and_says_so(run, tmp_path):
  asking = tiny_models.inference_of(tmp_path / "tokenizer")
  export.save(tmp_path, asking, tiny_models.models_of(asking), zero_point=0.0)
  (directory,) = convert.send_out(tmp_path, tmp_path / "out", ["policy"])
  assert "no report" in (directory / "README.md").read_text()


@pytest.mark.parametrize(
  "names",
  [
    ("policy",),
    ("policy", "reward"),
    ("reward", "gap_reward"),
    ("policy", *export.IMPLICIT),
    export.NAMES,
  ],
)
def test_all_that_a_run_has_is_sent_out(tmp_path, names):
  asking = tiny_models.inference_of(tmp_path / "tokenizer")
  models = tiny_models.with_likelihoods(asking)
  kept = {name: models[name] for name in names}
  export.save(tmp_path, asking, kept, zero_point=0.0 if "gap_reward" in names else None)
  command.main(["export", f"--workdir={tmp_path}", f"--output={tmp_path / 'out'}"])
  assert {path.name for path in (tmp_path / "out").iterdir()} == set(names)


def test_what_cannot_be_converted_is_named(run, tmp_path):
  with pytest.raises(SystemExit, match=r"no model 'critic'; it has gap_reward, implicit_reward"):
    command.main(["export", f"--workdir={run}", f"--output={tmp_path}", "--models=critic"])
  with pytest.raises(SystemExit, match="no finished run"):
    command.main(["export", f"--workdir={tmp_path}", f"--output={tmp_path}"])
  with pytest.raises(SystemExit, match="no tokenizer directory"):
    command.main(["import", f"--source={tmp_path / 'absent'}", f"--output={tmp_path / 'out'}"])


def test_a_run_starts_from_a_directory(tmp_path):
  model = tiny.language(vocabulary=300, qkv_bias=True)
  params = tiny.parameters(model, seed=3)
  hf.save(tmp_path / "base", model, params)
  words = text.train_tokenizer(["Who gets call 5?"], 270, tmp_path / "base")
  config = tiny_run.config(model__base=str(tmp_path / "base"))
  context = tiny_run.build(config, tmp_path / "run")
  assert context.models.language.config == dataclasses.replace(model.config, remat="dots")
  assert context.rows.settings.tokenizer.fingerprint == words.fingerprint
  assert_equal(context.initial_policy(), params)


def test_a_run_refuses_a_directory_whose_files_do_not_belong_together(tmp_path):
  model = tiny.language(vocabulary=200)
  hf.save(tmp_path, model, tiny.parameters(model, seed=3))
  text.train_tokenizer(["Who gets call 5?"], 270, tmp_path)
  with pytest.raises(ValueError, match=r"knows 200 tokens and its tokenizer has \d+"):
    tiny_run.build(tiny_run.config(model__base=str(tmp_path)), tmp_path / "run")
