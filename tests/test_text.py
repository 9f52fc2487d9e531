"""The tokenizer and the template."""

import collections
import itertools

import hypothesis
import pytest
import tokenizers
import transformers
from hypothesis import strategies

from pit_jax.data import template, text

SAMPLE = ["the letter to mia , please", "the bill is 12 . rent 4", "naïve café 東京 <eos>"]
TEXTS = strategies.text(max_size=40).map(lambda value: value.encode(errors="ignore").decode())
PATIENT = hypothesis.settings(deadline=None, max_examples=60)
WORDS = strategies.text(alphabet="ab é東\n", min_size=1, max_size=30)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(SAMPLE * 3, 320, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory):
  """One token per byte: what a cut leaves can be worked out on the text."""
  return text.train_tokenizer(SAMPLE, 258, tmp_path_factory.mktemp("bytewise"))


def policy_ids(form, tokenizer, prompt, *limit):
  return form.encode(tokenizer, form.formats["policy"].conversations([prompt]), *limit).ids[0]


def improver_ids(form, tokenizer, prompt, reference, *limits):
  return form.encode(
    tokenizer, form.formats["improver"].conversations([prompt], [reference]), *limits
  ).ids[0]


def response_ids(form, tokenizer, response, *limit):
  return form.encode_responses(tokenizer, [response], *limit).ids[0]


@PATIENT
@hypothesis.given(TEXTS)
def test_decode_undoes_encode(tokenizer, value):
  ids = tokenizer.encode(value)
  assert tokenizer.decode(ids) == value
  assert not {tokenizer.eos_id, tokenizer.pad_id} & set(ids)
  assert all(0 <= token < tokenizer.vocab_size for token in ids)


@PATIENT
@hypothesis.given(TEXTS)
def test_without_merges_a_token_is_a_byte(bytewise, value):
  assert bytewise.vocab_size == 256 + 2
  assert len(bytewise.encode(value)) == len(value.encode())


def test_the_first_merge_is_the_most_frequent_pair(tmp_path):
  texts = ["abab", "abc", "bcab"]
  pairs = collections.Counter(
    "".join(pair) for value in texts for pair in itertools.pairwise(value)
  )
  best = pairs.most_common(1)[0][0]
  learnt = text.train_tokenizer(texts, 259, tmp_path)
  (merged,) = learnt.encode(best)
  assert learnt.decode([merged]) == best
  assert len(learnt.encode("bc")) == 2


def test_special_tokens_in_a_text_are_ordinary_characters(tokenizer):
  value = "he wrote <eos> and <pad>"
  assert tokenizer.decode(tokenizer.encode(value)) == value
  assert tokenizer.eos_id not in tokenizer.encode(value)
  assert tokenizer.decode([*tokenizer.encode(value), tokenizer.eos_id, tokenizer.pad_id]) == value


def test_a_batch_is_its_texts_one_by_one(tokenizer):
  assert tokenizer.encode_batch(SAMPLE) == [tokenizer.encode(value) for value in SAMPLE]


def test_training_again_and_saving_change_nothing(tokenizer, tmp_path):
  again = text.train_tokenizer(SAMPLE * 3, 320, tmp_path / "again")
  again.save(tmp_path / "saved")
  saved = text.load_tokenizer(tmp_path / "saved")
  other = text.train_tokenizer(SAMPLE * 3, 300, tmp_path / "other")
  assert again.fingerprint == saved.fingerprint == tokenizer.fingerprint
  assert other.fingerprint != tokenizer.fingerprint
  assert saved.encode_batch(SAMPLE) == tokenizer.encode_batch(SAMPLE)


def test_transformers_reads_what_was_saved(tokenizer, tmp_path):
  tokenizer.save(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  expected = theirs.encode(SAMPLE[0], add_special_tokens=False)
  assert tokenizer.encode(SAMPLE[0]) == expected
  assert (theirs.eos_token_id, theirs.pad_token_id) == (tokenizer.eos_id, tokenizer.pad_id)


def _save_word_level(directory, **specials):
  model = tokenizers.models.WordLevel({"<eos>": 0, "<unk>": 1, "word": 2}, unk_token="<unk>")
  fast = transformers.PreTrainedTokenizerFast(
    tokenizer_object=tokenizers.Tokenizer(model), **specials
  )
  fast.save_pretrained(directory)
  return fast


@pytest.mark.parametrize("specials", [{}, {"pad_token": "<eos>"}])
def test_padding_is_never_the_end_of_sequence(tmp_path, specials):
  fast = _save_word_level(tmp_path, eos_token="<eos>", **specials)
  with pytest.raises(ValueError, match="padding must be a token of its own"):
    text.Tokenizer(fast)
  loaded = text.load_tokenizer(tmp_path)
  assert (loaded.eos_id, loaded.pad_id, loaded.vocab_size) == (0, 3, 4)


def test_unusable_tokenizers_are_refused(tmp_path):
  with pytest.raises(ValueError, match="no tokenizer directory"):
    text.load_tokenizer(tmp_path / "absent")
  with pytest.raises(ValueError, match="no readable tokenizer"):
    (tmp_path / "empty").mkdir()
    text.load_tokenizer(tmp_path / "empty")
  _save_word_level(tmp_path / "endless", pad_token="<unk>")
  with pytest.raises(ValueError, match="no end-of-sequence token"):
    text.load_tokenizer(tmp_path / "endless")
  with pytest.raises(ValueError, match="at least 258"):
    text.train_tokenizer(SAMPLE, 257, tmp_path)


@PATIENT
@hypothesis.given(WORDS, strategies.integers(1, 40))
def test_suffix_is_the_longest_that_starts_a_word(bytewise, value, limit):
  fitting = [i for i in range(len(value)) if len(value[i:].encode()) <= limit]
  hypothesis.assume(fitting)
  words = [i for i in fitting if i == 0 or value[i].isspace() or value[i - 1].isspace()]
  assert bytewise.decode(bytewise.suffix(value, limit)) == value[min(words or fitting) :]


@PATIENT
@hypothesis.given(WORDS, WORDS)
def test_ids_spell_the_text_of_the_template(tokenizer, prompt, reference):
  shown = template.Template()
  policy = policy_ids(shown, tokenizer, prompt)
  improver = improver_ids(shown, tokenizer, prompt, reference)
  assert tokenizer.decode(policy) == f"Question: {prompt.strip()}\nAnswer:"
  expected = f"Question: {prompt.strip()}\nDraft: {reference.strip()}\nBetter:"
  assert tokenizer.decode(improver) == expected


@PATIENT
@hypothesis.given(WORDS, WORDS, strategies.integers(1, 12))
def test_a_reference_has_the_ids_of_the_response_it_was(tokenizer, prompt, response, limit):
  shown = template.Template()
  ids = response_ids(shown, tokenizer, response, limit)
  is_whole = ids[-1] == tokenizer.eos_id
  reference = ids[:-1] if is_whole else ids
  improver = improver_ids(shown, tokenizer, prompt, response, None, limit)
  head = tokenizer.encode("Question:") + tokenizer.encode(" " + prompt.strip())
  middle, tail = tokenizer.encode("\nDraft:"), tokenizer.encode("\nBetter:")
  assert improver == head + middle + reference + tail


@PATIENT
@hypothesis.given(WORDS, strategies.integers(1, 40))
def test_a_response_too_long_loses_its_tail_and_has_no_end(bytewise, response, limit):
  shown = template.Template()
  whole = bytewise.encode(" " + response.strip())
  encoded = shown.encode_responses(bytewise, [response], limit)
  fits = len(whole) + 1 <= limit
  expected = [*whole, bytewise.eos_id] if fits else whole[:limit]
  assert encoded.ids == [expected]
  assert encoded.is_cut.tolist() == [not fits]


@PATIENT
@hypothesis.given(WORDS, WORDS, strategies.integers(19, 60))
def test_a_prompt_too_long_loses_its_oldest_part(bytewise, prompt, reference, limit):
  shown = template.Template()
  room = limit - len("Question:") - len("\nAnswer:")
  whole = " " + prompt.strip()
  policy = shown.encode(bytewise, shown.formats["policy"].conversations([prompt]), limit)
  improver = improver_ids(shown, bytewise, prompt, reference, limit)
  is_cut = len(whole.encode()) > room
  left = bytewise.decode(bytewise.suffix(whole, room)) if is_cut else whole
  assert policy.is_cut.tolist() == [is_cut]
  assert len(policy.ids[0]) <= limit
  assert bytewise.decode(policy.ids[0]) == f"Question:{left}\nAnswer:"
  expected = f"Question:{left}\nDraft: {reference.strip()}\nBetter:"
  assert bytewise.decode(improver) == expected


def test_a_dialogue_is_cut_between_words(bytewise):
  prompt = "Human: one two three\n\nAssistant: four"
  ids = policy_ids(template.Template(), bytewise, prompt, 17 + 25)
  assert bytewise.decode(ids) == "Question: three\n\nAssistant: four\nAnswer:"


def test_braces_in_a_text_are_not_slots(tokenizer):
  shown = template.Template()
  ids = improver_ids(shown, tokenizer, "what is {reference}?", "{0} {prompt}")
  expected = "Question: what is {reference}?\nDraft: {0} {prompt}\nBetter:"
  assert tokenizer.decode(ids) == expected
  with_braces = template.Template(policy="{{x}} {prompt}\nAnswer:")
  ids = policy_ids(with_braces, tokenizer, "why?")
  assert tokenizer.decode(ids) == "{x} why?\nAnswer:"


def test_the_hash_tells_templates_apart():
  default = template.Template()
  others = [
    template.Template(policy="Q: {prompt}\nAnswer:"),
    template.Template(improver="Question: {prompt}\nDraft: {reference}\nNow:"),
  ]
  assert default.hash == template.Template().hash
  assert len({default.hash, *(other.hash for other in others)}) == 3
  assert len(default.hash) == 16
  assert set(default.hash) <= set("0123456789abcdef")


@pytest.mark.parametrize(
  ("fields", "message"),
  [
    ({"policy": "Question:"}, "needs exactly"),
    ({"policy": "{prompt} {reference}"}, "needs exactly"),
    ({"improver": "{reference} {prompt}"}, "in this order"),
    ({"improver": "{prompt}\n{reference}\nBetter:"}, "a space before"),
    ({"policy": "{prompt}\nAnswer: "}, "ends in a space"),
  ],
)
def test_templates_that_cannot_work_are_refused(fields, message):
  with pytest.raises(ValueError, match=message):
    template.Template(**fields)


def test_limits_without_room_are_refused(bytewise):
  shown = template.Template()
  with pytest.raises(ValueError, match="use at least 18"):
    policy_ids(shown, bytewise, "why", 17)
  assert len(policy_ids(shown, bytewise, "why", 18)) == 18
  with pytest.raises(ValueError, match="data.max_response_length=0"):
    response_ids(shown, bytewise, "so", 0)
  with pytest.raises(ValueError, match="2 prompts but 1 references"):
    shown.encode(bytewise, shown.formats["improver"].conversations(["a", "b"], ["c"]))
