"""Model cards and what they promise: outside, an exported model answers as it did in the run."""

import contextlib
import dataclasses
import io
import json
import re

import chats
import numpy as np
import pytest
import tiny
import tiny_models
import transformers
import yaml

from pit_jax.data import chat, conversations, template
from pit_jax.exchange import cards, convert, export
from pit_jax.models import architecture, pure
from pit_jax.recipes import pit
from pit_jax.report import presentation

ADAPTER = architecture.Adapter(rank=2, alpha=3.0)
TALK = tuple(
  conversations.Turn(role, content)
  for role, content in (("user", "the letter ?"), ("assistant", "to mia"), ("user", "(naïve) 東京"))
)
QUESTIONS = ["the rent", TALK, "is 12.5 the bill", TALK[2:], " why, mia \n", "the letter to mia"]
QUESTIONS += ["a", TALK, "{{ it }}", '"the bill"']
ANSWERS = [
  "4",
  "",
  "no .",
  " to mia,\nplease ",
  "東京",
  "a",
  "b",
  "the bill is 12 . rent 4",
  "4 .",
  "!",
]
REFERENCES = ANSWERS[3:] + ANSWERS[:3]


@dataclasses.dataclass(frozen=True)
class Sent:
  """A run with adapters, sent out whole and as adapters beside their base."""

  asking: object
  models: dict
  whole: object
  apart: object

  def scores(self, name):
    if name == "reward":
      return self.asking.rate(self.models[name], QUESTIONS, ANSWERS)
    return self.asking.gaps(self.models[name], QUESTIONS, ANSWERS, REFERENCES)

  def texts(self, words, name):
    """Returns what a tokenizer's own template writes of each question with its answers."""
    texts = []
    for question, reference, answer in zip(QUESTIONS, REFERENCES, ANSWERS, strict=True):
      messages = chats.spell(conversations.turns(question))
      said = [reference, answer] if name == "gap_reward" else [answer]
      messages += [{"role": "assistant", "content": content} for content in said]
      texts.append(words.apply_chat_template(messages, tokenize=False))
    return texts


@pytest.fixture(scope="module", params=["plain", "model"])
def sent(request, tmp_path_factory):
  folder = tmp_path_factory.mktemp(request.param)
  words = chats.save(folder / "base", "llama3", adds_bos=True)
  (folder / "base" / "README.md").write_text("---\nlicense: apache-2.0\n---\n# Base\n")
  form, words = chat.choose(request.param, words, template.Template(), "Write a better one.")
  asking = tiny_models.inference_of(folder / "unused", max_prompt_length=99, max_response_length=40)
  shape = dataclasses.replace(
    asking.language.config, vocabulary=words.vocab_size, tied=False, adapter=ADAPTER
  )
  asking = dataclasses.replace(
    asking,
    language=pure.language_model(shape),
    scalar=pure.scalar_model(shape),
    settings=dataclasses.replace(asking.settings, tokenizer=words, template=form),
    response_length=40,
  )
  models = tiny_models.with_likelihoods(asking)
  base = tiny.parameters(asking.language, seed=8)
  for params in models.values():  # one base below adapters of their own
    adapters = params["trunk"]["blocks"]["adapters"]
    params["trunk"] = base["trunk"] | {"blocks": base["trunk"]["blocks"] | {"adapters": adapters}}
  for name in export.LANGUAGE:
    models[name]["head"] = base["head"]
  export.save(folder / "run", asking, models, zero_point=0.0)
  described = {
    "model": {"base": str(folder / "base")},
    "data": {"source": "hf:Anthropic/hh-rlhf:train"},
  }
  (folder / "run" / "config.json").write_text(json.dumps(described))
  convert.send_out(folder / "run", folder / "out", list(cards.KINDS))
  convert.send_out(folder / "run", folder / "first", list(cards.KINDS), as_adapters=True)
  (folder / "first").rename(folder / "moved")
  return Sent(asking, models, folder / "out", folder / "moved")


def card(directory):
  """Returns the front matter of a directory's card, its code and its text."""
  content = (directory / "README.md").read_text(encoding="utf-8")
  _, data, text = content.split("---\n", 2)
  (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
  return yaml.safe_load(data), code, text


@pytest.mark.parametrize("name", cards.KINDS)
def test_cards_name_licence_base_and_data(sent, name):
  for directory, library in ((sent.whole / name, "transformers"), (sent.apart / name, "peft")):
    data, _, text = card(directory)
    assert (data["license"], data["base_model"]) == ("apache-2.0", "base")
    assert data["datasets"] == ["Anthropic/hh-rlhf"] and data["library_name"] == library
    assert cards.KINDS[name] in text and "/tmp" not in text
    assert ("newly initialised" in text) == (library == "peft" and name in cards.SCORED)


def test_a_licence_is_given_or_said_to_be_unknown(sent, tmp_path):
  workdir = sent.whole.parent / "run"
  (directory,) = convert.send_out(workdir, tmp_path / "mit", ["policy"], license="mit")
  assert card(directory)[0]["license"] == "mit"
  bare = tmp_path / "bare"
  (workdir / "models").rename(bare.with_name("models"))
  try:
    bare.mkdir()
    (bare / "models").symlink_to(tmp_path / "models")
    (directory,) = convert.send_out(bare, tmp_path / "out", ["policy"])
  finally:
    bare.with_name("models").rename(workdir / "models")
  data, _, text = card(directory)
  assert (data["license"], data["license_name"]) == ("other", "unnamed")
  assert "Nobody named a licence" in text and "base_model" not in data


@pytest.mark.parametrize(
  ("base", "source", "names"),
  [
    ("auto", "synthetic", ("pit_jax-embedded", ["pit_jax-synthetic"])),
    ("embedded_weak", "synthetic", ("pit_jax-embedded_weak", ["pit_jax-synthetic"])),
    ("embedded_words", "synthetic", ("pit_jax-embedded_words", ["pit_jax-synthetic"])),
    ("none", "jsonl:data/my rows.jsonl.gz", (None, ["my-rows"])),
    ("models/SmolLM2-135M/", "hf:a/b/c:train", ("SmolLM2-135M", ["a/b"])),
    ("hub/models--Qwen--Qwen2.5-0.5B/snapshots/1a2", "tfds:hh:x", ("Qwen/Qwen2.5-0.5B", ["hh-x"])),
  ],
)
def test_bases_and_data_sets_have_the_hubs_names(base, source, names):
  config = {"model": {"base": base}, "data": {"source": source}}
  assert (cards.base_of(config), cards.datasets_of(config)) == names


def run_code(directory, monkeypatch):
  """Returns what the code of a directory's card prints where it says that it is to be run."""
  monkeypatch.chdir(directory.parent)
  said = io.StringIO()
  with contextlib.redirect_stdout(said):
    exec(card(directory)[1], {})
  return said.getvalue()


@pytest.mark.parity
@pytest.mark.parametrize("form", ["whole", "apart"])
@pytest.mark.parametrize("name", cards.SCORED)
def test_the_cards_code_prints_the_runs_score(sent, monkeypatch, name, form):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  pytest.importorskip("peft", reason="peft is absent; install the extra `parity`")
  directory = getattr(sent, form) / name
  code = card(directory)[1]
  assert len([line for line in code.splitlines() if line]) <= 6
  asked = ([cards.QUESTION], [cards.ANSWER])
  if name == "reward":
    (score,) = sent.asking.rate(sent.models[name], *asked)
  else:
    (score,) = sent.asking.gaps(sent.models[name], *asked, [cards.REFERENCE])
  assert float(run_code(directory, monkeypatch)) == pytest.approx(score, abs=1e-4)
  assert float(code.rpartition("#")[2]) == pytest.approx(score, abs=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("form", ["whole", "apart"])
@pytest.mark.parametrize("name", ["policy", "improver"])
def test_the_cards_code_asks_with_the_ids_of_training(sent, monkeypatch, name, form):
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  pytest.importorskip("peft", reason="peft is absent; install the extra `parity`")
  settings, seen = sent.asking.settings, []
  columns = [[cards.QUESTION], [cards.REFERENCE]][: 1 + (name == "improver")]
  asked = settings.formats[name].conversations(*columns)
  (expected,) = settings.template.encode(settings.tokenizer, asked).ids

  def generate(self, input_ids, **_):
    seen.append((input_ids.tolist(), self.generation_config))
    return torch.cat([input_ids, input_ids[:, :1]], dim=1)

  monkeypatch.setattr(transformers.GenerationMixin, "generate", generate)
  run_code(getattr(sent, form) / name, monkeypatch)
  ((ids, config),) = seen
  assert ids == [expected]
  assert config.eos_token_id == list(settings.tokenizer.stop_ids)
  assert (config.do_sample, config.temperature, config.top_k) == (True, 1.0, 0)
  assert (config.top_p, config.max_new_tokens) == (1.0, sent.asking.response_length)


@pytest.mark.parity
@pytest.mark.parametrize("name", cards.SCORED)
def test_pipelines_give_the_runs_scores(sent, name):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  judge = transformers.pipeline("text-classification", str(sent.whole / name))
  texts = sent.texts(judge.tokenizer, name)
  found = [row["score"] for row in judge(texts, function_to_apply="none")]
  expected = sent.scores(name)
  assert np.std(expected) > 0.1  # or the comparison says little
  np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
  # The answer's label is a number: left alone, a pipeline gives it as it is and no probability.
  np.testing.assert_allclose([row["score"] for row in judge(texts)], expected, rtol=0, atol=1e-4)
  batched = judge(texts, batch_size=4, padding=True)
  np.testing.assert_allclose([row["score"] for row in batched], expected, rtol=0, atol=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("form", ["whole", "apart"])
@pytest.mark.parametrize("name", cards.SCORED)
def test_classifiers_give_the_runs_scores_of_a_padded_batch(
  sent, monkeypatch, caplog, name, form, side
):
  torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  peft = pytest.importorskip("peft", reason="peft is absent; install the extra `parity`")
  monkeypatch.chdir(getattr(sent, form))
  if form == "whole":
    model = transformers.AutoModelForSequenceClassification.from_pretrained(name)
  else:
    model = peft.AutoPeftModelForSequenceClassification.from_pretrained(name)
    report = caplog.text  # which the card explains
    assert "score.weight" in report and "MISSING" in report
  words = transformers.AutoTokenizer.from_pretrained(name, padding_side=side)
  given = words(sent.texts(words, name), padding=True, return_tensors="pt")
  with torch.no_grad():
    found = model.eval()(**given).logits[:, 0].numpy()
  np.testing.assert_allclose(found, sent.scores(name), rtol=0, atol=1e-4)


def test_a_tokenizer_that_transformers_would_replace_is_opened_by_its_file(tmp_path):
  words = chats.save(tmp_path, "chatml")
  alike = cards.is_opened_alike(tmp_path)
  assert alike
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
  assert not cards.is_opened_alike(tmp_path)
  written_by(presentation.ANY).write(tmp_path)
  code = card(tmp_path)[1].replace('"reward"', repr(str(tmp_path)))
  opened = {}
  exec("\n".join(code.splitlines()[:3]), opened)
  ours = words.encode("the letter 12.5")
  assert opened["words"]("the letter 12.5", add_special_tokens=False).input_ids == ours


def written_by(method):
  """Returns the card of a reward model that nothing else is known of."""
  fields = {"name": "reward", "made": "Made", "license": None, "base": None, "datasets": []}
  fields |= {"limits": (8, 8), "score": 0.5, "has_adapters": False, "results": None}
  return cards.Card(**fields, is_opened_alike=False, method=method)


TAGS = ("pit", "self-improvement")


def test_a_card_names_the_method_where_it_was_published(tmp_path):
  for method, tags, said in (
    (
      pit.RECIPE.page,
      ["pit", "self-improvement", "preference-learning"],
      "(PIT, arXiv 2310.00898)",
    ),
    (presentation.ANY, ["preference-learning"], "Made; the reward model: scores an answer."),
  ):
    written_by(method).write(tmp_path)
    data, _, text = card(tmp_path)
    assert data["tags"] == tags and said in text
