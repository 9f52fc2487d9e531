"""Comparisons of summaries, as OpenAI published them, from every kind of source; and streaming."""

import json

import datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds

from pit_jax.data import preferences

INFO = {"id": "t3_1", "post": " I hit a car. ", "title": "Car?", "subreddit": "legaladvice"}
NEWS = {"id": "ab", "site": "dailymail", "title": "Sent off", "article": "He was."}


def comparison(info=INFO, choice=1, confidence=8, **changes):
  """Returns a row with every field that the published one has."""
  empty = dict.fromkeys(("id", "post", "title", "subreddit", "site", "article"))
  summaries = [
    {"text": f" summary {name} ", "policy": "sup4", "note": None} for name in ("one", "two")
  ]
  row = {"info": empty | info, "summaries": summaries, "choice": choice, "worker": "w"}
  return row | {"batch": "b9", "split": "train", "extra": {"confidence": confidence}} | changes


ROWS = [comparison(), comparison(NEWS, 0, 3), comparison(choice=0, confidence=None)]
POST = "SUBREDDIT: r/legaladvice\n\nTITLE: Car?\n\nPOST: I hit a car.\n\nTL;DR:"
EXPECTED = (
  preferences.Preference(POST, "summary two", "summary one", margin=3.0),
  preferences.Preference(
    "TITLE: Sent off\n\nARTICLE: He was.\n\nTL;DR:", "summary one", "summary two", margin=2.0
  ),
  preferences.Preference(POST, "summary one", "summary two"),
)


def jsonl(path, lines):
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


@pytest.fixture
def features():
  text, number = datasets.Value("string"), datasets.Value("int32")
  names = ("id", "post", "title", "subreddit", "site", "article")
  return datasets.Features(
    {
      "info": dict.fromkeys(names, text),
      "summaries": datasets.List({"text": text, "policy": text, "note": text}),
      "choice": number,
      "worker": text,
      "batch": text,
      "split": text,
      "extra": {"confidence": number},
    }
  )


def test_summaries_from_a_file_and_from_hugging_face(tmp_path, features):
  assert preferences.load(f"jsonl:{jsonl(tmp_path / 'rows.jsonl', ROWS)}").rows == EXPECTED
  table = datasets.Dataset.from_list(ROWS, features=features)
  table.save_to_disk(tmp_path / "disk")
  assert preferences.load(f"hf:{tmp_path / 'disk'}").rows == EXPECTED
  table.to_parquet(tmp_path / "rows.parquet")
  assert preferences.load(f"parquet:{tmp_path / 'rows.parquet'}").rows == EXPECTED


class _Builder(tfds.core.GeneratorBasedBuilder):
  """Rows as tensorflow-datasets keeps those of Hugging Face: nulls are empty, records of lists."""

  VERSION = tfds.core.Version("1.0.0")

  def _split_generators(self, _):
    return {"train": self._generate_examples()}


class TinySummaries(_Builder):
  def _info(self):
    scalar, features = tfds.features.Scalar, tfds.features.FeaturesDict
    names = ("id", "post", "title", "subreddit", "site", "article")
    summary = {name: scalar(np.object_) for name in ("text", "policy", "note")}
    return tfds.core.DatasetInfo(
      builder=self,
      features=features(
        {
          "info": {name: scalar(np.object_) for name in names},
          "summaries": tfds.features.Sequence(summary),
          "choice": scalar(np.int32),
          "extra": {"confidence": scalar(np.int32)},
        }
      ),
    )

  def _generate_examples(self):
    for i, row in enumerate(ROWS):
      yield (
        i,
        {
          "info": {name: text or "" for name, text in row["info"].items()},
          "summaries": [{n: text or "" for n, text in one.items()} for one in row["summaries"]],
          "choice": row["choice"],
          "extra": {"confidence": row["extra"]["confidence"] or 0},
        },
      )


class TinyDialogues(_Builder):
  def _info(self):
    features = {name: tfds.features.Text() for name in ("chosen", "rejected")}
    described = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=self, features=described)

  def _generate_examples(self):
    start = "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: "
    yield 0, {"chosen": start + "yes", "rejected": start + "no"}


class TinyMessages(_Builder):
  def _info(self):
    message = {name: tfds.features.Text() for name in ("role", "content")}
    features = {name: tfds.features.Sequence(message) for name in ("chosen", "rejected")}
    described = tfds.features.FeaturesDict(features)
    return tfds.core.DatasetInfo(builder=self, features=described)

  def _generate_examples(self):
    asked = [{"role": "user", "content": "a"}]
    replies = [{"role": "assistant", "content": reply} for reply in ("yes", "no")]
    yield 0, {"chosen": [*asked, replies[0]], "rejected": [*asked, replies[1]]}


def tfds_rows(builder, directory):
  made = builder(data_dir=directory, file_format="array_record")
  made.download_and_prepare()
  return preferences.load(f"tfds:{made.data_dir}").rows


def test_every_schema_from_tensorflow_data_sets(tmp_path):
  found = tfds_rows(TinySummaries, tmp_path)
  by_margin = lambda row: row.margin or 0  # noqa: E731
  assert sorted(found, key=by_margin) == sorted(EXPECTED, key=by_margin)
  (row,) = tfds_rows(TinyDialogues, tmp_path)
  assert row.prompt == (("user", "a"), ("assistant", "b"), ("user", "c"))
  assert (row.chosen, row.rejected) == ("yes", "no")
  (row,) = tfds_rows(TinyMessages, tmp_path)
  assert (row.prompt, row.chosen, row.rejected) == ((("user", "a"),), "yes", "no")


def test_confidence_is_a_margin_where_it_speaks_for_the_choice(tmp_path):
  said = [(0, 1, 4.0), (0, 4, 1.0), (1, 6, 1.0), (1, 9, 4.0)]
  said += [(1, 5, None), (0, 9, None), (1, 2, None), (0, 0, None), (1, 99, None)]
  lines = [comparison(choice=choice, confidence=sure) for choice, sure, _ in said]
  found = preferences.load(f"jsonl:{jsonl(tmp_path / 'rows.jsonl', lines)}").rows
  assert [row.margin for row in found] == [margin for *_, margin in said]
  without = comparison()
  del without["extra"]
  (row,) = preferences.load(f"jsonl:{jsonl(tmp_path / 'rows.jsonl', [without])}").rows
  assert row.margin is None


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"choice": 2}, "not a comparison: 2 summaries and choice 2"),
    ({"choice": None}, "not a comparison: 2 summaries and choice None"),
    ({"summaries": []}, "not a comparison: 0 summaries"),
    ({"summaries": 3}, "not a comparison: 0 summaries"),
    ({"summaries": ["a", "b"]}, "wrong type: 'info' and each of 'summaries'"),
    ({"summaries": [{"text": "a"}, {"policy": "b"}]}, "missing field: 'text'"),
    ({"info": "post"}, "wrong type: 'info' and each"),
    ({"info": {"title": "t"}}, "missing field: 'info' holds neither a post nor an article"),
    ({"info": {"post": 3}}, "wrong type: 'post' must be a text"),
  ],
)
def test_bad_comparisons_are_named(tmp_path, changes, message):
  path = jsonl(tmp_path / "rows.jsonl", [comparison(), comparison() | changes])
  with pytest.raises(ValueError, match=f"line 2: {message}"):
    preferences.load(f"jsonl:{path}")


def test_streaming_reads_no_row_beyond_the_limit(tmp_path, monkeypatch):
  asked, read = [], []

  def load_dataset(name, config=None, **options):
    asked.append((name, config, options))
    return (read.append(i) or comparison(choice=i % 2) for i in range(1000))

  monkeypatch.setattr(datasets, "load_dataset", load_dataset)
  source = "hf:openai/summarize_from_feedback/comparisons:validation"
  assert len(preferences.load(source, limit=5, is_streamed=True).rows) == 5
  assert read == list(range(5))
  options = {"split": "validation", "streaming": True}
  assert asked == [("openai/summarize_from_feedback", "comparisons", options)]
  assert preferences.load("hf:owner/name", limit=1).rows[0].place == "hf:owner/name:train, row 0"
  assert asked[1] == ("owner/name", None, {"split": "train", "streaming": False})


def test_a_streamed_directory_gives_the_same_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
  (tmp_path / "hub").mkdir()
  jsonl(tmp_path / "hub" / "train.jsonl", ROWS)
  whole = preferences.load(f"hf:{tmp_path / 'hub'}")
  assert preferences.load(f"hf:{tmp_path / 'hub'}", is_streamed=True).rows == whole.rows == EXPECTED


def test_a_data_set_defined_by_a_script_is_read_from_its_parquet_copy(monkeypatch):
  def load_dataset(name, config=None, revision=None, data_dir=None, **_):
    if revision is None:
      raise RuntimeError("Dataset scripts are no longer supported, but found x.py")
    assert (name, config, revision, data_dir) == ("a/b", None, "refs/convert/parquet", "c")
    return ROWS

  monkeypatch.setattr(datasets, "load_dataset", load_dataset)
  assert preferences.load("hf:a/b/c").rows == EXPECTED


def test_a_name_of_hugging_face_in_the_catalogue(monkeypatch):
  asked = []
  monkeypatch.setattr(tfds, "data_source", lambda name, split: asked.append((name, split)) or ROWS)
  name = "huggingface:openai__summarize_from_feedback/comparisons"
  assert preferences.load(f"tfds:{name}").rows == EXPECTED
  assert preferences.load(f"tfds:{name}:valid").rows == EXPECTED
  assert asked == [(name, "train"), (name, "valid")]


@pytest.mark.parametrize("sure", ["high", "", [], {}, float("inf"), float("nan"), 10**400])
def test_a_confidence_that_is_no_number_gives_no_margin(tmp_path, sure):
  (row,) = preferences.load(
    f"jsonl:{jsonl(tmp_path / 'rows.jsonl', [comparison(confidence=sure)])}"
  ).rows
  assert row.margin is None


@pytest.mark.parametrize(
  ("columns", "said"),
  [
    ({"text": ["a", "b"], "policy": ["p"]}, "text: 2, policy: 1"),
    ({"text": "ab", "policy": ["p", "q"]}, "text: None, policy: 2"),
  ],
)
def test_columns_that_are_no_records_are_counted(tmp_path, columns, said):
  good = comparison()
  path = jsonl(tmp_path / "rows.jsonl", [good, good | {"summaries": columns}])
  with pytest.raises(ValueError, match=f"line 2: wrong type: columns .* not {said}"):
    preferences.load(f"jsonl:{path}")
  loaded = preferences.load(f"jsonl:{path}", on_bad_row="skip")
  assert (len(loaded.rows), loaded.skipped) == (1, {"wrong type": 1})
