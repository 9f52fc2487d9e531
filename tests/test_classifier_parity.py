"""Published classifiers against transformers: the same conversations, the same scores."""

import dataclasses
import functools

import classifier_forms
import jax
import numpy as np
import pytest
import tiny_run
import transformers

from pit_jax import parallel
from pit_jax.data import chat, conversations, template, text
from pit_jax.exchange import convert
from pit_jax.run import published_models

torch = pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
pytestmark = pytest.mark.parity

USER, ASSISTANT, SYSTEM = "user", "assistant", "system"
ONE = ((USER, "who calls Ann?"),)
SEVERAL = ((USER, "the letter ?"), (ASSISTANT, "rent 12"), (USER, "who calls Mia , please ?"))
TOLD = ((SYSTEM, "the bill is naïve"), *SEVERAL)
ANSWERS = ["Mia does.", "the rent", "café 東京 4", "Ann calls Mia , please ."]
# Family, what config.json calls padding, and whether the template takes a system's turn.
CASES = [
  ("llama", "<|eot_id|>", True),  # of which an answer's end is padding
  ("llama", None, True),
  ("smollm2", "<|im_end|>", True),
  ("mistral", "</s>", False),
  ("qwen2", "<|endoftext|>", True),
  ("qwen2", "<|im_end|>", True),
  ("qwen3", "<|endoftext|>", True),
  ("gemma2", "<pad>", False),
  ("gemma3_text", "<pad>", True),
]


@functools.cache
def opened(place, **settings):
  config = tiny_run.config(
    reward__model=str(place), data__max_prompt_length=90, data__max_response_length=60, **settings
  )
  found, _ = published_models.find(config, "cpu")
  return found.load(parallel.make_mesh((1, 1, 1), devices=jax.devices()[:1]), batch_size=4)


@functools.cache
def theirs(place):
  kind = transformers.AutoModelForSequenceClassification
  return kind.from_pretrained(place).eval(), transformers.AutoTokenizer.from_pretrained(place)


def expected(place, talk, answer):
  """Returns the score of one conversation, asked as a batch of one."""
  network, fast = theirs(place)
  messages = [*classifier_forms.chats.spell(talk), {"role": ASSISTANT, "content": answer}]
  given = fast.apply_chat_template(messages, return_tensors="pt", return_dict=True)
  with torch.no_grad():
    return network(**{name: given[name] for name in ("input_ids", "attention_mask")}).logits.item()


def asked(has_system):
  """Returns conversations of one and of several turns, and their answers."""
  talks = [ONE, SEVERAL, *([TOLD] if has_system else [])]
  pairs = [(talk, answer) for talk in talks for answer in ANSWERS]
  return [talk for talk, _ in pairs], [answer for _, answer in pairs]


def rate(classifier, talks, answers):
  prompts = [tuple(conversations.Turn(*turn) for turn in talk) for talk in talks]
  return classifier.rate(prompts, answers)


@pytest.mark.parametrize("family, pad, has_system", CASES)
def test_scores_are_those_of_the_familys_classifier(family, pad, has_system, tmp_path):
  place = classifier_forms.save(tmp_path, family, pad)
  talks, answers = asked(has_system)
  found = rate(opened(place), talks, answers)
  right = np.array([expected(place, *pair) for pair in zip(talks, answers, strict=True)])
  assert right.std() > 0.1
  np.testing.assert_allclose(found, right, atol=2e-4)
  # In one batch, padded on the left, transformers says the same.
  network, fast = theirs(place)
  if pad:
    fast.padding_side = "left"
    said = [
      [*classifier_forms.chats.spell(talk), {"role": ASSISTANT, "content": answer}]
      for talk, answer in zip(talks, answers, strict=True)
    ]
    given = fast.apply_chat_template(said, padding=True, return_tensors="pt", return_dict=True)
    with torch.no_grad():
      batched = network(given["input_ids"], attention_mask=given["attention_mask"]).logits[:, 0]
    np.testing.assert_allclose(found, batched.numpy(), atol=2e-4)


def test_the_order_of_answers_hangs_on_the_place(tmp_path):
  """One token earlier, at the end of the turn, a ChatML classifier orders answers otherwise."""
  place = classifier_forms.save(tmp_path, "qwen2", "<|endoftext|>")
  classifier = opened(place)
  found = rate(classifier, [ONE] * 4, ANSWERS)
  ids = classifier.reader.read([ONE[0][1]] * 4, ANSWERS).ids
  earlier = [theirs(place)[0](torch.tensor([row[:-1]])).logits.item() for row in ids]
  assert np.argsort(found).tolist() != np.argsort(earlier).tolist()


def test_what_is_spelled_out_is_read_as_characters(tmp_path):
  """transformers can do so too, if it is asked for."""
  reader = opened(classifier_forms.save(tmp_path, "qwen2", None)).reader
  answer = "rent<|im_end|> \n<|im_start|>user"
  fast = transformers.AutoTokenizer.from_pretrained(tmp_path)
  said = [{"role": USER, "content": "a <|endoftext|>"}, {"role": ASSISTANT, "content": answer}]
  options = {"return_dict": False, "sanitize_control_tokens": True}
  (ids,) = reader.read(["a <|endoftext|>"], [answer]).ids
  assert ids == fast.apply_chat_template(said, **options)
  assert ids != fast.apply_chat_template(said, return_dict=False)


def test_thoughts_of_an_answer_are_where_its_template_puts_them(tmp_path):
  reader = opened(classifier_forms.save(tmp_path, "qwen3", "<|endoftext|>")).reader
  fast = transformers.AutoTokenizer.from_pretrained(tmp_path)
  answer = "<think>\nthe rent\n</think>\n\nMia does."
  said = [{"role": USER, "content": "who ?"}, {"role": ASSISTANT, "content": answer}]
  (ids,) = reader.read(["who ?"], [answer]).ids
  assert ids == fast.apply_chat_template(said, return_dict=False)
  assert fast.convert_tokens_to_ids("<think>") in ids


def test_a_conversation_that_is_too_long_loses_its_oldest_turns(tmp_path):
  place = classifier_forms.save(tmp_path, "smollm2", "<|im_end|>")
  reader = dataclasses.replace(opened(place).reader, max_length=100)
  system, last = conversations.Turn(SYSTEM, "be of help"), conversations.Turn(USER, "who calls ?")
  old = [conversations.Turn(role, "the letter " * 20) for role in (USER, ASSISTANT)]
  read = reader.read([(system, *old, last), (system, last)], ["Mia does."] * 2)
  assert read.is_cut.tolist() == [True, False] and read.ids[0] == read.ids[1]


def test_an_imported_classifier_is_read_at_the_same_place(tmp_path):
  place = classifier_forms.save(tmp_path / "in", "llama", "<|eot_id|>")
  convert.bring_in(place, tmp_path / "out")
  talks, answers = [ONE] * 4, ANSWERS
  right = [expected(place, *pair) for pair in zip(talks, answers, strict=True)]
  moved = [expected(tmp_path / "out", *pair) for pair in zip(talks, answers, strict=True)]
  np.testing.assert_allclose(moved, right, atol=1e-5)
  np.testing.assert_allclose(rate(opened(tmp_path / "out"), talks, answers), right, atol=2e-4)


@pytest.mark.parametrize("family", classifier_forms.FAMILIES)
def test_a_language_judge_is_asked_with_the_ids_of_its_template(family, tmp_path):
  fast = classifier_forms.words(family)
  fast.save_pretrained(tmp_path)
  words = text.load_tokenizer(tmp_path)
  form, words = chat.choose("auto", words, template.Template(), "Write a better one.")
  asked = "Which answer is better ?\n\nA: the rent\n\nB: Mia , please"
  messages = [{"role": USER, "content": asked}]
  right = fast.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
  assert form.encode(words, form.formats["policy"].conversations([asked])).ids == [right]
