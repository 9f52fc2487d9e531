"""A run from a chat model: conversations in, the model's own template throughout and out."""

import dataclasses
import io
import json
import pathlib
import runpy
import sys

import chats
import jax
import pytest
import tiny
import tiny_models
import tiny_run
import transformers

from pit_jax import parallel
from pit_jax.data import conversations, encode, questions, text
from pit_jax.exchange import convert, export, hf
from pit_jax.recipes import running

ROOT = pathlib.Path(__file__).resolve().parent.parent
ASKED = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why, mia ?"}]


def save_base(directory, name, **options):
  tokenizer = chats.save(directory, name, **options)
  model = tiny.language(vocabulary=tokenizer.vocab_size + 3)
  hf.save(directory, model, tiny.parameters(model, seed=0))


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
  """The context of a run that starts from a chat model on conversations of one to three turns."""
  folder = tmp_path_factory.mktemp("chat")
  save_base(folder / "base", "llama3")
  talk = [
    {"role": "user", "content": "the rent ?"},
    {"role": "assistant", "content": "4"},
  ]
  rows = [
    {
      "prompt": [*talk[: i % 2 * 2], {"role": "user", "content": f"the letter {i} ?"}],
      "chosen": [{"role": "assistant", "content": f"to mia {i}"}],
      "rejected": [{"role": "assistant", "content": f"to tom {i}"}],
    }
    for i in range(80)
  ]
  (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
  changes = {"model__base": str(folder / "base"), "data__source": f"jsonl:{folder / 'rows.jsonl'}"}
  config = tiny_run.config(data__rows=80, data__max_prompt_length=64, **changes)
  return tiny_run.build(config, folder / "run")


@pytest.fixture(scope="module")
def exported(begun):
  """The run's models, untrained, as a finished run."""
  export.save(
    begun.workdir, begun.models.inference, tiny_models.models_of(begun.models.inference), 0.0
  )
  return begun.workdir


def test_auto_takes_the_models_own_template(begun):
  settings = begun.rows.settings
  assert settings.template.kind == "model"
  (end,) = settings.tokenizer.encode_form("<|eot_id|>")
  assert (settings.tokenizer.eos_id, len(settings.tokenizer.stop_ids)) == (end, 2)
  record = encode.demonstrations(begun.rows.folds["sft"], settings.formats["policy"], settings)[:]
  ended = [row[mask][-1] for row, mask in zip(record.responses.tokens, record.responses.mask)]
  assert set(ended) == {end}
  assert begun.rows.over_long() == {"cut": 0, "dropped": 0}


def test_the_embedded_task_stays_plain(tmp_path):
  context = tiny_run.build(tiny_run.config(model__base="auto"), tmp_path)
  assert context.config.data.chat == "auto" and context.rows.settings.template.kind == "plain"
  assert context.rows.settings.tokenizer.chat_template is None


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"data__chat": "model"}, "learnt here has no chat template"),
    ({"data__chat": "model", "model__base": "embedded"}, "the tokenizer has no chat template"),
    (
      {"data__chat": "maybe", "model__base": "embedded"},
      "data.chat='maybe'; use one of auto, plain",
    ),
  ],
)
def test_a_template_that_is_not_there_is_named(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    tiny_run.build(tiny_run.config(**changes), tmp_path)
  assert not (tmp_path / "config.json").exists()


def test_a_finished_run_is_asked_as_it_was_trained(begun, exported):
  loaded = export.load(exported, mesh=parallel.make_mesh((1, 1, 1)), batch_size=2)
  ours, theirs = begun.rows.settings, loaded.inference.settings
  assert theirs.template == ours.template
  assert theirs.tokenizer.stop_ids == ours.tokenizer.stop_ids
  prompt = tuple(conversations.Turn(**turn) for turn in ASKED)
  answers = loaded.inference.answer(loaded.policy, [prompt, "why ?"], jax.random.key(0), 1.0)
  again = begun.models.inference.answer(loaded.policy, [prompt, "why ?"], jax.random.key(0), 1.0)
  assert answers == again and len(answers) == 2


@pytest.mark.parametrize("name", ["policy", "improver"])
def test_what_is_served_is_asked_as_it_was_trained(begun, exported, tmp_path, name):
  (directory,) = convert.send_out(exported, tmp_path, [name])
  fast = transformers.AutoTokenizer.from_pretrained(directory)
  form, tokenizer = begun.rows.settings.template, begun.rows.settings.tokenizer
  prompt, draft = tuple(conversations.Turn(**turn) for turn in ASKED), "to mia"
  options = {"add_generation_prompt": True, "return_dict": False}
  if name == "policy":
    (expected,) = form.encode(tokenizer, form.formats["policy"].conversations([prompt])).ids
    assert fast.apply_chat_template(ASKED, **options) == expected
  else:
    (expected,) = form.encode(
      tokenizer, form.formats["improver"].conversations([prompt], [draft])
    ).ids
    asked = [*ASKED, {"role": "assistant", "content": draft}]
    assert fast.apply_chat_template(asked, **options) == expected
  said = transformers.GenerationConfig.from_pretrained(directory)
  assert said.eos_token_id == list(tokenizer.stop_ids)
  assert said.pad_token_id not in said.eos_token_id


def test_sampling_ends_at_any_stop_id(begun):
  """With every token but one a stop id, that one alone stands before the end."""
  tokenizer = begun.rows.settings.tokenizer
  every = [i for i in range(begun.models.language.config.vocabulary) if i != tokenizer.pad_id]
  settings = dataclasses.replace(
    begun.rows.settings, tokenizer=text.Tokenizer(tokenizer._fast, every)
  )
  asking = dataclasses.replace(begun.models.inference, settings=settings)
  prompts = encode.prompts(
    settings.formats["policy"].conversations(["why ?", "the rent ?"] * 8), settings
  )[:]
  params = tiny_models.models_of(asking)["policy"]
  responses = asking.respond(params, prompts, jax.random.key(0), 1.0)
  for tokens, mask in zip(responses.tokens, responses.mask, strict=True):
    assert set(tokens[mask][:-1].tolist()) <= {tokenizer.pad_id}


def test_a_conversation_to_improve_is_read_and_comes_back(begun):
  check = begun.models.inference.check_prompt
  rows = [{"prompt": ASKED, "id": 1}, {"prompt": ASKED[:1]}, {"prompt": [*ASKED, {"role": "tool"}]}]
  rows += [{"prompt": [{"role": "user", "content": " "}]}, {"prompt": []}]
  stream = io.BufferedReader(io.BytesIO("\n".join(map(json.dumps, rows)).encode()))
  good, *bad = questions.read(stream, check)
  assert good.prompt == (("system", "be brief"), ("user", "why, mia ?"))
  assert good.fields == rows[0]
  reasons = ["not a conversation: 'prompt' must end with a message of the user"]
  reasons += ["not a conversation: 'prompt'[2] has the role 'tool'"]
  reasons += ["empty field: 'prompt[0].content'", "not a conversation"]
  for question, reason in zip(bad, reasons, strict=True):
    assert question.error.startswith(reason)


def test_a_conversation_that_the_template_refuses_is_one_bad_row(tmp_path):
  save_base(tmp_path, "mistral")
  config = tiny_run.config(model__base=str(tmp_path))
  asking = tiny_run.build(config, tmp_path / "run").models.inference
  line = json.dumps({"prompt": ASKED}).encode() + b'\n{"prompt": "why ?"}'
  refused, good = questions.read(io.BufferedReader(io.BytesIO(line)), asking.check_prompt)
  assert refused.error.startswith("refused by the chat template: ") and good.error is None


@pytest.mark.slow
def test_a_chat_model_is_trained_to_its_report_and_improves_conversations(
  begun, tmp_path, monkeypatch, unrendered
):
  sizes = {"evaluation__prompts": 8, "evaluation__self_refine__max_feedback_tokens": 32}
  config = tiny_run.with_values(begun, tmp_path, data__held_out=0.3, **sizes).config
  running.run(config, tmp_path)
  results = json.loads((tmp_path / "report" / "results.json").read_text())
  sample = results["samples"][0]["prompt"]
  assert sample.startswith("Human: ") and sample.endswith(" ?\n\nAssistant:")
  count = config.evaluation.rounds
  assert not results["absent"] and [row["k"] for row in results["self_refine"]] == [1, 2]
  assert {f"{name} {k}" for name in ("pit", "self_refine") for k in range(1, count + 1)} == {
    row["system"] for row in results["ratings"]
  } - {"original"}
  pairs = {(row["a"], row["b"]) for row in results["comparisons"]}
  assert {("self_refine", "original"), ("pit", "self_refine")} <= pairs
  assert ("pit_rounds", "self_refine_rounds") in pairs
  assert {"self_refine", "self_refine_rounds"} <= results["systems"].keys()
  paid = {row["budget"]: row for row in results["cost"] if row["system"] == "self_refine"}
  assert list(paid) == [1, 3, 5] and paid[1]["tokens"] < paid[3]["tokens"]
  assert results["sampling"]["self_refine"] >= 0
  assert len(results["samples"][0]["self_refine"]) == count
  written = (tmp_path / "references" / "policy.jsonl").read_text().splitlines()
  assert all(json.loads(line)["prompt"].endswith("Assistant:") for line in written)
  given, made = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
  given.write_text(json.dumps({"prompt": ASKED, "id": 3}) + "\n")
  files = [f"--workdir={tmp_path}", f"--input={given}", f"--output={made}"]
  # As `python launch/improve.py` does, in this process, which has traced most of it.
  monkeypatch.setattr(sys, "argv", ["improve.py", *files, "--mesh=1,1,1", "--batch_size=32"])
  monkeypatch.setattr(sys, "path", [*sys.path])
  runpy.run_path(str(ROOT / "launch" / "improve.py"), run_name="__main__")
  row = json.loads(made.read_text())
  assert (row["prompt"], row["id"]) == (ASKED, 3) and "error" not in row
  assert row["rounds"][0]["text"] is not None
