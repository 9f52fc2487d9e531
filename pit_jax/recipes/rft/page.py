"""What the report says of a reward learnt from demonstrations: arms, pipeline, claims."""

import re
from collections.abc import Iterable, Mapping, Sequence

from pit_jax.recipes.irft import page
from pit_jax.report import cells, claims, diagram, palette, presentation, tabular


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the rounds of the method, and below them those of its control."""
  stages = results.get("stages", {})
  numbers = range(1, results.get("config", {}).get("rft", {}).get("rounds", 0) + 1)
  if not stages or not numbers:
    return []

  columns = [
    diagram.Column(
      "Imitation",
      [[page.start(results)], [diagram.Box(("sft", "the same for both"))]],
      diagram.rows(results, stages["sft"].get("fold", "")),
    )
  ]
  told = {"rft": "demonstration above sample", "rft_shuffled": "roles at random"}
  for number in numbers:
    chains = [_round(results, arm, number, words) for arm, words in told.items()]
    columns.append(diagram.Column(f"Round {number}", chains))

  systems = dict.fromkeys(row["a"] for row in results["comparisons"])
  ends = [[page.compared(results, rounds(systems, arm)[-1])] for arm in told]
  return [*columns, diagram.Column("Held out", ends, diagram.rows(results, "held_out"))]


def _round(results: Mapping, arm: str, number: int, words: str) -> list[diagram.Box]:
  """Returns the boxes of a round of an arm: its reward, and its policy where it went on."""
  stages = results["stages"]
  reward = f"{arm}_reward_{number}"
  policy = f"{arm}_{number}"
  if reward not in stages:
    return [diagram.Box(("not begun",))]
  accuracy = stages[reward].get("facts", {}).get("validation accuracy")
  right = (f"right on {cells.percent(accuracy)}",) if accuracy is not None else ()
  first = diagram.Box((f"R_{number}", words, *right, *diagram.effort(results, reward)))
  if policy not in stages:
    return [first, diagram.Box(("ended",))]
  lines = (policy, f"for R_{number}, near its start", *diagram.effort(results, policy))
  return [first, diagram.Box(lines)]


def rounds(names: Iterable[str], arm: str) -> list[str]:
  """Returns those of some systems that are rounds of an arm, the first one first."""
  found = [name for name in names if re.fullmatch(rf"{arm}_\d+", name)]
  return sorted(found, key=lambda name: int(name.removeprefix(f"{arm}_")))


def about(system: str, *, is_over: bool) -> str:
  """Returns what the policy of a round is, of which there was none if rounds were over before."""
  number = system.rpartition("_")[2]
  if is_over:
    return f"as before: rounds had ended when round {number} was due"
  count = "one round" if number == "1" else f"{number} rounds"
  more = ", roles at random" if "shuffled" in system else ""
  return f"after {count} of reward learning and RL{more}"


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of each round's reward, of the order of letters, of the controls."""
  stated = []
  for system in rounds(dict.fromkeys(row["a"] for row in results["comparisons"]), "rft"):
    number = system.removeprefix("rft_")
    third = claims.share(results, system, "sft_longer", 1 / 3)
    stated += [
      claims.Stated(
        system, "sft_longer", f"after round {number} learnt rewards beat imitating demonstrations"
      ),
      claims.Stated(
        system, "sft_longer", f"after round {number} more letters work first", claims.EXPECTED,
        judge=page.WORKS_FIRST,
      ),
      claims.Stated(
        f"rft_shuffled_{number}", "sft_longer",
        f"after round {number} roles at random gain at most a third of that", claims.EXPECTED,
        at_most=third,
      ),
    ]  # fmt: skip
  found, _ = claims.decide(claims.tests(results, stated, {}))
  return found, claims.remark(results) if found else ""


PAGE = presentation.Presentation(
  title="A reward learnt from demonstrations, arXiv 2405.17888",
  systems={
    "rft_1": presentation.System("", palette.TEAL),
    "sft": page.SFT,
    "sft_longer": page.SFT_LONGER,
    "rft_shuffled_1": presentation.System("", palette.RUST),
  },
  baseline="sft_longer",
  headlines={
    ("rft_1", "sft_longer"): ("A reward learnt from demonstrations", "what imitating them answers")
  },
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Learning from demonstrations", (page.table,)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
  rewards={"reward": "the learnt reward"},
)
