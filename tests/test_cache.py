"""Encoded sets on disk: written once, found again, never half, and noticed when damaged."""

import dataclasses
import os
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from pit_jax import types
from pit_jax.data import batches, cache, encode, rows, template, text

ROWS = [
  rows.Preference(f"question {i} " * (1 + i % 7), f"answer {i}", f"other {i} " * (1 + i % 3))
  for i in range(50)
]
KINDS = [
  lambda rows, settings, *folder: demonstrations("policy", rows, settings, *folder),
  lambda rows, settings, *folder: demonstrations("improver", rows, settings, *folder),
  encode.preferences,
  encode.gap_preferences,
]


def demonstrations(name, rows, settings, *folder):
  return encode.demonstrations(rows, settings.formats[name], settings, *folder)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
  return text.train_tokenizer(["question answer other"], 280, tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def settings(tokenizer):
  return encode.Settings(tokenizer, template.Template(), 60, 20)


@pytest.fixture
def small_pieces(monkeypatch):
  monkeypatch.setattr(encode, "PIECE", 7)


@pytest.fixture
def encoded(monkeypatch):
  """Counts the texts that are tokenised."""
  counted, encode_batch = [], text.Tokenizer.encode_batch

  def counting(self, texts):
    counted.extend(texts)
    return encode_batch(self, texts)

  monkeypatch.setattr(text.Tokenizer, "encode_batch", counting)
  return counted


def assert_same(one, other):
  assert one.contents.counts == other.contents.counts
  np.testing.assert_array_equal(one.contents.index, other.contents.index)
  np.testing.assert_array_equal(one.contents.lengths, other.contents.lengths)
  jax.tree.map(np.testing.assert_array_equal, one[:], other[:])


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_on_disk_is_the_one_in_memory(settings, tmp_path, small_pieces, kind):
  for over_long in ("cut", "drop"):
    changed = dataclasses.replace(settings, over_long=over_long, max_prompt_length=70)
    in_memory, on_disk = kind(ROWS, changed), kind(ROWS, changed, tmp_path)
    assert_same(on_disk, in_memory)
    some = [40, 3, 3, 11] if over_long == "cut" else [2, 1, 1]
    jax.tree.map(np.testing.assert_array_equal, on_disk[some], in_memory[some])
    order = [batches.Batches(table, 4, 0, by_length=True) for table in (in_memory, on_disk)]
    jax.tree.map(np.testing.assert_array_equal, order[0][5], order[1][5])


def test_pieces_are_those_of_one_batch(settings, tmp_path, monkeypatch):
  whole = encode.preferences(ROWS, settings)
  monkeypatch.setattr(encode, "PIECE", 3)
  assert_same(encode.preferences(ROWS, settings, tmp_path), whole)


def test_a_set_is_tokenised_once(settings, tmp_path, encoded):
  prompts = [row.prompt for row in ROWS]
  for ask in (
    lambda: encode.prompts(settings.formats["policy"].conversations(prompts), settings, tmp_path),
    lambda: encode.prompts(
      settings.formats["improver"].conversations(prompts, prompts), settings, tmp_path
    ),
    *(lambda kind=kind: kind(ROWS, settings, tmp_path) for kind in KINDS),
  ):
    first = ask()
    assert encoded
    encoded.clear()
    files = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert_same(ask(), first)
    assert not encoded
    assert files == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
  assert len(list(tmp_path.iterdir())) == 6


def test_what_decides_the_tokens_decides_the_name(settings, tokenizer, tmp_path):
  other = text.train_tokenizer(["something else"], 270, tmp_path / "tokenizer")
  form = dataclasses.replace(settings.template, policy="Q: {prompt}\nA:")
  changes = [{"max_prompt_length": 50}, {"max_response_length": 19}, {"over_long": "drop"}]
  changes += [{"template": form}, {"tokenizer": other}]
  changed = [dataclasses.replace(settings, **change) for change in changes]
  folder, asked = tmp_path / "tokens", (ROWS, settings)
  every = [asked, *((ROWS, wanted) for wanted in changed), (ROWS[::-1], settings)]
  for kind in KINDS:
    for given, wanted in every:
      assert_same(kind(given, wanted, folder), kind(given, wanted))
  assert len(list(folder.iterdir())) == len(KINDS) * len(every)
  moved = [dataclasses.replace(row, place="elsewhere") for row in ROWS]
  encode.preferences(moved, settings, folder)
  assert len(list(folder.iterdir())) == len(KINDS) * len(every), "the place decides nothing"


DIES = """
import os, pathlib, signal, sys
from pit_jax.data import encode, rows, template, text
tokenizer = text.load_tokenizer(sys.argv[1])
settings = encode.Settings(tokenizer, template.Template(), 60, 20)
encode.PIECE, pieces = 10, encode._pieces
def mortal(*given):
  for number, piece in enumerate(pieces(*given)):
    if number == 3:
      os.kill(os.getpid(), signal.SIGKILL)
    yield piece
encode._pieces = mortal
texts = [rows.Preference(f"question {i}", f"answer {i}", "no") for i in range(50)]
encode.preferences(texts, settings, pathlib.Path(sys.argv[2]))
"""


def test_a_kill_leaves_no_half_set(tokenizer, tmp_path):
  tokenizer.save(tmp_path / "tokenizer")
  folder = tmp_path / "tokens"
  command = [sys.executable, "-c", DIES, tmp_path / "tokenizer", folder]
  done = subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True)
  assert done.returncode == -signal.SIGKILL, done.stderr
  assert not list(folder.glob("preferences-*"))
  assert list(folder.glob(".unfinished-*")), "it was killed while it wrote"


def test_an_error_leaves_nothing(settings, tmp_path):
  strict = dataclasses.replace(settings, max_response_length=2, over_long="drop")
  with pytest.raises(ValueError, match="of 50 rows none is left: 50 are longer"):
    encode.preferences(ROWS, strict, tmp_path)
  assert not list(tmp_path.iterdir())


def test_the_faster_of_two_writers_is_kept(settings, tmp_path, monkeypatch):
  rename, renamed = os.rename, []

  def late(source, target):
    if not renamed:
      renamed.append(target)
      encode.preferences(ROWS, settings, tmp_path)  # by another process, meanwhile
    rename(source, target)

  monkeypatch.setattr(os, "rename", late)
  assert_same(encode.preferences(ROWS, settings, tmp_path), encode.preferences(ROWS, settings))
  assert len(list(tmp_path.iterdir())) == 1


def cut_short(path):
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("file", [cache.ROWS, cache.CONTENTS])
@pytest.mark.parametrize("damage", [cut_short, os.remove])
def test_a_damaged_set_is_named(settings, tmp_path, file, damage):
  encode.preferences(ROWS, settings, tmp_path)
  (path,) = tmp_path.iterdir()
  damage(path / file)
  with pytest.raises(ValueError, match=rf"{path.name} is damaged \(.*\); remove it, and it is"):
    encode.preferences(ROWS, settings, tmp_path)


def test_damage_within_a_row_is_found_when_it_is_read(settings, tmp_path):
  texts = [rows.Preference(f"question {i}", f"answer {i}", "no") for i in range(3_000)]
  encode.preferences(texts, settings, tmp_path)
  (path,) = tmp_path.iterdir()
  data = bytearray((path / cache.ROWS).read_bytes())
  data[len(data) // 4] ^= 255
  (path / cache.ROWS).write_bytes(data)
  table = encode.preferences(texts, settings, tmp_path)
  with pytest.raises(ValueError, match=f"{path.name} is damaged"):
    table[:]


def test_a_table_reads_only_what_it_is_asked_for(settings, tmp_path):
  table, read = encode.preferences(ROWS, settings, tmp_path), []

  def noted(numbers):
    read.extend(numbers)
    return table.read(numbers)

  order = batches.Batches(dataclasses.replace(table, read=noted), 8, 0)
  assert not read
  assert isinstance(order[3], types.Preferences)
  assert len(read) == 8
