"""Published shapes of preference data are read, from every kind of source."""

import json

import datasets
import numpy as np
import pytest
import tensorflow_datasets as tfds
from shapes import SHAPES, battle

from pit_jax.data import preferences, published


def write(path, lines):
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  return path


@pytest.mark.parametrize("shape", SHAPES)
def test_a_published_shape_is_read_from_every_kind_of_source(tmp_path, shape):
  lines, expected, left_out = SHAPES[shape]
  path = write(tmp_path / "rows.jsonl", lines)
  (tmp_path / "rows.json").write_text(json.dumps(lines, indent=1))
  datasets.Dataset.from_list(lines).to_parquet(tmp_path / "rows.parquet")
  datasets.Dataset.from_list(lines).save_to_disk(tmp_path / "disk")
  sources = (f"jsonl:{path}", f"jsonl:{tmp_path / 'rows.json'}", f"hf:{tmp_path / 'disk'}")
  for source in (*sources, f"parquet:{tmp_path / 'rows.parquet'}"):
    loaded = preferences.load(source, on_bad_row="skip")
    assert loaded.rows == tuple(expected), source
    assert loaded.skipped == left_out, source


def as_tensorflow(value):
  """Returns a value as tensorflow-datasets gives it: bytes, and columns of lists for records."""
  if isinstance(value, dict):
    return {name: as_tensorflow(one) for name, one in value.items()}
  if isinstance(value, list) and value and isinstance(value[0], dict):
    return {name: [as_tensorflow(one.get(name)) for one in value] for name in value[0]}
  if isinstance(value, list):
    return np.array([as_tensorflow(one) for one in value], dtype=object)
  kinds = {str: str.encode, bool: np.bool_, int: np.int64, float: np.float32}
  return b"" if value is None else kinds[type(value)](value)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_published_shape_is_read_as_tensorflow_keeps_it(shape, monkeypatch):
  lines, expected, left_out = SHAPES[shape]
  kept = [as_tensorflow(line) for line in lines]
  monkeypatch.setattr(tfds, "data_source", lambda name, split: kept)
  loaded = preferences.load("tfds:made_up", on_bad_row="skip")
  assert loaded.rows == tuple(expected)
  assert loaded.skipped == left_out


def test_what_is_left_out_stops_nothing_where_bad_rows_do(tmp_path):
  path = write(tmp_path / "rows.jsonl", [battle("tie"), battle("model_a")])
  assert preferences.load(f"jsonl:{path}", on_bad_row="error").skipped == {"no preference": 1}
  with pytest.raises(ValueError, match="line 2: wrong type: 'winner' must be one of model_a, mod"):
    preferences.load(f"jsonl:{write(path, [battle('model_a'), battle('me')])}")


def test_at_least_twenty_shapes_are_read():
  assert len(SHAPES) >= 26
  assert len(published.BY_NAME) == len(published.SCHEMAS)
