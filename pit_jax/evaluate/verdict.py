"""What a run may claim: the gate, what is held back when it is shut, and the headline."""

from collections.abc import Mapping, Sequence
from typing import Any

JUDGES = {  # in the order in which they are believed
  "gold": "the gold score, which training never saw",
  "R_public": "R_public, a published reward model",
  "R_judge": "R_judge, a reward model trained on pairs that trained nothing else",
  "R_P": "R_P, the reward model that also trained the policy",
  "R_PIT": "R_PIT, the gap reward model that also trained the improver",
}
# Comparisons among these say something even where reinforcement learning spoilt the policy; any
# other system is built on `original`, and an improver that beats a broken policy proves nothing.
POLICIES = frozenset(
  {"original", "policy_sft", "policy_resampled", "rlhf_longer", "chosen", "rejected"}
)


def gate(results: Mapping) -> dict[str, Any]:
  """Returns whether the policy is sound enough for its improvement to mean something.

  Original has to beat policy_sft, with the interval above 0, under R_P and, where there are
  any, under the gold score and under the independent judges.

  Args:
    results: the results dict; its own `gate` is taken when it has one.

  Returns:
    `passed` and a `reason` that names the figure that decided.
  """
  if "gate" in results:
    return dict(results["gate"])
  comparisons = results["comparisons"]
  named = {row["judge"] for row in comparisons}
  judges = [judge for judge in ("R_P", "R_judge", "R_public", "gold") if judge in named]
  for judge in judges or ["R_P"]:
    row = find(comparisons, "original", "policy_sft", (judge,))
    if row is None:
      reason = f"original was not compared with policy_sft under {judge}"
      return {"passed": False, "reason": reason}
    if row["ci95"][0] <= 0:
      reason = f"original does not beat policy_sft under {judge}: {interval_text(row)}"
      return {"passed": False, "reason": reason}
  return {"passed": True, "reason": f"original beats policy_sft under {' and '.join(judges)}"}


def presentable(results: Mapping) -> dict[str, Any]:
  """Returns the results without the figures that a shut gate holds back.

  Scores stay, every Δ that involves an improver goes. results.json keeps everything.
  """
  shown = dict(results)
  if gate(results)["passed"]:
    return shown
  shown["comparisons"] = [row for row in results["comparisons"] if {row["a"], row["b"]} <= POLICIES]
  fields = ("win", "lose", "tie", "delta", "ci95")
  held_back = {*fields, *(f"{field}_stop" for field in fields)}
  shown.pop("ratings", None)  # Δ in other words
  if "length" in shown:
    rows = [row for row in shown["length"]["comparisons"] if {row["a"], row["b"]} <= POLICIES]
    shown["length"] = {**shown["length"], "comparisons": rows}
  for section in ("rounds", "temperature", "cost"):
    if section in results:
      shown[section] = [
        {key: value for key, value in row.items() if key not in held_back}
        for row in results[section]
      ]
  return shown


def principal(comparisons: Sequence[Mapping]) -> Mapping | None:
  """Returns the comparison that the run is about, under the most believed judge."""
  found = find(comparisons, "pit", "original")
  return found or find(comparisons, "original", "policy_sft")


def headline(results: Mapping) -> str:
  """Returns the one sentence that says what the run found, built from its figures."""
  comparisons = results["comparisons"]
  claim = find(comparisons, "pit", "original")
  if claim and not (checked := gate(results))["passed"]:
    return f"This run supports no claim about PIT, because {checked['reason'].rstrip('.')}."
  if claim:
    return _sentence(claim, "One round of PIT", "the RLHF policy's answers")
  base = find(comparisons, "original", "policy_sft")
  if base:
    return _sentence(base, "RLHF", "the fine-tuned policy's answers")
  return f"A run of recipe {results['recipe']} without a comparison to report."


def concerns_improver(results: Mapping) -> bool:
  """Returns whether the results hold a comparison that the gate is about."""
  return any(not {row["a"], row["b"]} <= POLICIES for row in results["comparisons"])


def key_figures(results: Mapping) -> list[tuple[str, str, str]]:
  """Returns the figures for the top of the page, each as (label, value, explanation)."""
  figures = []
  for judge in JUDGES:
    row = find(results["comparisons"], "pit", "original", (judge,))
    if row:
      low, high = (signed(bound) for bound in row["ci95"])
      figures.append((f"Δ under {judge}", signed(row["delta"]), f"{low} to {high}"))
  systems = results["systems"]
  scores = [systems.get(name, {}).get("score") for name in ("original", "pit")]
  if figures and None not in scores:
    figures.append(
      (f"mean {score_judge(results)} score", f"{scores[0]:.2f} → {scores[1]:.2f}", "original → pit")
    )
  agreement = results.get("reward_models", {}).get("R_PIT", {}).get("sign_agreement")
  fraction = agreement["fraction"] if isinstance(agreement, Mapping) else agreement
  if fraction is not None:
    figures.append(("R_PIT right in sign", f"{100 * fraction:.0f}%", "on the improver's samples"))
  return figures


def score_judge(results: Mapping) -> str:
  """Returns the judge whose mean score the systems carry: the most believed one of the run."""
  named = {row["judge"] for row in results["comparisons"]}
  return results.get("score_judge") or next((judge for judge in JUDGES if judge in named), "gold")


def find(
  comparisons: Sequence[Mapping], a: str, b: str, judges: Sequence[str] = tuple(JUDGES)
) -> Mapping | None:
  """Returns the comparison of a with b by the most believed judge that made one, or None.

  Rows at temperature 1 (or at no stated one) and over all seeds go before others.
  """
  rows = [row for row in comparisons if (row["a"], row["b"]) == (a, b) and row["judge"] in judges]

  def preference(row: Mapping) -> tuple:
    plain = row.get("temperature") in (None, 1)
    return judges.index(row["judge"]), not plain, row.get("seed") not in (None, "all")

  judges = list(judges)
  return min(rows, key=preference, default=None)


def interval_text(row: Mapping) -> str:
  """Returns a comparison's Δ with its interval, as `Δ = +3.1 (95% interval −0.4 to +6.6)`."""
  low, high = row["ci95"]
  return f"Δ = {signed(row['delta'])} (95% interval {signed(low)} to {signed(high)})"


def signed(value: float | int) -> str:
  """Returns a number with one decimal, a sign, and a true minus."""
  return f"{value:+.1f}".replace("-", "−") if round(value, 1) else "0.0"


def _sentence(row: Mapping, method: str, what: str) -> str:
  low, high = row["ci95"]
  # Only gold says better or worse; the other judges trained the systems they are asked about.
  independent = row["judge"] == "gold"
  if low > 0:
    change = f"improves {what}" if independent else f"raises the {row['judge']} score of {what}"
  elif high < 0:
    change = f"makes {what} worse" if independent else f"lowers the {row['judge']} score of {what}"
  else:
    change = f"makes no measurable difference to {what}"
  return (
    f"{method} {change}: it wins {row['win']:.0f}% and loses {row['lose']:.0f}% of {row['n']:,} "
    f"held-out prompts under {JUDGES[row['judge']]}, {interval_text(row)}."
  )
