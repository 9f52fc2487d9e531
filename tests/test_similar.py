"""Near-duplicates: what the bands find, against comparing all with all."""

import itertools
import json
import random
import subprocess
import sys

import numpy as np
import pytest

from pit_jax.data import similar

WORDS = [f"w{i}" for i in range(400)]


def shingles(text):
  """Returns the set of shingles, the slow and obvious way."""
  said = [*text.lower().split(), "", ""]
  return {tuple(said[i : i + 3]) for i in range(len(said) - 2)}


def jaccard(one, other):
  return len(shingles(one) & shingles(other)) / len(shingles(one) | shingles(other))


def edited(rng, text, changes):
  words = text.split()
  for _ in range(changes):
    words[rng.randrange(len(words))] = rng.choice(WORDS)
  return " ".join(words)


@pytest.fixture(scope="module")
def texts():
  """Texts of 1 to 60 words, with families that were edited a little or a lot."""
  rng = random.Random(0)
  made = []
  for _ in range(80):
    first = " ".join(rng.choices(WORDS, k=rng.randrange(1, 60)))
    made += [first, *(edited(rng, first, rng.randrange(0, 6)) for _ in range(2))]
  rng.shuffle(made)
  return made


def test_similarity_is_jaccards(texts):
  sets = [similar.shingles(text) for text in texts]
  for i, j in itertools.islice(itertools.combinations(range(60), 2), 500):
    assert similar.similarity(sets[i], sets[j]) == pytest.approx(jaccard(texts[i], texts[j]))
  for i in range(len(texts)):
    assert len(sets[i]) == len(shingles(texts[i]))


def test_the_same_groups_as_by_comparing_all_with_all(texts):
  found = similar.groups(texts)
  labels = list(range(len(texts)))
  for i, j in itertools.combinations(range(len(texts)), 2):
    if labels[i] != labels[j] and jaccard(texts[i], texts[j]) >= similar.SIMILAR:
      old, new = labels[j], labels[i]
      labels = [new if label == old else label for label in labels]
  same = np.equal.outer(found.labels, found.labels)
  assert (same == np.equal.outer(labels, labels)).all()
  assert same.sum() > len(texts) + 50  # the families were found
  for i, j, similarity in found.pairs:
    assert similarity == pytest.approx(jaccard(texts[i], texts[j])) and similarity >= 0.8


def test_equal_hashes_are_as_frequent_as_the_similarity():
  rng = random.Random(2)
  firsts = [" ".join(rng.choices(WORDS, k=40)) for _ in range(300)]
  seconds = [edited(rng, text, rng.randrange(1, 9)) for text in firsts]
  signatures = similar.minhash([*firsts, *seconds])
  expected = np.array([jaccard(*pair) for pair in zip(firsts, seconds)])
  equal = (signatures[:300] == signatures[300:]).mean(axis=1)
  deviation = np.sqrt((expected * (1 - expected) / similar.HASHES).mean())
  assert expected.std() > 0.1
  assert np.sqrt(((equal - expected) ** 2).mean()) == pytest.approx(deviation, rel=0.15)
  assert (equal - expected).mean() == pytest.approx(0, abs=4 * deviation / np.sqrt(300))


def test_order_does_not_change_the_groups(texts):
  found = similar.groups(texts).labels
  back = similar.groups(texts[::-1]).labels[::-1]
  assert (np.equal.outer(found, found) == np.equal.outer(back, back)).all()


def test_case_and_punctuation_make_no_difference(texts):
  marked = [text.upper().replace(" ", ", ") + "!" for text in texts]
  joined = similar.groups([*texts, *marked]).labels
  assert (joined[: len(texts)] == joined[len(texts) :]).all()


def test_the_same_texts_have_the_same_hashes_in_every_process(texts):
  """Folds follow the groups: a run that goes on must find those that it began with."""
  command = (
    "import json, sys; from pit_jax.data import similar; "
    "json.dump(similar.minhash(json.load(sys.stdin)).tolist(), sys.stdout)"
  )
  told = json.dumps(texts[:20])
  ran = subprocess.run(
    [sys.executable, "-c", command], input=told, capture_output=True, text=True, check=True
  )
  assert json.loads(ran.stdout) == similar.minhash(texts[:20]).tolist()


def test_texts_without_words_are_compared_as_they_are():
  labels = similar.groups(["???", "!!!", "???", "", "a"]).labels
  assert labels[0] == labels[2]
  assert len(set(labels.tolist())) == 4
  assert similar.groups([]).pairs == similar.groups(["a"]).pairs == ()


def test_many_copies_of_one_text_are_one_group_without_comparing_all():
  rng = random.Random(1)
  first = " ".join(rng.choices(WORDS, k=50))
  many = [edited(rng, first, 1) for _ in range(1000)]
  labels = similar.groups(many).labels
  assert np.bincount(labels).max() > 950
