"""Files of completions as writers: their forms, the names of their columns, what they lack."""

import gzip
import json
from unittest import mock

import jax
import ml_collections
import pyarrow
import pyarrow.parquet
import pytest
import tiny_run
from test_writers import CRITIC, POLICY, TALK

from pit_jax.feedback import named, writers
from pit_jax.run import context as contexts


def built(section):
  """Returns the writer of a section."""
  config = tiny_run.config()
  with config.unlocked():
    config.feedback = ml_collections.ConfigDict({"writers": {"w": section}})
  return named.build(mock.Mock(spec=contexts.Context, config=config), "writers", "w")


def test_a_file_of_completions(tmp_path):
  path = tmp_path / "completions.jsonl"
  messages = [{"role": role, "content": content} for role, content in TALK]
  critic = [*messages, {"role": "assistant", "content": "4"}]
  critic += [{"role": "user", "content": "What is weak?"}]
  rows = [("so", "one"), (messages, "because"), ("so ", "two"), (critic, "all of it")]
  lines = [json.dumps({"prompt": prompt, "response": text}) for prompt, text in rows]
  path.write_text("\n".join(lines), encoding="utf-8")
  section = {"kind": "file", "path": str(path)}
  writer = built(section)
  asked = [*POLICY.conversations(["so", TALK]), *CRITIC.conversations([TALK], ["4"])]
  made = writer.write(asked, jax.random.key(0), 1.0)
  assert made.texts == [["one"], ["because"], ["all of it"]]
  assert writer.write(asked[:1], jax.random.key(0), 1.0, samples=2).texts == [["one", "two"]]
  asked = POLICY.conversations(["so", *(f"missing {i}" for i in range(5))])
  with pytest.raises(ValueError) as error:
    writer.write(asked, jax.random.key(0), 1.0)
  assert str(error.value) == (
    f"{path} has fewer than 1 completions of 5 of 6 prompts: 'missing 0', 'missing 1', "
    "'missing 2', 2 more; add rows with these prompts"
  )
  path.write_text('{"prompt": "a", "response": "b"}\n{"prompt": "a"}\n', encoding="utf-8")
  with pytest.raises(ValueError, match="line 2: the row has no 'response'"):
    writers.file("old", path)
  with pytest.raises(ValueError, match="no file .*nowhere"):
    writers.file("old", tmp_path / "nowhere")


def test_columns_of_a_file_of_completions_may_be_called_otherwise(tmp_path):
  rows = [{"instruction": "so", "weak": "one", "strong": "two", "prompt": 7}]
  lines = tmp_path / "teachers.jsonl.gz"
  lines.write_bytes(gzip.compress(json.dumps(rows[0]).encode()))
  table = tmp_path / "teachers.parquet"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), table)
  for path, column, expected in ((lines, "weak", "one"), (table, "strong", "two")):
    section = {"kind": "file", "path": str(path), "prompt": "instruction", "response": column}
    writer = built(section)
    asked = POLICY.conversations(["so"])
    assert writer.write(asked, jax.random.key(0), 1.0).texts == [[expected]]
  with pytest.raises(ValueError, match="line 1: .*'prompt'.*columns read are 'text', 'weak'"):
    writers.file("w", lines, prompt="text", response="weak")
