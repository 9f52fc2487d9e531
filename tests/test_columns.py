"""Columns that are called otherwise, `data.columns`; and files that are not what they are named."""

import json
import logging
import re

import pyarrow
import pyarrow.parquet
import pytest
import test_doctor

from pit_jax import configurations
from pit_jax.data import preferences, published
from pit_jax.run import rows as run_rows

ROWS = [{"frage": f"q{i}", "gut": f"good {i}", "schlecht": f"bad {i}"} for i in range(3)]
COLUMNS = "prompt=frage,chosen=gut,rejected=schlecht"


def jsonl(tmp_path, rows):
  path = tmp_path / "rows.jsonl"
  path.write_text("".join(json.dumps(row) + "\n" for row in rows))
  return f"jsonl:{path}"


def sources(tmp_path):
  """Yields the same rows as every kind of file."""
  yield jsonl(tmp_path, ROWS)
  lines = [",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)]
  (tmp_path / "rows.csv").write_text("\n".join(lines))
  yield f"csv:{tmp_path / 'rows.csv'}"
  pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.parquet")
  yield f"parquet:{tmp_path / 'rows.parquet'}"


def test_columns_of_every_kind_of_file_are_renamed(tmp_path):
  for source in sources(tmp_path):
    loaded = preferences.load(source, columns=COLUMNS)
    assert [(row.prompt, row.chosen, row.rejected) for row in loaded.rows] == [
      tuple(row.values()) for row in ROWS
    ]
    assert loaded.schemas == {"standard": 3}


def test_columns_are_renamed_before_a_schema_is_recognised(tmp_path):
  rated = [{"q": "why?", "a": answer, "stars": stars} for answer, stars in (("x", 1), ("y", 5))]
  source = jsonl(tmp_path, rated)
  loaded = preferences.load(source, columns="prompt=q,response=a,helpfulness=stars")
  assert [(row.chosen, row.margin) for row in loaded.rows] == [("y", 4)]
  swapped = jsonl(tmp_path, [{"prompt": "why?", "chosen": "bad", "rejected": "good"}])
  (row,) = preferences.load(swapped, columns="chosen=rejected, rejected=chosen").rows
  assert (row.chosen, row.rejected) == ("good", "bad")


def test_a_column_may_be_absent_in_some_rows(tmp_path):
  source = jsonl(tmp_path, [ROWS[0], {**ROWS[1], "sure": 2}])
  loaded = preferences.load(source, columns=f"{COLUMNS},margin=sure")
  assert [row.margin for row in loaded.rows] == [None, 2]


@pytest.mark.parametrize(
  ("columns", "message"),
  [
    (
      "prompt=Frage",
      "line 1: there is no column 'Frage' to be 'prompt'; the fields are: frage",
    ),
    ("promt=frage", "calls 'frage' 'promt', which nothing reads; near it is 'prompt'; write it as"),
    ("Chosen=gut", "which nothing reads; near it is 'chosen'"),
    ("zzz=frage", "calls 'frage' 'zzz', which nothing reads; write it as prompt=COLUMN"),
    ("prompt=frage,prompt=gut", "has the name 'prompt' twice"),
    ("prompt=frage,chosen=frage", "has the column 'frage' twice"),
    ("frage", "data.columns='frage'; write it as prompt=COLUMN"),
    ("prompt=", "data.columns='prompt='; write it as"),
  ],
)
def test_what_cannot_be_renamed_is_refused(tmp_path, columns, message):
  with pytest.raises(ValueError) as caught:
    preferences.load(jsonl(tmp_path, ROWS), columns=columns, on_bad_row="skip")
  assert message in str(caught.value)


def test_two_columns_never_get_one_name(tmp_path):
  source = jsonl(tmp_path, [{**ROWS[0], "prompt": "another"}])
  with pytest.raises(ValueError, match="line 1: .* and there is a column 'prompt' already"):
    preferences.load(source, columns=COLUMNS, on_bad_row="skip")


def test_broken_rows_are_no_reason_to_miss_a_column(tmp_path):
  (tmp_path / "rows.jsonl").write_text("{\n{\n")
  with pytest.raises(ValueError, match="2 rows such as .*broken JSON"):
    preferences.load(f"jsonl:{tmp_path / 'rows.jsonl'}", columns=COLUMNS, on_bad_row="skip")


def test_a_run_and_the_doctor_rename_as_they_are_told(tmp_path):
  config = configurations.load("pit:tiny").copy_and_resolve_references()
  values = [f"--config.data.columns={COLUMNS}", f"--config.data.source={jsonl(tmp_path, ROWS)}"]
  configurations.change(config, values)
  assert len(run_rows.load(config, tmp_path, lambda prompt: None).rows) == 3

  rows = [
    {"frage": row["prompt"], "gut": row["chosen"], "schlecht": row["rejected"]}
    for row in test_doctor.clean(40)
  ]
  found, _ = test_doctor.examine(tmp_path, rows, f"--columns={COLUMNS}")
  assert test_doctor.value(found["rows"], "usable rows") == 40


def test_an_unknown_shape_says_both_ways_once(tmp_path, caplog):
  source = jsonl(tmp_path, [{"Prompt": "why?", "good": "a", "bad": "b"}] * 2)
  with caplog.at_level(logging.WARNING), pytest.raises(ValueError) as caught:
    preferences.load(source, on_bad_row="skip")
  message = str(caught.value)
  assert message.count("unknown schema") == 1 and not caplog.text
  assert "'Prompt' is read by no schema; near it is 'prompt'" in message
  assert "--config.data.columns=prompt=COLUMN" in message and "rename them in the file" in message
  assert len(message) < 700 + len(source)


def test_a_list_of_answers_says_once_what_each_needs(tmp_path):
  rows = [{"question": "why?", "answers": ["a", "b", "c"], "ratings": [1, 2, 3]}] * 4
  with pytest.raises(ValueError) as caught:
    preferences.load(jsonl(tmp_path, rows), on_bad_row="skip")
  message = str(caught.value)
  assert "no usable row: 4 rows such as " in message
  assert "'answers[0]' must be an object with 'text', a text, and 'pm_score', a number" in message
  assert message.endswith("(read as stack_exchange_answers)")
  rows = [{"prompt": "why?", "answers": [{"answer": "a", "score": 1}, {"answer": "b", "score": 2}]}]
  with pytest.raises(ValueError, match="'rank', a number; its fields are: answer, score.*nectar"):
    preferences.load(jsonl(tmp_path, rows))


MISNAMED = {
  "csv": ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n', "looks like JSON; use jsonl:"),
  "jsonl": ("prompt,chosen,rejected\na,b,c\n", "a table divided by commas; use csv:"),
}


@pytest.mark.parametrize("kind", MISNAMED)
def test_a_file_of_another_kind_says_which(tmp_path, kind):
  content, message = MISNAMED[kind]
  (tmp_path / "rows").write_text(content)
  with pytest.raises(ValueError, match=message):
    preferences.load(f"{kind}:{tmp_path / 'rows'}", on_bad_row="skip")
  parquet = list(sources(tmp_path))[2].removeprefix("parquet:")
  with pytest.raises(ValueError, match="is Parquet; use parquet:"):
    preferences.load(f"{kind}:{parquet}", on_bad_row="skip")


def test_a_file_without_its_kind_says_which(tmp_path):
  for source in sources(tmp_path):
    with pytest.raises(ValueError, match=f"is a file without its kind; use {source}"):
      preferences.load(source.partition(":")[2])


@pytest.mark.parametrize("schema", published.SCHEMAS, ids=lambda schema: schema.name)
def test_every_shape_says_what_it_prefers_in_words_of_its_own_fields(schema):
  inside = re.findall(r"`([^`]+)`", schema.inside)
  named = re.findall(r"`([^`…]+)`", schema.preferred)
  fields = {*schema.columns, *inside, "response_a", "response_b"}
  assert schema.preferred and {*named} <= fields
  # What lists answers says what each of them holds.
  assert bool(inside) == (
    schema.name in ("summaries", "nectar", "openai", "ultrafeedback", "webgpt")
    or schema.name == "stack_exchange_answers"
  )


@pytest.mark.parametrize("name", ["nectar", "ultrafeedback", "stack_exchange_answers"])
def test_lists_of_answers_are_read_by_the_fields_that_they_say(tmp_path, name):
  schema = published.BY_NAME[name]
  listed, content, rating, writer = re.findall(r"`([^`]+)`", schema.inside)
  answers = [{content: text, rating: number, writer: text} for text, number in (("a", 1), ("b", 2))]
  source = jsonl(tmp_path, [{schema.columns[0]: "why?", listed: answers}])
  (row,) = preferences.load(source).rows
  is_lower = "lower" in schema.preferred
  assert f"`{rating}`" in schema.preferred and is_lower != ("higher" in schema.preferred)
  assert row.chosen == ("a" if is_lower else "b")
  assert row.writers == (row.chosen, row.rejected)
