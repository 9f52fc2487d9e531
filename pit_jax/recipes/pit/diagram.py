"""PIT's pipeline: four models, three folds, and the curriculum of the run."""

from collections.abc import Mapping

from pit_jax.recipes.pit import criticised
from pit_jax.recipes.rlhf import page
from pit_jax.report import diagram, rewarded

REFERENCES = {
  "dataset.rejected": "y_l",
  "dataset.chosen": "y_w",
  "policy": "samples of M_P",
  criticised.SOURCE: "criticised samples of M_P",
}


def columns(results: Mapping) -> list[diagram.Column]:
  """Returns the columns of the policy's chain and the improver's."""
  stages = results.get("config", {}).get("curriculum", ())
  improver = {
    "sft": page.box(results, "sft_improver", "M_PIT fine-tuned", "x, y_l → y_w"),
    "reward": page.box(results, "gap_reward", "R_PIT gap reward", "quality of y_1 − y_2"),
    "rl": [_stage(results, index, stage) for index, stage in enumerate(stages)]
    or page.box(results, "", "M_PIT reinforced", "for R_PIT, near its start"),
    "held_out": [diagram.Box(("pit", "x, y_0 → M_PIT → y_1", "until R_PIT sees no gain"))],
  }

  return page.columns(results, [page.boxes(results), improver])


def _stage(results: Mapping, index: int, stage: Mapping) -> diagram.Box:
  sources = " and ".join(REFERENCES[reference] for reference in stage["references"])
  effort = diagram.effort(results, f"pit_{stage['name']}")
  trained = results.get("stages", {}).get(f"pit_{stage['name']}", {})
  # R_PIT alone is the method's own, and goes without saying.
  other = () if rewarded.is_single(trained) else page.reward_of(results, f"pit_{stage['name']}", "")
  lines = (f"M_PIT stage {index}", f"improves {sources}", *other, *effort)
  samples = {"policy", criticised.SOURCE}
  return diagram.Box(lines, takes_samples=not samples.isdisjoint(stage["references"]))
