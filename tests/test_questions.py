"""Questions read from JSON lines: what cannot be used says why and stops nothing."""

import gzip
import io
import json

import numpy as np
import pytest

from pit_jax.data import questions

BAD = {  # line → what its error says
  b"{broken": "broken JSON",
  b"[" * 100_000: "broken JSON",
  b'{"prompt": ' + b"9" * 5_000 + b"}": "broken JSON",
  b'["prompt"]': "wrong type: a row must be an object, not list",
  b'{"response": "yes", "id": 1}': "missing field: 'prompt'",
  b'{"prompt": null, "id": 2}': "missing field: 'prompt'",
  b'{"prompt": "  ", "id": 2}': "empty field: 'prompt'",
  b'{"prompt": 3, "id": 3}': "wrong type: 'prompt' must be a text, not int",
  b'{"prompt": "x", "response": ["y"], "id": 4}': "wrong type: 'response'",
  b'{"prompt": "caf\xe9"}': "invalid UTF-8",
  b'{"prompt": "\\ud800", "id": 6}': "invalid UTF-8: 'prompt'",
}


def read(data: bytes):
  return list(questions.read(io.BufferedReader(io.BytesIO(data))))


def test_rows_are_read_in_order_with_their_lines():
  data = b'{"prompt": " a ", "id": 1}\n\n  \n{"prompt": "b", "response": "c "}\r\n'
  data += b'{"prompt": "d", "response": " "}'  # nothing to improve: the policy writes it
  assert read(data) == [
    questions.Question(1, {"prompt": " a ", "id": 1}, "a"),
    questions.Question(4, {"prompt": "b", "response": "c "}, "b", "c"),
    questions.Question(5, {"prompt": "d", "response": " "}, "d"),
  ]


@pytest.mark.parametrize("line", BAD, ids=[line[:30].decode("latin-1") for line in BAD])
def test_a_bad_row_says_why_and_the_next_is_read(line):
  bad, good = read(line + b'\n{"prompt": "x"}\n')
  assert bad.line == 1 and bad.error.startswith(BAD[line])
  assert bad.fields == (json.loads(line) if b'"id"' in line else {})
  assert good == questions.Question(2, {"prompt": "x"}, "x")


def test_a_system_beside_the_prompt_is_the_systems_turn():
  (row,) = read(b'{"prompt": "why?", "system": " be brief "}')
  assert row.prompt == (("system", "be brief"), ("user", "why?"))
  (row,) = read(b'{"prompt": "why?", "system": ""}')
  assert row.prompt == "why?"


def test_a_byte_order_mark_is_no_text():
  assert read(b'\xef\xbb\xbf{"prompt": "x"}')[0].prompt == "x"


def test_no_bytes_are_no_rows():
  assert read(b"") == read(b"\n \n") == read(gzip.compress(b"")) == []


def test_a_truncated_gzip_ends_in_an_error():
  noise = [np.random.default_rng(i).bytes(99).hex() for i in range(400)]
  lines = [json.dumps({"prompt": words}).encode() for words in noise]
  packed = gzip.compress(b"\n".join(lines))
  assert [row.prompt for row in read(packed)] == noise
  *good, last = read(packed[: len(packed) // 2])
  assert [row.prompt for row in good] == noise[: len(good)] and len(good) > 100
  assert last.error.startswith("truncated gzip") and last.line == len(good) + 1
  *_, last = read(packed[:100] + b"damaged" + packed[107:])
  assert last.error.startswith("truncated gzip")
