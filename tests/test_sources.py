"""Files and hubs as sources: CSV, one JSON list, texts like dates, paths and hubs that fail."""

import gzip
import json
import time

import datasets
import pytest
import tensorflow_datasets as tfds

from pit_jax.commands import doctor
from pit_jax.data import preferences

ROW = {"prompt": "why?", "chosen": "yes", "rejected": "no"}
EXPECTED = preferences.Preference("why?", "yes", "no")


@pytest.fixture
def hub_cache(tmp_path, monkeypatch):
  monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))


TABLE = (
  'prompt,chosen,rejected,margin\r\n"why, or ""how""?","a\n\nb",c,\r\n\r\nwho?,mia,amy,2.5\r\n'
)


def test_a_csv_file_is_read_under_its_own_name(tmp_path):
  for name, data in (
    ("rows.csv", TABLE.encode()),
    ("marked.csv", b"\xef\xbb\xbf" + TABLE.encode()),
    ("rows.csv.gz", gzip.compress(TABLE.encode())),
  ):
    (tmp_path / name).write_bytes(data)
    loaded = preferences.load(f"csv:{tmp_path / name}")
    assert loaded.rows == (
      preferences.Preference('why, or "how"?', "a\n\nb", "c"),
      preferences.Preference("who?", "mia", "amy", margin=2.5),
    )
    lines = [row.place for row in loaded.rows]
    assert lines == [f"{tmp_path / name}, line {line}" for line in (2, 6)]
  (tmp_path / "rows.tsv").write_text("prompt\tchosen\trejected\na, b\tc\td\n")
  assert preferences.load(f"csv:{tmp_path / 'rows.tsv'}").rows[0].prompt == "a, b"


DIVIDED = 'prompt{0}chosen{0}rejected\r\n"why?"{0}yes{0}no\r\n'


@pytest.mark.parametrize("name", ["rows.csv", "rows.tsv"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_line_of_names_tells_what_divides_columns(tmp_path, name, delimiter):
  path = tmp_path / name
  path.write_bytes(b"\xef\xbb\xbf" + DIVIDED.format(delimiter).encode())
  loaded = preferences.load(f"csv:{path}")
  assert loaded.rows == (EXPECTED,) and loaded.rows[0].place.endswith("line 2")


def test_what_may_divide_columns_is_not_guessed(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_text("prompt;chosen\trejected\nwhy?;yes\tno\n")
  with pytest.raises(
    ValueError, match="rows.csv: the line of names has tabs and semicolons, but n"
  ):
    preferences.load(f"csv:{path}")
  path.write_text("prompt,chosen,rejected;safer\nwhy?,yes;,no\n")
  with pytest.raises(
    ValueError, match="The fields are: prompt, chosen, rejected;safer|'rejected' is"
  ):
    preferences.load(f"csv:{path}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_utf_16_is_named(tmp_path, kind, encoding):
  text = {"csv": DIVIDED.format(","), "jsonl": json.dumps(ROW)}[kind].encode(encoding)
  for data in (text, gzip.compress(text)):
    (tmp_path / "rows").write_bytes(data)
    with pytest.raises(ValueError) as caught:
      preferences.load(f"{kind}:{tmp_path / 'rows'}")
    assert str(caught.value).startswith(f"{tmp_path / 'rows'} is UTF-16; save it as UTF-8, with ")


@pytest.mark.parametrize(
  ("line", "message"),
  [
    (
      b"why?,yes",
      "line 3: broken CSV: 2 columns, where the first line names 3: prompt, chosen, re",
    ),
    (b"why?,yes,no,more", "line 3: broken CSV: 4 columns"),
    (b"\xff,yes,no", "line 3: invalid UTF-8: 'prompt': byte 0xff at position 0 is no UTF-8; save"),
    (b"why?,,no", "line 3: empty field: 'chosen'"),
    (b'why?,"yes,no', "line 3: broken CSV: unexpected end of data"),
  ],
)
def test_a_bad_line_of_csv_is_named_or_counted(tmp_path, line, message):
  path = tmp_path / "rows.csv"
  path.write_bytes(b"prompt,chosen,rejected\nwhy?,yes,no\n" + line + b"\n")
  with pytest.raises(ValueError, match=message):
    preferences.load(f"csv:{path}")
  assert preferences.load(f"csv:{path}", on_bad_row="skip").rows == (EXPECTED,)


def test_names_of_columns_that_are_no_utf_8_are_told_with_what_to_do(tmp_path):
  path = tmp_path / "rows.csv"
  path.write_bytes("prompt,gewählt,rejected\nwhy?,yes,no\n".encode("latin-1"))
  with pytest.raises(ValueError) as error:
    preferences.load(f"csv:{path}")
  assert str(error.value) == (
    f"{path}, line 1: byte 0xe4 at position 10 is no UTF-8; save the file as UTF-8, from Latin-1 "
    "with `iconv -f LATIN1 -t UTF-8`"
  )


def test_a_csv_file_names_each_column_once(tmp_path):
  (tmp_path / "rows.csv").write_text("prompt,chosen,chosen\na,b,c\n")
  with pytest.raises(
    ValueError, match="a column's name is there twice; they are prompt, chosen, c"
  ):
    preferences.load(f"csv:{tmp_path / 'rows.csv'}")
  (tmp_path / "rows.csv").write_text("why?,yes,no\nwho?,mia,amy\n")
  with pytest.raises(ValueError, match=r"unknown schema: .* The fields are: why\?, yes, no"):
    preferences.load(f"csv:{tmp_path / 'rows.csv'}")


def test_one_json_list_is_a_file_of_rows(tmp_path):
  for data in (
    json.dumps([ROW, ROW], indent=2).encode(),
    b"\xef\xbb\xbf \n" + json.dumps([ROW, ROW]).encode(),
    gzip.compress(json.dumps([ROW, ROW]).encode()),
  ):
    (tmp_path / "rows.json").write_bytes(data)
    loaded = preferences.load(f"jsonl:{tmp_path / 'rows.json'}")
    assert loaded.rows == (EXPECTED,) * 2
    assert loaded.rows[1].place == f"{tmp_path / 'rows.json'}, item 2"
  (tmp_path / "rows.json").write_text(json.dumps([ROW, ROW | {"chosen": 3}]))
  with pytest.raises(ValueError, match="item 2: wrong type: 'chosen'"):
    preferences.load(f"jsonl:{tmp_path / 'rows.json'}")
  (tmp_path / "rows.json").write_text(json.dumps([ROW])[:-1])
  with pytest.raises(ValueError, match="line 1: broken JSON"):
    preferences.load(f"jsonl:{tmp_path / 'rows.json'}")


DATED = {"prompt": "when?", "chosen": "2019-03-01", "rejected": "2019-03-02T10:00:00Z"}


def test_texts_that_look_like_dates_stay_texts(tmp_path, hub_cache):
  (tmp_path / "hub").mkdir()
  lines = "".join(json.dumps(DATED | {"prompt": f"{i}"}) + "\n" for i in range(3))
  for name in ("train.jsonl", "test.json"):
    (tmp_path / "hub" / name).write_text(lines)
  (tmp_path / "rows.csv").write_text("prompt,chosen,rejected\n0,2019-03-01,2019-03-02T10:00:00Z\n")
  hub = tmp_path / "hub"
  for source in (hub / "train.jsonl", hub, f"{hub}:test", tmp_path / "rows.csv"):
    loaded = preferences.load(f"hf:{source}", on_bad_row="skip")
    assert {(row.chosen, row.rejected) for row in loaded.rows} == {
      ("2019-03-01", "2019-03-02T10:00:00Z")
    }
    assert not loaded.skipped


def test_a_text_that_a_hub_took_for_a_date_is_named_as_one(tmp_path):
  (tmp_path / "rows.jsonl").write_text(json.dumps(DATED))
  table = datasets.load_dataset(
    "json", data_files=str(tmp_path / "rows.jsonl"), split="train", cache_dir=str(tmp_path / "c")
  )
  table.save_to_disk(tmp_path / "disk")
  with pytest.raises(ValueError, match="'chosen' must be a text, .* taken for a date, .* jsonl:PA"):
    preferences.load(f"hf:{tmp_path / 'disk'}")


@pytest.mark.parametrize("kind", ["hf", "tfds"])
@pytest.mark.parametrize(
  "name", ["/absent/rows", "./absent", "~/rows", "absent.jsonl", "absent/rows.parquet", "here/b/c"]
)
def test_a_path_that_does_not_exist_says_so_at_once(tmp_path, monkeypatch, kind, name):
  def not_asked(*_, **__):
    raise AssertionError("a path is no name on a hub")

  (tmp_path / "here" / "b").mkdir(parents=True)
  monkeypatch.chdir(tmp_path)
  for library, function in ((datasets, "load_dataset"), (tfds, "data_source")):
    monkeypatch.setattr(library, function, not_asked)
  start = time.monotonic()
  with pytest.raises(ValueError, match=f"no file or directory {name} .*check the data source"):
    preferences.load(f"{kind}:{name}")
  assert time.monotonic() - start < 2


HUB_ERRORS = {
  "not there": datasets.exceptions.DatasetNotFoundError(
    "Dataset 'a/b' doesn't exist.\nOr it is ga"
  ),
  "no network": ConnectionError("Couldn't reach 'a/b' on the Hub (LocalEntryNotFoundError)"),
  "no split": ValueError('Unknown split "train".\nShould be one of [test].'),
  "of a client": type("HTTPError", (Exception,), {})("401\n\nClient Error"),
  "without words": TimeoutError(),
  "long": RuntimeError("word " * 1000),
}


@pytest.mark.parametrize("name", HUB_ERRORS)
def test_errors_of_a_hub_are_one_line(monkeypatch, name):
  def fail(*_, **__):
    raise HUB_ERRORS[name]

  monkeypatch.setattr(datasets, "load_dataset", fail)
  monkeypatch.setattr(tfds, "data_source", fail)
  for source in ("hf:a/b", "tfds:a"):
    with pytest.raises(ValueError) as caught:
      preferences.load(source)
    first_word = (str(HUB_ERRORS[name]).split() or ["TimeoutError"])[0]
    assert f"{source} cannot be read: {first_word}" in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
  with pytest.raises(SystemExit, match="error: hf:a/b cannot be read: "):
    doctor.main(["--source=hf:a/b"])


def test_a_hub_is_said_to_be_asked_before_it_is(monkeypatch, caplog):
  """Where it is out of reach, the library tries for minutes and says nothing."""
  said = []

  def load(*_, **__):
    said.extend(record.getMessage() for record in caplog.records)
    return [ROW]

  monkeypatch.setattr(datasets, "load_dataset", load)
  preferences.load("hf:a/b", is_streamed=True)
  assert [line for line in said if "asking the hub for a/b" in line]


def test_a_connection_that_breaks_while_rows_are_fetched_is_one_line(monkeypatch):
  def rows():
    yield ROW
    raise ConnectionError("reset\nby peer")

  monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: rows())
  with pytest.raises(ValueError, match="^hf:a/b:train cannot be read: reset by peer$"):
    preferences.load("hf:a/b", is_streamed=True)
  assert preferences.load("hf:a/b", is_streamed=True, limit=1).rows == (EXPECTED,)


@pytest.mark.parametrize("name", ["a b/c", "a/b/c/d", "a//b"])
def test_a_name_that_no_hub_has_is_refused(name):
  with pytest.raises(ValueError, match="no path here, and on the hub it would be OWNER/NAME"):
    preferences.load(f"hf:{name}")


def test_the_library_brings_an_example(tmp_path):
  loaded = preferences.load("example")
  assert len(loaded.rows) == 210 and not loaded.skipped
  assert len({row.prompt for row in loaded.rows}) == 210

  # It is large enough for the folds of a configuration and for batches of the tiny ones.
  folds = preferences.Division().divide(loaded.rows)
  assert min(len(part) for name, part in folds.items() if "_" not in name and part) >= 40
