#!/usr/bin/env bash
# datasets: a JSON column whose strings all look like dates holds no strings
#
# Versions: datasets 5.2.0, pyarrow 26.0.1 (Python 3.11). Seen 2026-11-28.
#
# A reader would expect: JSON has strings and no dates; `load_dataset("json")`
#   on quoted values should give Value("string"), as it does for quoted
#   numbers, and the values should come back as written.
#
# What happens: if every string of a column looks like an ISO 8601 date or
#   time, the column becomes timestamp[s] (also inside chat messages) and
#   yields datetime objects; the writing ("2024-01-01", with or without a time,
#   a trailing Z) is lost. Asking for strings with `features=` does not bring
#   it back: the text is then "2024-01-01 00:00:00". A single other text in the
#   file keeps all of them strings if it is read in the same chunk; in a later
#   chunk it makes loading raise an error instead. Quoted numbers and clock
#   times stay strings.
#
# Output:
#   datasets 5.2.0 pyarrow 26.0.1
#   ['2024-01-01', '2024-02-01'] -> Value('timestamp[s]'), first datetime.datetime(2024, 1, 1, 0, 0)
#     in a template: The answer is 2024-01-01 00:00:00.
#   ['2024-01-01T10:00:00Z', '2024-02-01'] -> Value('timestamp[s]'), first datetime.datetime(2024, 1, 1,
#       10, 0)
#   ['2024-01-01', 'in May'] -> Value('string'), first '2024-01-01'
#   ['2024', '1'] -> Value('string'), first '2024'
#   ['10:00:00', '11:30:00'] -> Value('string'), first '10:00:00'
#   in a message: List({'role': Value('string'), 'content': Value('timestamp[s]')}) [{'role':
#       'assistant', 'content': datetime.datetime(2024, 1, 1, 0, 0)}]
#   ['2024-01-01'] -> Value('string'), first '2024-01-01 00:00:00'
#   from_list: Value('string') '2024-01-01'
#   a text after 15 MB of dates: DatasetGenerationError
#
# For users of preference and RLHF tooling: a set of "when did it happen"
#   questions, or a small shard or held-out split of one, loads with answers
#   that are no texts; a template renders them as "2024-01-01 00:00:00", which
#   differs from the reference. The kind can differ between train and test
#   files of one set. Parse the lines with `json` and use `Dataset.from_list`.
set -euo pipefail
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
export HF_HOME="$tmp/hf" HF_HUB_OFFLINE=1
python3.11 -m venv "$tmp/venv"
"$tmp/venv/bin/pip" install -q --no-compile 'datasets==5.2.0' 'pyarrow==26.0.1'
cd "$tmp"
"$tmp/venv/bin/python" - 2> "$tmp/log" <<'EOF' || { cat "$tmp/log" >&2; exit 1; }
import datetime
import json

import datasets
import pyarrow
from datasets import Dataset, Features, Value, load_dataset

datasets.disable_progress_bars()
print("datasets", datasets.__version__, "pyarrow", pyarrow.__version__)


def load(name, rows, **options):
    with open(name, "w") as lines:
        lines.writelines(json.dumps(row) + "\n" for row in rows)
    return load_dataset("json", data_files=name, split="train", **options)


def answers(name, *texts, **options):
    data = load(name, [{"answer": text} for text in texts], **options)
    print(f"{list(texts)} -> {data.features['answer']}, first {data[0]['answer']!r}")
    return data


day = answers("days.jsonl", "2024-01-01", "2024-02-01")
assert day.features["answer"] == Value("timestamp[s]")
assert day[0]["answer"] == datetime.datetime(2024, 1, 1)
print("  in a template:", f"The answer is {day[0]['answer']}.")
utc = answers("utc.jsonl", "2024-01-01T10:00:00Z", "2024-02-01")
assert utc.features["answer"] == Value("timestamp[s]")
assert answers("one.jsonl", "2024-01-01", "in May").features["answer"] == Value("string")
assert answers("numbers.jsonl", "2024", "1").features["answer"] == Value("string")
assert answers("clock.jsonl", "10:00:00", "11:30:00").features["answer"] == Value("string")
chat = load("chat.jsonl", [{"messages": [{"role": "assistant", "content": "2024-01-01"}]}])
print("in a message:", chat.features["messages"], chat[0]["messages"])
assert chat[0]["messages"][0]["content"] == datetime.datetime(2024, 1, 1)
told = answers("told.jsonl", "2024-01-01", features=Features({"answer": Value("string")}))
assert told[0]["answer"] == "2024-01-01 00:00:00"
kept = Dataset.from_list([{"answer": "2024-01-01"}])
print("from_list:", kept.features["answer"], repr(kept[0]["answer"]))
assert kept[0]["answer"] == "2024-01-01"
many = [{"answer": "2024-01-01", "notes": "x" * 1000}] * 15000 + [{"answer": "in May", "notes": "x"}]
try:
    load("many.jsonl", many)
except datasets.exceptions.DatasetGenerationError as error:
    print("a text after 15 MB of dates:", type(error).__name__)
else:
    raise SystemExit("a late text loads")
EOF
