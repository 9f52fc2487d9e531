"""The embedded task's base models: how they are made, and what those that are shipped know."""

import hashlib
import importlib
import json
import random
import re

import numpy as np
import pytest
import tiny_run

from pit_jax.data import text
from pit_jax.recipes import running
from pit_jax.run import origin
from pit_jax.tasks import words

SAID = r"\nPrinciples: ([\w ]+\. ?){1,3}\nWeak: [\w, ]+\. Score [0-8]\. Change: .+"


def test_the_base_is_built_and_held_to_its_mark(tmp_path, capsys):
  config = tiny_run.config("base")
  config.update_from_flattened_dict(
    {
      "letters.steps": 2,
      "letters.batch_size": 8,
      "documents.steps": 2,
      "documents.batch_size": 8,
      "test_questions": 8,
      "required": 0.5,
    }
  )
  with pytest.raises(ValueError, match="workings are right, 50% are required"):
    running.run(config, tmp_path / "strict")
  assert not (tmp_path / "strict" / "base").exists()
  config.required = 0.0
  with pytest.raises(ValueError, match=r"required: 0\.5 there, 0\.0 now"):
    running.run(config, tmp_path / "strict")
  running.run(config, tmp_path / "lenient")
  written = tmp_path / "lenient" / "base"
  assert {path.name for path in written.iterdir()} >= {"config.json", "model.safetensors"}
  assert json.loads((written / "record.json").read_text())["working"] < 0.5


def test_a_base_of_single_letters_alone_reads_no_documents(tmp_path, capsys):
  places = (f"pit_jax.configs.{name}" for name in ("base_weak", "base"))
  weak, whole = (importlib.import_module(place).get_config("tiny") for place in places)
  assert 0 < weak.letters.steps < whole.letters.steps and "documents" not in weak
  assert weak.data == whole.data, "of the same letters, in the same tokens"
  small = {"letters__steps": 2, "letters__batch_size": 8, "test_questions": 8}
  running.run(tiny_run.config("base_weak", **small), tmp_path / "weak")
  record = json.loads((tmp_path / "weak" / "base" / "record.json").read_text())
  assert record["steps"] == {"letters": 2} and "command" in record
  assert [path.name for path in (tmp_path / "weak" / "checkpoints").iterdir()] == ["letters"]


def test_a_document_goes_on_with_nothing_a_letter_or_words():
  after = [words.after_letter(i, 0, f"\nAnswer: {i}", has_words=True) for i in range(400)]
  assert not any(after[::2]) and after[3::4] == [f"\nAnswer: {i}" for i in range(3, 400, 4)]
  said = after[1::4]
  assert all(re.fullmatch(SAID, one) for one in said) and len({*said}) == len(said)
  without = [words.after_letter(i, 0, str(i), has_words=False) for i in range(400)]
  assert without[::2] == [""] * 200 and without[1::2] == [str(i) for i in range(1, 400, 2)]


def test_what_is_said_of_letters_knows_no_letter():
  """Every check is called weak as often as not, whatever the score; principles stand both ways."""
  said = [words.drawn(random.Random(i)) for i in range(2_000)]
  for name, (plain, negated) in words.PRINCIPLES.items():
    weak = np.array([name in one.partition("Weak: ")[2] for one in said])
    high = np.array([int(re.search(r"Score (\d)", one)[1]) >= 4 for one in said])
    assert abs(weak.mean() - 0.5) < 0.06 and abs(weak[high].mean() - weak[~high].mean()) < 0.1
    counts = [sum(sentence in one for one in said) for sentence in (plain, negated)]
    assert min(counts) > 250 and abs(counts[0] - counts[1]) < 150


@pytest.mark.parametrize("name", origin.SHIPPED)
def test_a_shipped_base_is_what_its_record_says(name):
  config = tiny_run.config("rlhf", model__base=name)
  directory = origin.directory(config)
  record = json.loads((directory / "record.json").read_text())
  weights = (directory / "model.safetensors").read_bytes()
  assert hashlib.sha256(weights).hexdigest() == record["sha256"] and len(weights) < 3e6
  tokenizer = text.load_tokenizer(directory)
  assert tokenizer.fingerprint == record["tokenizer"]
  # Those of the first two are one, so that runs on either compare.
  has_words = name == "embedded_words"
  assert (tokenizer.fingerprint == text.load_tokenizer(origin.EMBEDDED).fingerprint) != has_words
  spoken = [words.drawn(random.Random(i)) for i in range(50)]
  count = sum(len(tokenizer.encode(one)) for one in spoken) / sum(
    len(one.split()) for one in spoken
  )
  assert (count < 1.7) == has_words, "tokens of a word of principles and feedback"
  is_weak = name == "embedded_weak"
  assert (record["working"] < 0.2) == is_weak and (record["working"] > 0.95) != is_weak
