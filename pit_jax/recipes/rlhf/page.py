"""What the report says of RLHF: systems, pipeline, and its words."""

import re
from collections.abc import Mapping, Sequence

from pit_jax.report import diagram, palette, presentation, rewarded

ROOM = 26  # letters of a line of a box

SYSTEMS = {
  "original": presentation.System("the policy after RLHF", palette.BLUE),
  "policy_sft": presentation.System("the policy after fine-tuning only", "#94a3ba"),
  "policy_resampled": presentation.System("a second sample of original", "#a09c94"),
}
FOLDS = {"sft": "Fold 1", "reward": "Fold 2", "rl": "Fold 3", "held_out": "Held out"}
JUDGES = {"R_P": "R_P, the reward model that also trained the policy"}
TERMS = {
  "M_P": "the policy: a language model that answers a prompt x",
  "R_P": "the reward model that scores a response; the policy learns from it",
  "y_w, y_l": "the preferred and the other response of the data",
}
STAGES = {
  "sft_policy": "Fine-tuning of the policy",
  "reward": "Training of R_P",
  "rl_policy": "RL of the policy",
}
REWARDS = {"reward": "R_P"}
HEADLINES = {("original", "policy_sft"): ("RLHF", "the fine-tuned policy's answers")}


def box(results: Mapping, stage: str, *lines: str) -> list[diagram.Box]:
  """Returns the box of one stage: what is said of it, and how long it takes."""
  return [diagram.Box((*lines, *diagram.effort(results, stage)))]


def reward_of(results: Mapping, stage: str, otherwise: str) -> tuple[str, ...]:
  """Returns what a stage of RL maximised as lines of its box; long sums have a line for a part."""
  told = rewarded.words(results.get("stages", {}).get(stage, {}), otherwise)
  text = f"for {told}, near its start"
  if len(text) <= ROOM:
    return (text,)
  first, *rest = re.split(r" (?=[+−] )", told)
  return (f"for {first}", *rest, "near its start")


def boxes(results: Mapping) -> dict[str, list[diagram.Box]]:
  """Returns the boxes of the policy's chain, by fold."""
  return {
    "sft": box(results, "sft_policy", "M_P fine-tuned", "x → y_w"),
    "reward": box(results, "reward", "R_P reward", "y_w above y_l"),
    "rl": box(results, "rl_policy", "M_P reinforced", *reward_of(results, "rl_policy", "R_P")),
    "held_out": [diagram.Box(("original", "x → M_P → y_0"))],
  }


def columns(
  results: Mapping, chains: Sequence[Mapping[str, list[diagram.Box]]]
) -> list[diagram.Column]:
  """Returns the columns of chains that learn on the same folds."""
  return [
    diagram.Column(FOLDS[fold], [chain[fold] for chain in chains], diagram.rows(results, fold))
    for fold in chains[0]
  ]


PAGE = presentation.Presentation(
  systems=SYSTEMS,
  baseline="original",
  judges=JUDGES,
  headlines=HEADLINES,
  diagram=lambda results: columns(results, [boxes(results)]),
  terms=TERMS,
  stages=STAGES,
  rewards=REWARDS,
)
