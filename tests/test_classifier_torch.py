"""Reward models that transformers computes in PyTorch: as a judge, and as R_P of a whole run."""

import json
import os
import pathlib
import subprocess
import sys

import chats
import classifier_forms
import jax
import numpy as np
import pytest
import tiny_run
import transformers
from tokenizers import processors

from pit_jax import parallel
from pit_jax.data import conversations, text
from pit_jax.exchange import convert, export
from pit_jax.recipes import rlhf, running
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.run import published_models
from pit_jax.stages import reward

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `torch`")
pytestmark = pytest.mark.parity

QUESTIONS = ["who calls Ann?", "the letter ?", "the rent is 12 . café 東京", "who calls Ann?"]
ANSWERS = ["Mia does.", "the bill , please", "rent", "Ann calls Mia , please , and the letter"]
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SMALL |= {"intermediate_size": 24, "max_position_embeddings": 64, "num_labels": 1}


def network_of(place, config, seed=3):
  """Writes a classifier with random weights, far from any initial ones."""
  torch.manual_seed(seed)
  network = transformers.AutoModelForSequenceClassification.from_config(config).eval()
  with torch.no_grad():
    for name, weight in network.named_parameters():
      mean = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
      weight.copy_(mean + 0.4 * torch.randn(weight.shape))
  network.save_pretrained(place)


def deberta(place, template=None):
  """Returns the directory of a DeBERTa, whose tokenizer reads text pairs."""
  text.train_tokenizer(classifier_forms.TEXTS, 400, place)
  rust = transformers.PreTrainedTokenizerFast.from_pretrained(place).backend_tokenizer
  rust.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
  marks = [(token, rust.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
  rust.post_processor = processors.TemplateProcessing(
    "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", marks
  )
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=rust, pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
  )
  fast.model_max_length, fast.chat_template = 64, template
  fast.save_pretrained(place)
  network_of(
    place,
    transformers.DebertaV2Config(
      vocab_size=len(fast),
      pad_token_id=fast.pad_token_id,
      type_vocab_size=2,
      relative_attention=True,
      position_buckets=8,
      pos_att_type=["p2c", "c2p"],
      **SMALL,
    ),
  )
  return place


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
  return deberta(tmp_path_factory.mktemp("deberta"))


def loaded(place, **changes):
  lengths = {"data__max_prompt_length": 60, "data__max_response_length": 60} | changes
  _, found = published_models.find(
    tiny_run.config(evaluation__reward_model=str(place), **lengths), "cpu"
  )
  return found.load(parallel.make_mesh((1, 1, 1), devices=jax.devices()[:1]), batch_size=2)


def scores_of(place, given):
  """Returns what transformers says of rows as the tokenizer gives them, each by itself."""
  network = transformers.AutoModelForSequenceClassification.from_pretrained(place).eval()
  with torch.no_grad():
    return np.array([network(**row).logits.item() for row in given])


def as_pairs(place, questions, answers):
  fast = transformers.AutoTokenizer.from_pretrained(place)
  rows = zip(questions, answers, strict=True)
  return scores_of(place, [fast(*row, return_tensors="pt") for row in rows])


def as_chats(place, talks):
  fast = transformers.AutoTokenizer.from_pretrained(place)
  options = {"return_tensors": "pt", "return_dict": True}
  return scores_of(place, [fast.apply_chat_template(talk, **options) for talk in talks])


def test_a_pair_has_the_score_that_transformers_gives_it(pairs):
  expected = as_pairs(pairs, QUESTIONS, ANSWERS)
  assert expected.std() > 0.1
  np.testing.assert_allclose(loaded(pairs).rate(QUESTIONS, ANSWERS), expected, atol=1e-5)


def test_a_conversation_is_a_pair_of_plain_text_and_answer(pairs):
  talk = tuple(
    conversations.Turn(*turn) for turn in [("user", "a"), ("assistant", "b"), ("user", "c")]
  )
  written = "Human: a\n\nAssistant: b\n\nHuman: c\n\nAssistant:"
  found = loaded(pairs).rate([talk], ["the rent"])
  np.testing.assert_allclose(found, as_pairs(pairs, [written], ["the rent"]), atol=1e-5)


def test_a_template_goes_before_a_pair_and_a_key_before_both(tmp_path):
  place = deberta(tmp_path, "{% for m in messages %}{{ m.role }}: {{ m.content }}[SEP]{% endfor %}")
  talks = [
    [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    for question, answer in zip(QUESTIONS, ANSWERS, strict=True)
  ]
  chat, pair = as_chats(place, talks), as_pairs(place, QUESTIONS, ANSWERS)
  assert np.abs(chat - pair).max() > 0.05
  for reader, expected in (("auto", chat), ("chat", chat), ("pair", pair)):
    found = loaded(place, evaluation__reward_reader=reader).rate(QUESTIONS, ANSWERS)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# Of a bidirectional one with token types, of decoders with and without padding.
@pytest.mark.parametrize("family", ["bert", "gpt2", "gpt2 without padding", "qwen2"])
def test_other_families_have_the_scores_that_transformers_gives_them(family, tmp_path):
  if family == "qwen2":  # one of ours, by the key
    place, changes = classifier_forms.save(tmp_path, "qwen2", "<|im_end|>"), {}
    talks = [[("user", question)] for question in QUESTIONS]
    spelled = [
      [*chats.spell(talk), {"role": "assistant", "content": answer}]
      for talk, answer in zip(talks, ANSWERS, strict=True)
    ]
    expected, changes = as_chats(place, spelled), {"evaluation__reward_backend": "torch"}
  else:
    place, changes = deberta(tmp_path), {}
    fast = transformers.AutoTokenizer.from_pretrained(place)
    kind = transformers.BertConfig if family == "bert" else transformers.GPT2Config
    pad = None if family.endswith("padding") else fast.pad_token_id
    network_of(place, kind(vocab_size=len(fast), pad_token_id=pad, **SMALL))
    expected = as_pairs(place, QUESTIONS, ANSWERS)
  assert expected.std() > 0.03
  found = loaded(place, **changes).rate(QUESTIONS, ANSWERS)
  np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_is_too_long_loses_the_beginning_of_the_question_and_the_answers_end(pairs):
  judge = loaded(pairs)
  read = judge.reader.read(["first " * 80 + "last", "q"], ["the rent", "one " * 90])
  assert read.is_cut.tolist() == [True, True] and max(map(len, read.ids)) <= 64
  asked, said = judge.reader.fast.batch_decode(read.ids)
  assert asked.startswith("[CLS]first") and "last[SEP]the rent[SEP]" in asked
  assert said.startswith("[CLS]q[SEP]one one") and said.endswith("one [SEP]")


@pytest.mark.parametrize(
  ("kind", "longest"),
  [
    (transformers.RobertaConfig, 62),  # of 64 positions the first two are not a token's
    (transformers.BertConfig, 64),
    (transformers.XLNetConfig, 120),  # its positions have no end: ROOM for the run's lengths
  ],
)
def test_no_more_tokens_are_read_than_there_are_positions(kind, longest, tmp_path):
  """Many tokenizers do not say how long a text may be."""
  fast = transformers.AutoTokenizer.from_pretrained(deberta(tmp_path))
  fast.model_max_length = int(1e30)
  fast.save_pretrained(tmp_path)
  small = SMALL
  if kind is transformers.XLNetConfig:
    small = {"d_model": 16, "n_layer": 2, "n_head": 2, "d_inner": 24, "num_labels": 1}
  network_of(tmp_path, kind(vocab_size=len(fast), pad_token_id=1, **small))
  judge = loaded(tmp_path, data__max_prompt_length=30, data__max_response_length=30)
  questions, answers = ["why ? " * 80, "q"], ["the rent " * 80, "the rent"]
  read = judge.reader.read(questions, answers)
  assert longest - 4 < max(map(len, read.ids)) <= longest and read.is_cut.tolist() == [True, False]
  assert np.isfinite(judge.rate(questions, answers)).all()


def test_weights_that_are_not_all_there_are_refused(pairs, tmp_path):
  network = transformers.AutoModelForSequenceClassification.from_pretrained(pairs)
  network.deberta.save_pretrained(tmp_path)
  config = json.loads((pairs / "config.json").read_text())
  (tmp_path / "config.json").write_text(json.dumps(config))
  transformers.AutoTokenizer.from_pretrained(pairs).save_pretrained(tmp_path)
  with pytest.raises(ValueError, match=r"the weights lack classifier\.bias, .*would be random"):
    loaded(tmp_path)


WITHOUT = """
import sys
sys.path[:0] = ["tests"]
import tiny_run
from pit_jax.run import published_models
published_models.find(tiny_run.config(reward__model=sys.argv[1]), "cpu")
"""


def test_without_pytorch_one_sentence_names_the_command(pairs):
  """Processes that tests start see no torch."""
  asked = [sys.executable, "-c", WITHOUT, str(pairs)]
  root = pathlib.Path(__file__).resolve().parent.parent
  process = subprocess.run(asked, capture_output=True, text=True, cwd=root, check=False)
  last = process.stderr.strip().splitlines()[-1]
  assert last.startswith("ValueError: reward.model=") and "'deberta-v2'" in last
  assert last.endswith("pip install 'pit_jax[torch]'")


@pytest.fixture(scope="module")
def run(pairs, tmp_path_factory):
  """A finished run of recipe rlhf whose R_P is computed in PyTorch, and its models."""
  workdir = tmp_path_factory.mktemp("run")
  asking = tiny_run.experimenting(rlhf, "main", "frontier")
  with tiny_run.unrendered(), asking, tiny_run.watched(rlhf) as kept:
    config = tiny_run.config("rlhf", reward__model=str(pairs), evaluation__prompts=8)
    running.run(config, workdir)
  return kept[0]


def test_it_rewards_and_judges_in_a_run(run, pairs):
  context, policy = run
  found = reward.rating(context, policy.reward)(QUESTIONS, ANSWERS)
  expected = policy.reward.facts["gain"] * as_pairs(pairs, QUESTIONS, ANSWERS)
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
  # No array of JAX holds its weights, and no model of the run starts from it.
  assert policy.reward.params is None and not policy.reward.fits
  results = context.read_json("report", "results.json")
  assert {row["judge"] for row in results["comparisons"]} == {"gold", "R_P"}
  logged = (context.workdir / "metrics" / "rl_policy.jsonl").read_text().splitlines()
  assert np.std([json.loads(line)["objective/score"] for line in logged]) > 0


def test_it_is_exported_and_sent_out_as_it_came(run, pairs, tmp_path):
  context, policy = run
  expected = reward.rating(context, policy.reward)(QUESTIONS, ANSWERS)
  again = export.load_published(context.workdir, mesh=context.mesh)
  np.testing.assert_allclose(again.rate(QUESTIONS, ANSWERS), expected, rtol=1e-6, atol=1e-6)
  (directory,) = convert.send_out(context.workdir, tmp_path, ["reward"])
  files = {path.name: path.read_bytes() for path in pairs.iterdir()}
  assert files.items() <= {path.name: path.read_bytes() for path in directory.iterdir()}.items()
  card = (directory / "README.md").read_text()
  code = card.split("```python\n")[1].split("```")[0]
  asked = [sys.executable, "-c", code]
  root = pathlib.Path(__file__).resolve().parent.parent
  environment = os.environ | {"PYTHONPATH": str(root)}  # with torch
  said = subprocess.run(
    asked, capture_output=True, text=True, cwd=tmp_path, check=True, env=environment
  ).stdout
  (right,) = reward.rating(context, policy.reward)(["1 + 1 = ?"], ["2"])
  assert float(said) == pytest.approx(right, abs=1e-4)


def test_the_same_command_finds_everything_finished(run):
  context, policy = run
  again = policy_chain.train_policy(tiny_run.build(context.config, context.workdir))
  jax.tree.map(np.testing.assert_array_equal, again.rl.params, policy.rl.params)
