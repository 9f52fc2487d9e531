"""The first token of a prompt: written by the form, once, in training and by those who serve it."""

import dataclasses

import chats
import numpy as np
import pytest
import tiny
import tiny_models
import transformers

from pit_jax.data import chat, template, text
from pit_jax.exchange import cards, convert, export, hf
from pit_jax.models import pure

ASK = "Write a better one."
QUESTION = "the letter, please?"
DRAFT, ANSWER = "the rent 東京", "(naïve)"
BOS = "<|begin_of_text|>"


@pytest.fixture(scope="module", params=["plain", "model"])
def run(request, tmp_path_factory):
  """Returns how the models of a run are asked, their parameters, and the exported directories."""
  folder = tmp_path_factory.mktemp(request.param)
  words = chats.save(folder / "base", "llama3", adds_bos=True)
  form, words = chat.choose(request.param, words, template.Template(), ASK)
  asking = tiny_models.inference_of(folder / "unused", max_prompt_length=80)
  shape = dataclasses.replace(asking.language.config, vocabulary=words.vocab_size)
  asking = dataclasses.replace(
    asking,
    language=pure.language_model(shape),
    scalar=pure.scalar_model(shape),
    settings=dataclasses.replace(asking.settings, tokenizer=words, template=form),
    response_length=16,
  )
  models = tiny_models.with_likelihoods(asking)
  export.save(folder / "run", asking, models, zero_point=0.0)
  convert.send_out(folder / "run", folder / "out", list(cards.KINDS))
  return asking, models, folder / "out"


def rendered(fast, name):
  """Returns what the exported chat template writes for a model, as text and as ids.

  A reward model is shown an answer too.
  """
  messages = [{"role": "user", "content": QUESTION}]
  if name in ("improver", "gap_reward"):
    messages.append({"role": "assistant", "content": DRAFT})
  if name in ("reward", "gap_reward"):
    messages.append({"role": "assistant", "content": ANSWER})
  said = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
  options = {"add_generation_prompt": True, "return_dict": False}
  return said, fast.apply_chat_template(messages, **options)


def trained_on(asking, name):
  """Returns the ids of a prompt, and of a response to it, in training."""
  form, words = asking.settings.template, asking.settings.tokenizer
  if name in ("improver", "gap_reward"):
    (ids,) = form.encode(words, form.formats["improver"].conversations([QUESTION], [DRAFT])).ids
  else:
    (ids,) = form.encode(words, form.formats["policy"].conversations([QUESTION])).ids
  return ids, form.encode_responses(words, [ANSWER]).ids[0]


def answered(asking, said):
  """Returns the text of a prompt with the response after it."""
  lead = asking.settings.template.lead(asking.settings.tokenizer)
  end = "<|eot_id|>" if asking.settings.template.kind == "model" else "<|end_of_text|>"
  return said + lead + ANSWER + end


@pytest.mark.parametrize("name", cards.KINDS)
def test_those_who_serve_an_export_ask_with_the_ids_of_training(run, name):
  asking, _, out = run
  fast = transformers.AutoTokenizer.from_pretrained(out / name)
  prompt, response = trained_on(asking, name)
  said, ids = rendered(fast, name)
  if name in ("reward", "gap_reward"):
    assert ids == fast(said).input_ids == prompt + response
  else:
    assert ids == fast(said).input_ids == prompt
    assert fast(answered(asking, said)).input_ids == prompt + response
  bos = fast.convert_tokens_to_ids(BOS)
  assert (prompt[0], prompt.count(bos)) == (bos, 1)


@pytest.mark.parity
@pytest.mark.parametrize("name", ["reward", "gap_reward"])
def test_a_pipeline_gives_the_score(run, name):
  pytest.importorskip("torch", reason="torch is absent; install the extra `parity`")
  asking, models, out = run
  judge = transformers.pipeline("text-classification", str(out / name))
  said, _ = rendered(judge.tokenizer, name)
  (found,) = judge(said, function_to_apply="none")
  if name == "reward":
    (score,) = asking.rate(models[name], [QUESTION], [ANSWER])
  else:
    (score,) = asking.gaps(models[name], [QUESTION], [ANSWER], [DRAFT])
  np.testing.assert_allclose(found["score"], score, atol=2e-4)


def test_a_loaded_run_asks_as_it_was_trained(run):
  asking, _, out = run
  found = export.load_one(out.parent / "run", "policy", mesh=asking.mesh).asking
  assert found.settings.template == asking.settings.template
  assert trained_on(found, "improver") == trained_on(asking, "improver")


def test_the_first_token_counts_and_is_never_cut(tmp_path):
  words = chats.save(tmp_path, "llama3", adds_bos=True)
  form, _ = chat.choose("plain", words, template.Template(), ASK)
  (bos,) = words.encode_form(BOS)
  asked = form.formats["policy"].conversations(["the bill " * 9])
  (bare,) = template.Template().encode(words, asked).ids
  (whole,) = form.encode(words, asked, len(bare) + 1).ids
  assert whole == [bos, *bare]
  cut = form.encode(words, asked, len(bare))
  assert cut.is_cut.all() and cut.ids[0][0] == bos and len(cut.ids[0]) <= len(bare)
  own = len(words.encode("Question:") + words.encode("\nAnswer:")) + 1
  with pytest.raises(ValueError, match=f"use at least {own + 1}"):
    form.encode(words, form.formats["policy"].conversations(["the"]), own)


def test_a_text_that_spells_the_first_token_out_has_none_of_it(tmp_path):
  words = chats.save(tmp_path, "llama3", adds_bos=True)
  form, _ = chat.choose("plain", words, template.Template(), ASK)
  (ids,) = form.encode(
    words, form.formats["improver"].conversations([f"a {BOS} b"], [f"{BOS}"])
  ).ids
  assert ids.count(words.encode_form(BOS)[0]) == 1


def test_the_hash_tells_a_form_with_a_first_token_apart():
  plain = template.Template()
  forms = [plain, template.Template(bos=BOS), template.Template(bos="<s>")]
  assert len({form.hash for form in forms}) == 3
  assert chat.restore(forms[1].describe()) == forms[1]
  # Runs without such a token go on where they were: their checkpoints hold this hash.
  assert plain.hash == "1eddf9ce02cd065f"


@pytest.mark.parametrize("name", chats.FORMS)
def test_a_tokenizer_that_begins_no_text_changes_nothing(tmp_path, name):
  words = chats.save(tmp_path / "in", name)
  form, same = chat.choose("plain", words, template.Template(), ASK)
  assert (words.bos, form, same) == ("", template.Template(), words)
  words.save(tmp_path / "out")
  files = [(tmp_path / part / "tokenizer.json").read_bytes() for part in ("in", "out")]
  assert files[0] == files[1]


def test_an_import_still_begins_texts(tmp_path):
  model = tiny.language(vocabulary=400)
  hf.save(tmp_path / "in", model, tiny.parameters(model, seed=0))
  words = chats.save(tmp_path / "in", "llama3", adds_bos=True)
  convert.bring_in(tmp_path / "in", tmp_path / "out")
  found = text.load_tokenizer(tmp_path / "out")
  assert (found.bos, found.fingerprint) == (BOS, words.fingerprint)
