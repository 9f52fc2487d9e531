"""The smallest runs of recipe `ser`, and what the tests of them ask."""

import dataclasses
import json
from unittest import mock

import tiny_run

from pit_jax.recipes.ser import rounds

# What a network of no size says is near to nothing: thresholds that some pairs pass even so.
SURE = {"ser__upper": 0.505, "ser__lower": 0.495, "ser__difference": 0.01}
SMALL = {
  "data__rows": 260, "evaluation__prompts": 16, "ser__draws": 2, "ser__rounds": 2,
  "ser__share": 0.3, "ser__samples": 2, "ser__least_new": 0.02, **SURE,
}  # fmt: skip
ROUNDS = ("ser_1", "ser_2")
ARMS = ("seed", *ROUNDS, "ser", "seed_longer", "ser_oracle", "ser_random", "all_labels")
LABELS = 0.9  # what validating labels say of the model of every round, but where a test says else


def config(**changes):
  return tiny_run.config("ser", "tiny_whole", **SMALL | changes)


def told(accuracies=None):
  """Has models be right on these shares of the validating labels, by arm, whatever they learnt."""
  whole = rounds.fit

  def fit(context, given, draw, name, *rest):
    model = whole(context, given, draw, name, *rest)
    accuracy = (accuracies or {}).get(name.split("_", 2)[-1], LABELS)
    return dataclasses.replace(model, facts=model.facts | {"accuracy": accuracy})

  return mock.patch.object(rounds, "fit", fit)


def made(workdir, name):
  return [json.loads(line) for line in (workdir / "rows" / f"{name}.jsonl").open()]


def mirrored(row):
  return dataclasses.replace(row, chosen=row.rejected, rejected=row.chosen)


def sides(rows):
  return [(row.prompt, row.chosen, row.rejected) for row in rows]
