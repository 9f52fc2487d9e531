"""Trains reward models on preferences that a program has, under names of its own.

  python examples/own_preferences.py runs/own [--config.reward.steps=40 …]

The rows are letters of the embedded task, so that nothing is downloaded. Other rows do as well: a
list, a `datasets.Dataset`, or `pit_jax.Preferences.read("jsonl:mine.jsonl")`.
"""

import sys
from collections.abc import Iterator

import pit_jax
from pit_jax import configurations
from pit_jax.tasks import synthetic


def records(count: int) -> Iterator[dict[str, str]]:
  """Yields what a program of one's own may hold: nobody else's names for the three texts."""
  for row in synthetic.preferences(count, seed=3):
    yield {"q": row["prompt"], "better": row["chosen"], "worse": row["rejected"]}


def main(workdir: str, *values: str) -> None:
  """Trains R_P and R_PIT in a folder, and asks both about held-back rows."""
  config = pit_jax.get_config("reward:tiny")
  configurations.change(config, values)

  *rows, last = records(1_001)
  preferences = pit_jax.Preferences(
    {"prompt": row["q"], "chosen": row["better"], "rejected": row["worse"]} for row in rows
  )
  print(f"{len(preferences)} rows can be used; left out: {dict(preferences.skipped) or 'none'}")

  run = pit_jax.train(config, workdir, preferences=preferences)
  prompts, responses = [last["q"]] * 2, [last["better"], last["worse"]]
  print("R_P of the better and the worse letter:", run.score(prompts, responses).round(2))
  gaps = run.gap(prompts, responses, references=responses[::-1])
  print("R_PIT of the better over the worse letter, and back:", gaps.round(2))


if __name__ == "__main__":
  main(*sys.argv[1:])
