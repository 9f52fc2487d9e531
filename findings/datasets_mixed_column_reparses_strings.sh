#!/usr/bin/env bash
# datasets: in a column of mixed kinds, texts that read as JSON stop being texts
#
# Versions: datasets 5.2.0, pyarrow 26.0.1 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: a JSON-lines file says which values are strings, so
#   {"content": "7"} is the text 7. Columns of mixed kinds are taken as the
#   feature `Json`, documented as one for JSON objects, stored as encoded
#   strings: encoding and decoding should give back what went in.
#
# What happens: a string that happens to parse as JSON is stored unencoded and
#   comes back as what it parses to: "7" and "007" as the integer 7, "true" as
#   True, "null" and "NaN" as None, "[1, 2]" as a list, and a text in quotation
#   marks without them. Other strings in the same column stay strings. One row
#   elsewhere in the file (here a chat message whose content is a list of
#   parts) is enough to turn the whole column. `Dataset.from_generator` and
#   `map` do the same; `map` has a second form: where the first 1000 results
#   are integers, a later "007" is silently stored as 7, and where they are
#   strings a later 5 becomes "5".
#
# Output:
#   datasets 5.2.0 pyarrow 26.0.1
#   texts only: List({'role': Value('string'), 'content': Value('string')}) True
#   and one content of parts: List({'role': Value('string'), 'content': Json(decode=True)})
#     '7'        -> 7
#     '007'      -> 7
#     '1e3'      -> 1000.0
#     'true'     -> True
#     'null'     -> None
#     'NaN'      -> None
#     '[1, 2]'   -> [1, 2]
#     '"yes"'    -> 'yes'
#     'seven'    -> 'seven'
#   from_generator, one integer among them: Json(decode=True) [7, 7, 1000.0, True, None, None, [1, 2],
#       'yes', 'seven', 5]
#   map, 1000 integers, then '007': Value('int64') 7
#   map, 1000 strings, then 5:      Value('string') '5'
#
# For users of preference and RLHF tooling: short answers ("7", "true",
#   "null", "[1, 2]") are the usual references of mathematics and code tasks.
#   Mixed with multi-part messages they reach the reward function as numbers,
#   booleans or nothing, and an exact match on texts fails for just those rows.
#   Keep answers in a column of their own that holds strings only.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'datasets==5.2.0' 'pyarrow==26.0.1'
cd "$tmp"
"$tmp/venv/bin/python" - <<'EOF'
import json

import datasets
import pyarrow
from datasets import Dataset, load_dataset

datasets.disable_progress_bars()
print("datasets", datasets.__version__, "pyarrow", pyarrow.__version__)
texts = ["7", "007", "1e3", "true", "null", "NaN", "[1, 2]", '"yes"', "seven"]
expected = [7, 7, 1000.0, True, None, None, [1, 2], "yes", "seven"]
parts = [{"type": "text", "text": "7"}]


def load(name, contents):
    with open(name, "w") as lines:
        for content in contents:
            lines.write(json.dumps({"messages": [{"role": "user", "content": content}]}) + "\n")
    data = load_dataset("json", data_files=name, split="train")
    return data.features["messages"], [row["messages"][0]["content"] for row in data]


kind, same = load("texts.jsonl", texts)
print("texts only:", kind, same == texts)
assert same == texts
kind, mixed = load("mixed.jsonl", [*texts, parts])
print("and one content of parts:", kind)
for text, value in zip(texts, mixed):
    print(f"  {text!r:10} -> {value!r}")
assert mixed[:-1] == expected and [type(v) for v in mixed[:-1]] == [type(v) for v in expected]
assert mixed[-1] == parts


def rows():
    for text in [*texts, 5]:
        yield {"answer": text}


generated = Dataset.from_generator(rows)
print("from_generator, one integer among them:", generated.features["answer"], generated["answer"][:])
assert generated["answer"][:-1] == expected

count = Dataset.from_dict({"i": range(1001)})
late_text = count.map(lambda row: {"answer": 5 if row["i"] < 1000 else "007"})
late_number = count.map(lambda row: {"answer": "007" if row["i"] < 1000 else 5})
print("map, 1000 integers, then '007':", late_text.features["answer"], repr(late_text[1000]["answer"]))
print("map, 1000 strings, then 5:     ", late_number.features["answer"], repr(late_number[1000]["answer"]))
assert late_text[1000]["answer"] == 7 and late_number[1000]["answer"] == "5"
EOF
