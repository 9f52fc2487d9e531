"""Sources of preferences, and the checks their rows pass."""

import dataclasses
import gzip
import json
import sys

import datasets
import pyarrow
import pyarrow.parquet
import pytest
import tensorflow_datasets as tfds

from pit_jax.data import preferences, rows, values
from pit_jax.tasks import synthetic

GOOD = [
  {"prompt": " why ? ", "chosen": "because", "rejected": "so\n"},
  {"prompt": "how ?", "chosen": "by é", "rejected": "well", "response": "hm", "margin": 2},
  {"prompt": "who ?", "chosen": "mia", "rejected": "amy", "response": None, "extra": [1]},
]
EXPECTED = (
  preferences.Preference("why ?", "because", "so"),
  preferences.Preference("how ?", "by é", "well", "hm", 2.0),
  preferences.Preference("who ?", "mia", "amy"),
)


def _jsonl(path, lines):
  """Writes lines given as objects, text or bytes."""
  encoded = [
    line if isinstance(line, bytes) else (line if isinstance(line, str) else json.dumps(line))
    for line in lines
  ]
  data = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in encoded)
  path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
  return path


def test_a_jsonl_file_is_read_gzipped_or_not(tmp_path):
  lines = [b"\xef\xbb\xbf" + json.dumps(GOOD[0]).encode(), GOOD[1], "", GOOD[2], " \n"]
  plain = preferences.load(f"jsonl:{_jsonl(tmp_path / 'a.jsonl', lines)}")
  zipped = preferences.load(f"jsonl:{_jsonl(tmp_path / 'a.jsonl.gz', lines)}")
  assert plain.rows == zipped.rows == EXPECTED
  assert plain.fingerprint == zipped.fingerprint
  assert plain.skipped == {}
  assert [row.place.split(", ")[1] for row in plain.rows] == ["line 1", "line 2", "line 4"]


BAD_LINES = {
  "no prompt": ({"chosen": "a", "rejected": "b"}, "missing field", "'prompt'"),
  "null": ({"prompt": "p", "chosen": None, "rejected": "b"}, "missing field", "'chosen'"),
  "empty": ({"prompt": "p", "chosen": "a", "rejected": " \n"}, "empty field", "'rejected'"),
  "number": ({"prompt": 3, "chosen": "a", "rejected": "b"}, "wrong type", "int 3"),
  "list": ([1, 2], "wrong type", "list"),
  "margin": (GOOD[1] | {"margin": "two"}, "wrong type", "'margin'"),
  "true": (GOOD[1] | {"margin": True}, "wrong type", "'margin'"),
  "infinite": (GOOD[1] | {"margin": float("inf")}, "wrong type", "finite"),
  "huge": (GOOD[1] | {"margin": 10**400}, "wrong type", "finite"),
  "cut": ('{"prompt": "p", "chosen": "a"', "broken JSON", ""),
  "deep": ("[" * 100_000, "broken JSON", ""),
  "bytes": (b'{"prompt": "\xff", "chosen": "a", "rejected": "b"}', "invalid UTF-8", "0xff"),
  "surrogate": (r'{"prompt": "\ud800", "chosen": "a", "rejected": "b"}', "invalid UTF-8", ""),
  "same": ({"prompt": "p", "chosen": "a", "rejected": "a "}, "chosen equals rejected", "'a'"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_or_counted(tmp_path, name, caplog):
  line, reason, detail = BAD_LINES[name]
  path = _jsonl(tmp_path / "rows.jsonl", [GOOD[0], line, GOOD[1], line, GOOD[2]])
  with pytest.raises(ValueError) as caught:
    preferences.load(f"jsonl:{path}")
  assert str(caught.value).startswith(f"{path}, line 2: {reason}: ")
  assert detail in str(caught.value)
  loaded = preferences.load(f"jsonl:{path}", on_bad_row="skip")
  assert loaded.rows == EXPECTED
  assert loaded.skipped == {reason: 2}
  assert f"skipped 2 rows ({reason}), the first at {path}, line 2" in caplog.text


EMPTY = (None, "", " \n")


@pytest.mark.parametrize("empty", [*EMPTY, float("nan"), []])
def test_an_optional_part_that_is_empty_is_absent(tmp_path, empty):
  optional = ("response", "margin", "chosen_position", "chosen_generator", "score_chosen")
  row = {"prompt": "how ?", "chosen": "so", "rejected": "no"}
  path = _jsonl(tmp_path / "rows.jsonl", [row | dict.fromkeys(optional, empty)])
  loaded = preferences.load(f"jsonl:{path}")
  assert loaded.rows == (preferences.Preference("how ?", "so", "no"),)


@pytest.mark.parametrize("empty", EMPTY)
def test_a_system_message_that_says_nothing_is_absent(tmp_path, empty):
  system = {"role": "system", "content": empty}
  asked = [system, {"role": "user", "content": "how ?"}]
  rows_given = [
    {"prompt": asked, "chosen": "so", "rejected": "no"},
    {name: [*asked, {"role": "assistant", "content": name}] for name in ("chosen", "rejected")},
  ]
  loaded = preferences.load(f"jsonl:{_jsonl(tmp_path / 'rows.jsonl', rows_given)}")
  assert [row.prompt for row in loaded.rows] == [(("user", "how ?"),)] * 2
  for obliged in ("prompt", "chosen", "rejected"):
    path = _jsonl(tmp_path / "bad.jsonl", [rows_given[0] | {obliged: empty}])
    with pytest.raises(ValueError, match=f"(missing|empty) field: '{obliged}'"):
      preferences.load(f"jsonl:{path}")


@pytest.mark.parametrize("names", ["score_{}", "{}_score", "{}_rating", "rating_{}", "{}-rating"])
def test_scores_pass_through_under_every_name(names):
  row = {"prompt": "how ?", "chosen": "so", "rejected": "no"}
  columns = [names.format(name) for name in ("chosen", "rejected")]
  for given, scores in (((4, "1.5"), (4.0, 1.5)), ((4, "N/A"), None), ((None, 3), None)):
    read = rows.check(row | dict(zip(columns, given, strict=True)), "here")
    assert read.scores == scores


@pytest.mark.parametrize("names", ["{}_generator", "{}_model", "{}-model"])
def test_writers_pass_through_under_every_name(names):
  row = {"prompt": "how ?", "chosen": "so", "rejected": "no"}
  written = {names.format("chosen"): "m", names.format("rejected"): "n"}
  assert rows.check(row | written, "here").writers == ("m", "n")


def test_a_truncated_gzip_is_named_or_counted(tmp_path):
  many = [
    {"prompt": str(i), "chosen": f"a{hash((i, 1))}", "rejected": f"b{hash((i, 2))}"}
    for i in range(2000)
  ]
  path = _jsonl(tmp_path / "rows.jsonl.gz", many)
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
  with pytest.raises(ValueError, match=r"rows.jsonl.gz, line \d+: truncated gzip"):
    preferences.load(f"jsonl:{path}")
  loaded = preferences.load(f"jsonl:{path}", on_bad_row="skip")
  assert 500 < len(loaded.rows) < 1500
  assert [row.prompt for row in loaded.rows] == [str(i) for i in range(len(loaded.rows))]
  assert loaded.skipped == {"truncated gzip": 1}


def test_a_damaged_gzip_is_named(tmp_path):
  path = _jsonl(tmp_path / "rows.jsonl.gz", GOOD)
  damaged = bytearray(path.read_bytes())
  damaged[12] ^= 0xFF
  path.write_bytes(damaged)
  with pytest.raises(ValueError, match="rows.jsonl.gz, line 1: truncated gzip"):
    preferences.load(f"jsonl:{path}")


def test_parquet_holds_the_same_rows_as_jsonl(tmp_path):
  names = ("prompt", "chosen", "rejected", "response", "margin")
  columns = {name: [row.get(name) for row in GOOD] for name in names}
  pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "rows.parquet")
  loaded = preferences.load(f"parquet:{tmp_path / 'rows.parquet'}")
  assert loaded.rows == EXPECTED
  assert loaded.rows[1].place == f"{tmp_path / 'rows.parquet'}, row 1"


def test_bad_parquet_is_named_or_counted(tmp_path):
  path = tmp_path / "rows.parquet"
  broken = pyarrow.array([b"fine", b"\xff", b"good"]).cast(pyarrow.binary())
  text = pyarrow.Array.from_buffers(pyarrow.string(), 3, broken.buffers())
  columns = {"prompt": text, "chosen": ["a", "b", "c"], "rejected": ["d", "e", None]}
  pyarrow.parquet.write_table(pyarrow.table(columns), path)
  with pytest.raises(ValueError, match="rows.parquet, row 1: invalid UTF-8"):
    preferences.load(f"parquet:{path}")
  loaded = preferences.load(f"parquet:{path}", on_bad_row="skip")
  assert loaded.rows == (preferences.Preference("fine", "a", "d"),)
  assert loaded.skipped == {"invalid UTF-8": 1, "missing field": 1}
  path.write_bytes(path.read_bytes()[:-20])
  with pytest.raises(ValueError, match="rows.parquet, row 0: broken Parquet"):
    preferences.load(f"parquet:{path}")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


def test_hugging_face_data_sets(tmp_path, hub_cache):
  (tmp_path / "hub").mkdir()
  rows_only = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in GOOD]
  file = _jsonl(tmp_path / "hub" / "train.jsonl", rows_only)
  _jsonl(tmp_path / "hub" / "test.jsonl", rows_only[:1])
  expected = tuple(preferences.Preference(r.prompt, r.chosen, r.rejected) for r in EXPECTED)
  assert preferences.load(f"hf:{tmp_path / 'hub'}").rows == expected
  assert preferences.load(f"hf:{tmp_path / 'hub'}:test").rows == expected[:1]
  assert preferences.load(f"hf:{file}").rows == expected
  table = datasets.Dataset.from_list(GOOD[1:2])
  table.save_to_disk(tmp_path / "disk")
  datasets.DatasetDict({"dev": table}).save_to_disk(tmp_path / "splits")
  assert preferences.load(f"hf:{tmp_path / 'disk'}").rows == EXPECTED[1:2]
  loaded = preferences.load(f"hf:{tmp_path / 'splits'}:dev")
  assert loaded.rows == EXPECTED[1:2]
  assert loaded.rows[0].place == f"hf:{tmp_path / 'splits'}:dev, row 0"


def test_a_split_that_is_not_saved_is_refused(tmp_path):
  table = datasets.Dataset.from_list(GOOD[1:2])
  table.save_to_disk(tmp_path / "disk")
  with pytest.raises(ValueError, match="is one data set without splits; leave 'test' out"):
    preferences.load(f"hf:{tmp_path / 'disk'}:test")
  datasets.DatasetDict({"dev": table, "test": table}).save_to_disk(tmp_path / "splits")
  with pytest.raises(ValueError, match="has no split 'train'; it has dev, test"):
    preferences.load(f"hf:{tmp_path / 'splits'}")


def test_hugging_face_reads_a_compressed_file(tmp_path, hub_cache):
  row = {name: GOOD[0][name] for name in ("prompt", "chosen", "rejected")}
  for name in ("rows.jsonl.gz", "rows.json.gz"):
    (tmp_path / name).write_bytes(gzip.compress((json.dumps(row) + "\n").encode()))
    (found,) = preferences.load(f"hf:{tmp_path / name}").rows
    assert (found.prompt, found.chosen) == (EXPECTED[0].prompt, EXPECTED[0].chosen)


class TinyRows(tfds.core.GeneratorBasedBuilder):
  """A data set in the format of tensorflow-datasets, written without TensorFlow."""

  VERSION = tfds.core.Version("1.0.0")

  def _info(self):
    names = ("prompt", "chosen", "rejected")
    features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in names})
    return tfds.core.DatasetInfo(builder=self, features=features)

  def _split_generators(self, _):
    return {"train": self._generate_examples(), "test": self._generate_examples()}

  def _generate_examples(self):
    for i, row in enumerate(EXPECTED):
      yield i, {name: getattr(row, name) for name in ("prompt", "chosen", "rejected")}


def test_tensorflow_data_sets_without_tensorflow(tmp_path, monkeypatch):
  builder = TinyRows(data_dir=tmp_path, file_format="array_record")
  builder.download_and_prepare()
  expected = {(row.prompt, row.chosen, row.rejected) for row in EXPECTED}
  for source in (f"tfds:{builder.data_dir}", f"tfds:{builder.data_dir}:test"):
    loaded = preferences.load(source)
    assert {(row.prompt, row.chosen, row.rejected) for row in loaded.rows} == expected
  by_name = tfds.data_source
  with_directory = lambda name, split: by_name(name, split=split, data_dir=tmp_path)  # noqa: E731
  monkeypatch.setattr(tfds, "data_source", with_directory)
  assert preferences.load("tfds:tiny_rows:test").rows == loaded.rows
  assert "tensorflow" not in sys.modules


def test_bytes_that_are_no_text_are_refused():
  with pytest.raises(values.RowError, match="invalid UTF-8"):
    rows.check({"prompt": b"\xff", "chosen": b"a", "rejected": b"b"}, "here")


def test_the_embedded_task_is_a_source():
  loaded = preferences.load("synthetic", limit=5, seed=3)
  made = synthetic.preferences(5, 3)
  assert [row.prompt for row in loaded.rows] == [row["prompt"].strip() for row in made]
  assert [row.chosen for row in loaded.rows] == [row["chosen"].strip() for row in made]
  assert preferences.load("synthetic", limit=5, seed=4).fingerprint != loaded.fingerprint


def test_limit_takes_the_first_usable_rows(tmp_path):
  path = _jsonl(tmp_path / "rows.jsonl", [GOOD[0], "{", GOOD[1], GOOD[2], "{"])
  loaded = preferences.load(f"jsonl:{path}", on_bad_row="skip", limit=2)
  assert loaded.rows == EXPECTED[:2]
  assert loaded.skipped == {"broken JSON": 1}
  assert preferences.load(f"jsonl:{path}", limit=1).rows == EXPECTED[:1]


def test_unusable_sources_are_refused(tmp_path):
  empty = _jsonl(tmp_path / "empty.jsonl", [])
  all_bad = _jsonl(tmp_path / "bad.jsonl", ["{", "{"])
  for source, options, message in (
    ("tsv:rows.tsv", {}, "is not known; use synthetic, synthetic:classes, "),
    ("csv:rows.csv", {}, "no file rows.csv"),
    ("jsonl", {}, "is not known"),
    ("synthetic:3", {}, "is not known"),
    ("synthetic", {}, "no size of its own; use 1 or more"),
    (f"jsonl:{tmp_path}/absent.jsonl", {}, "no file .*absent.jsonl"),
    (f"parquet:{tmp_path}/absent.parquet", {}, "no file .*absent.parquet"),
    (f"jsonl:{empty}", {}, "no usable row: it is empty"),
    (
      f"jsonl:{all_bad}",
      {"on_bad_row": "skip"},
      r"no usable row: 2 rows such as .*, line 1: broken JSON: ",
    ),
    (f"jsonl:{empty}", {"on_bad_row": "ignore"}, r"data\.on_bad_row is 'ignore'"),
    (f"jsonl:{empty}", {"limit": 0}, "limit 0"),
  ):
    with pytest.raises(ValueError, match=message):
      preferences.load(source, **options)


def test_the_fingerprint_depends_on_content_and_order_alone():
  moved = tuple(dataclasses.replace(row, place="elsewhere") for row in EXPECTED)
  assert preferences.fingerprint(moved) == preferences.fingerprint(EXPECTED)
  changed = [EXPECTED[::-1], EXPECTED[:2]]
  for name, value in (("prompt", "x"), ("chosen", "x"), ("rejected", "x"), ("margin", 1.0)):
    changed.append((dataclasses.replace(EXPECTED[0], **{name: value}), *EXPECTED[1:]))
  assert len({preferences.fingerprint(rows) for rows in [EXPECTED, *changed]}) == 7
