"""What a run may claim: the gate, what is held back when it is shut, and the headline."""

from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax.statistics import significance

JUDGES = {  # in the order in which they are believed
  "gold": "the gold score, which training never saw",
  "language_model": "language_model, which was asked to compare and trained nothing here",
  "R_public": "R_public, a published reward model",
  "R_judge": "R_judge, a reward model trained on pairs that trained nothing else",
  "R_P": "R_P, the reward model that also trained the policy",
  "R_PIT": "R_PIT, the gap reward model that also trained the improver",
}
# The pairs that a run may be about → what is said to do something, and to what.
HEADLINES = {
  ("pit", "original"): ("One round of PIT", "the RLHF policy's answers"),
  ("original", "policy_sft"): ("RLHF", "the fine-tuned policy's answers"),
}
COMPARES_ONLY = frozenset({"language_model", "R_PIT"})  # these give a single answer no score
# Comparisons among these say something even where reinforcement learning spoilt the policy; any
# other system is built on `original`, and an improver that beats a broken policy proves nothing.
POLICIES = frozenset(
  {"original", "policy_sft", "policy_resampled", "rlhf_longer", "chosen", "rejected"}
)


def gate(results: Mapping) -> dict[str, Any]:
  """Returns whether the policy is sound enough for its improvement to mean something.

  Original has to beat policy_sft, as `direction` says, under R_P and, where there are any, under
  the gold score and under the independent judges. A judge that was asked about fewer prompts than
  others, as a language model is, decides only where it sees a direction: else so few prompts tell
  nothing, and the judges of all prompts decide. Prompts that a judge could not judge are no part of
  its interval; a judge that could not judge most of them keeps the gate shut, as one that could
  judge none does.

  Args:
    results: the results dict; its own `gate` is taken when it has one.

  Returns:
    `passed` and a `reason` that names the figure that decided.
  """
  if "gate" in results:
    return dict(results["gate"])
  comparisons = results["comparisons"]
  if comparisons and not any("original" in (row["a"], row["b"]) for row in comparisons):
    return {"passed": True, "reason": "nothing is built on a policy after RL"}
  named = {row["judge"] for row in comparisons}
  judges = [judge for judge in reversed(JUDGES) if judge != "R_PIT" and judge in named]
  rows = {
    judge: find(comparisons, "original", "policy_sft", (judge,)) for judge in judges or ["R_P"]
  }
  most = max((_asked(row) for row in rows.values() if row), default=0)
  agreed, unsure = [], []
  for judge, row in rows.items():
    if row is None:
      # Among others: where most prompts could not be judged.
      reason = f"original was not compared with policy_sft under {judge}"
      failed = [other for other in comparisons if _is_gate(other, judge) and other.get("failed")]
      if failed:
        reason = f"{judge} could judge only {failed[0]['n']:,} of {_asked(failed[0]):,} prompts"
      return {"passed": False, "reason": reason}
    if direction(row) > 0:
      agreed.append(judge)
    elif not direction(row) and _asked(row) < most:
      unsure.append(f"{judge} cannot tell from {prompts(row):,} prompts: {interval_text(row)}")
    else:
      reason = f"original does not beat policy_sft under {judge}: {interval_text(row)}"
      return {"passed": False, "reason": reason}
  reason = f"original beats policy_sft under {' and '.join(agreed)}"
  return {"passed": True, "reason": "; ".join([reason, *unsure])}


def _is_gate(row: Mapping, judge: str) -> bool:
  return (row["a"], row["b"], row["judge"]) == ("original", "policy_sft", judge)


def _asked(row: Mapping) -> int:
  """Returns on how many prompts a comparison was to be made."""
  return row["n"] + row.get("failed", 0)


def is_judged(row: Mapping) -> bool:
  """Returns whether a comparison says anything: prompts were judged, and as many as failed."""
  return row["n"] > 0 and row["n"] >= row.get("failed", 0)


def direction(row: Mapping) -> int:
  """Returns 1 where a surely beats b, −1 where b surely beats a, else 0.

  The 95% interval has to leave 0 out, and the sign test to have p ≤ 0.05: of a handful of prompts
  that all have one outcome every resample is the same, and the interval has no width.
  """
  low, high = row["ci95"]
  if low <= 0 <= high or significance.p_value(row) > significance.LEVEL:
    return 0
  return 1 if low > 0 else -1


def presentable(results: Mapping) -> dict[str, Any]:
  """Returns the results without the figures that a shut gate holds back.

  Scores stay; every Δ that involves an improver goes, and with it what says the same in other
  words: ratings, verdicts on single answers, the change of the improver's checkpoints.
  results.json keeps everything.
  """
  shown = dict(results)
  if gate(results)["passed"]:
    return shown
  shown["comparisons"] = [row for row in results["comparisons"] if {row["a"], row["b"]} <= POLICIES]
  fields = ("win", "lose", "tie", "delta", "ci95", "outcomes")
  held_back = {*fields, *(f"{field}_stop" for field in fields)}
  for name in ("ratings", "ledger", "samples", "stop"):  # Δ in other words
    shown.pop(name, None)
  if "length" in shown:
    rows = [row for row in shown["length"]["comparisons"] if {row["a"], row["b"]} <= POLICIES]
    shown["length"] = {**shown["length"], "comparisons": rows}
  if "frontier" in shown:
    chains = [chain for chain in shown["frontier"]["chains"] if chain["chain"] != "improver"]
    shown["frontier"] = {**shown["frontier"], "chains": chains}
  for section in ("rounds", "temperature", "cost", "ablation", "self_refine"):
    if section in results:
      shown[section] = [
        {key: value for key, value in row.items() if key not in held_back}
        for row in results[section]
      ]
  return shown


def principal(results: Mapping) -> Mapping | None:
  """Returns the comparison that the run is about, under the most believed judge."""
  pairs = [results["headline"]] if "headline" in results else HEADLINES
  found = (find(results["comparisons"], *pair) for pair in pairs)
  return next(filter(None, found), None)


def headline(results: Mapping) -> str:
  """Returns the one sentence that says what the run found, built from its figures."""
  row = principal(results)
  is_gated = row is not None and not {row["a"], row["b"]} <= POLICIES
  if is_gated and not (checked := gate(results))["passed"]:
    return f"This run supports no claim about PIT, because {checked['reason'].rstrip('.')}."
  if row:
    words = HEADLINES.get((row["a"], row["b"]))
    return _sentence(row, *(words or (row["a"], f"the answers of {row['b']}")))
  if "labels" in results:
    return _label_sentence(results["labels"]["accuracy"])
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
  """Returns the judge whose mean score the systems carry: the most believed one that scores."""
  named = {row["judge"] for row in results["comparisons"]}
  scoring = (judge for judge in JUDGES if judge in named - COMPARES_ONLY)
  return results.get("score_judge") or next(scoring, "gold")


def find(
  comparisons: Sequence[Mapping], a: str, b: str, judges: Sequence[str] = tuple(JUDGES)
) -> Mapping | None:
  """Returns the comparison of a with b by the most believed judge that made one, or None.

  Rows at temperature 1 (or at no stated one) and over all seeds go before others. A comparison of
  which most prompts could not be judged is none.
  """
  rows = [
    row
    for row in comparisons
    if (row["a"], row["b"]) == (a, b) and row["judge"] in judges and is_judged(row)
  ]

  def preference(row: Mapping) -> tuple:
    plain = row.get("temperature") in (None, 1)
    return judges.index(row["judge"]), not plain, row.get("seed") not in (None, "all")

  judges = list(judges)
  return min(rows, key=preference, default=None)


def interval_text(row: Mapping) -> str:
  """Returns a comparison's Δ with its interval, as `Δ = +3.1 (95% interval −0.4 to +6.6)`."""
  return f"Δ = {signed(row['delta'])} ({bounds_text(row)})"


def differs_over_seeds(row: Mapping) -> bool:
  """Returns whether the seeds of a comparison agree that there is a difference, beyond chance.

  One seed, or prompts of one, cannot tell.
  """
  return "over_seeds" in row and row["over_seeds"]["p"] <= significance.LEVEL


def bounds_text(row: Mapping) -> str:
  """Returns the intervals of a comparison's Δ; its sign test too, where that does not agree."""
  low, high = row["ci95"]
  text = f"95% interval {signed(low)} to {signed(high)}"
  if "over_seeds" in row:
    bounds = " to ".join(signed(bound) for bound in row["over_seeds"]["ci95"])
    text += f" over prompts, {bounds} over {row['over_seeds']['seeds']} seeds"
  if low <= 0 <= high or direction(row):
    return text
  return f"{text}, but p = {significance.p_value(row):.2f} in a sign test"


def prompts(row: Mapping) -> int:
  """Returns of how many different prompts a comparison is."""
  return row["repeated"]["prompts"] if "repeated" in row else row["n"]


def signed(value: float | int) -> str:
  """Returns a number with one decimal, a sign, and a true minus."""
  return f"{value:+.1f}".replace("-", "−") if round(value, 1) else "0.0"


def _sentence(row: Mapping, method: str, what: str) -> str:
  change = _change(row["judge"], direction(row), what)
  if direction(row) and "over_seeds" in row and not differs_over_seeds(row):
    change += ", with these models"
  failed = f" ({row['failed']:,} more could not be judged)" if row.get("failed") else ""
  asked = f"{prompts(row):,} held-out prompts"
  if "repeated" in row:
    asked = f"{row['n']:,} trials on {asked}, the same for all seeds"
  return (
    f"{method} {change}: it wins {row['win']:.0f}% and loses {row['lose']:.0f}% of {asked}"
    f"{failed} under {JUDGES[row['judge']]}, {interval_text(row)}."
  )


def _label_sentence(rows: Sequence[Mapping]) -> str:
  """Says how often the models meet the labels of the first kind of pairs, and length alone does."""
  longer, *models = [row for row in rows if row["pairs"] == rows[0]["pairs"]]

  def share(row: Mapping, figure: str) -> str:
    low, high = (100 * bound for bound in row[f"{figure}_ci95"])
    return f"{row['model']} on {100 * row[figure]:.1f}% (95% interval {low:.1f} to {high:.1f})"

  def said(figure: str) -> str:
    return " and ".join(share(row, figure) for row in models)

  known = longer["balanced"] is not None
  alone = f" Where length is no help, {said('balanced')} (chance: 50%)." if known else ""
  return (
    f"Of {longer['n']:,} held-out pairs ({longer['pairs']}) {said('accuracy')} say which was "
    f"preferred, {share(longer, 'accuracy')}.{alone}"
  )


def _change(judge: str, found: int, what: str) -> str:
  """Says what a direction means; only gold says better or worse, the others are models."""
  if not found:
    return f"makes no measurable difference to {what}"
  if judge == "gold":
    return f"improves {what}" if found > 0 else f"makes {what} worse"
  if judge == "language_model":
    return f"writes what a language model {'prefers to' if found > 0 else 'likes less than'} {what}"
  return f"{'raises' if found > 0 else 'lowers'} the {judge} score of {what}"
