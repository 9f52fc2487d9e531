"""Public preference files that tests read where they are; PIT_JAX_DATA names their directory."""

import gzip
import json
import os
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
DIRECTORY = pathlib.Path(os.environ.get("PIT_JAX_DATA", ROOT.parent / "shared" / "data"))
TEACHERS = DIRECTORY / "alpacaeval_teachers.jsonl.gz"


def instructions(count: int, longest: int) -> list[dict]:
  """Returns AlpacaEval's first instructions of so many letters at most, with two answers each.

  There are none where its file is not there.
  """
  if not TEACHERS.exists():
    return []
  with gzip.open(TEACHERS, "rt", encoding="utf-8") as lines:
    rows = [json.loads(line) for line in lines]
  return [
    {
      "prompt": row["instruction"].strip(),
      "chosen": row["strong_teacher"],
      "rejected": row["weak_teacher"],
    }
    for row in rows
    if len(row["instruction"]) <= longest
  ][:count]
