"""Runs of recipe `salmon`, as small as they come."""

import json

import tiny_run

SMALL = {
  "model__base": "none", "data__rows": 200, "data__max_prompt_length": 352,
  "evaluation__prompts": 12, "salmon__pairs": 12, "salmon__form": "scalar",
}  # fmt: skip
POLICIES = ["salmon", "salmon_manners", "salmon_drawn"]
OTHERS = (("manners", "greeting,not:closing"), ("drawn", ""))


def config(**changes):
  return tiny_run.config("salmon", **SMALL | {"salmon__others": OTHERS} | changes)


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]
