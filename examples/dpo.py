"""Trains a policy on pairs alone, and says where the probability went.

python examples/dpo.py runs/dpo [--config.dpo.loss=ipo --config.dpo.beta=0.05 …]
"""

import json
import pathlib
import sys

import pit_jax
from pit_jax import configurations


def main(workdir: str, *values: str) -> None:
  """Trains in a folder, and prints what pairs and answers became."""
  config = pit_jax.get_config("dpo:tiny")
  configurations.change(config, values)
  pit_jax.train(config, workdir)

  folder = pathlib.Path(workdir)
  lines = (folder / "metrics" / "dpo_policy.jsonl").read_text(encoding="utf-8").splitlines()
  validated = next(row for row in map(json.loads, lines[::-1]) if "validation/loss" in row)
  for side in ("chosen", "rejected"):
    gained = validated[f"validation/{side}_logratio"]
    print(f"{side} responses gained {gained:+.2f} nats on the reference")

  # Where both fall, probability went to what nobody wrote: raise dpo.sft_coefficient.
  results = json.loads((folder / "report" / "results.json").read_text(encoding="utf-8"))
  a, b = results["headline"]
  for row in results["comparisons"]:
    if (row["a"], row["b"]) == (a, b):
      low, high = row["ci95"]
      print(f"{a} over {b} by {row['judge']}: {row['delta']:+.1f} ({low:+.1f} to {high:+.1f})")


if __name__ == "__main__":
  main(*sys.argv[1:])
