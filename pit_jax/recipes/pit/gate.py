"""What a run of PIT has to show before it may claim anything: that RL bettered the policy."""

from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax.report import verdict

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
  judges = [judge for judge in reversed(verdict.believed(comparisons)) if judge != "R_PIT"]
  pair = ("original", "policy_sft")
  compared = [row for row in comparisons if (row["a"], row["b"]) == pair]
  rows = {judge: verdict.find(compared, *pair, (judge,)) for judge in judges or ["R_P"]}

  most = max((_asked(row) for row in rows.values() if row), default=0)
  agreed = []
  unsure = []

  for judge, row in rows.items():
    if row is None:
      # Among others: where most prompts could not be judged.
      reason = f"original was not compared with policy_sft under {judge}"
      failed = [other for other in compared if other["judge"] == judge and other.get("failed")]
      if failed:
        reason = f"{judge} could judge only {failed[0]['n']:,} of {_asked(failed[0]):,} prompts"
      return {"passed": False, "reason": reason}

    if verdict.direction(row) > 0:
      agreed.append(judge)
    elif not verdict.direction(row) and _asked(row) < most:
      interval = verdict.interval_text(row)
      unsure.append(f"{judge} cannot tell from {verdict.prompts(row):,} prompts: {interval}")
    else:
      reason = f"original does not beat policy_sft under {judge}: {verdict.interval_text(row)}"
      return {"passed": False, "reason": reason}

  reason = f"original beats policy_sft under {' and '.join(agreed)}"
  return {"passed": True, "reason": "; ".join([reason, *unsure])}


def _asked(row: Mapping) -> int:
  """Returns on how many prompts a comparison was to be made."""
  return row["n"] + row.get("failed", 0)


def hold_back(results: Mapping) -> dict[str, Any]:
  """Returns the results without the figures that a shut gate holds back.

  Mean scores stay; every Δ that involves an improver goes, and with it what says the same in other
  words: ratings, verdicts on single answers, what a sample gains, the change of the improver's
  checkpoints. `drafts` are added: what the policy answered. results.json keeps everything.
  """
  in_other_words = ("ratings", "ledger", "samples", "answers", "stop")
  shown = {name: section for name, section in results.items() if name not in in_other_words}
  shown["comparisons"] = [row for row in results["comparisons"] if not _is_about_improver(row)]
  fields = ("win", "lose", "tie", "delta", "ci95", "outcomes")
  held_back = {*fields, *(f"{field}_stop" for field in fields), "gain"}
  if samples := results.get("samples"):
    shown["drafts"] = own_answers(samples)

  if "length" in shown:
    rows = [row for row in shown["length"]["comparisons"] if not _is_about_improver(row)]
    shown["length"] = {**shown["length"], "comparisons": rows}

  if "frontier" in shown:
    chains = [chain for chain in shown["frontier"]["chains"] if chain["chain"] != "improver"]
    shown["frontier"] = {**shown["frontier"], "chains": chains}

  for section in ("rounds", "temperature", "cost", "ablation", "self_refine"):
    if section in results:
      rows = results[section]
      shown[section] = [{key: row[key] for key in row if key not in held_back} for row in rows]

  return shown


def own_answers(samples: Sequence[Mapping]) -> dict[str, Any]:
  """Returns the policy's own answers that the samples' judge scores best, in the middle and worst.

  Args:
    samples: at least one, as results.json has them.

  Returns:
    `system`, `judge`, the number of `prompts` that these are of, and `answers`, each with its
    `rank`, `prompt`, `text`, `tokens`, the `scores` by judge, and what the data has as `chosen`.
  """
  judge = samples[0]["judge"]
  ranked = sorted(samples, key=lambda sample: -sample["rounds"][0]["scores"][judge])
  ranks: dict[int, str] = {}
  for rank, place in (("best", 0), ("median", len(ranked) // 2), ("worst", len(ranked) - 1)):
    ranks.setdefault(place, rank)  # of fewer than three samples one would have several ranks

  answers = [
    {"rank": rank, "prompt": ranked[place]["prompt"], "chosen": ranked[place].get("chosen")}
    | {key: ranked[place]["rounds"][0][key] for key in ("text", "tokens", "scores")}
    for place, rank in ranks.items()
  ]
  return {"system": "original", "judge": judge, "prompts": len(samples), "answers": answers}


def concerns_improver(results: Mapping) -> bool:
  """Returns whether the results hold a comparison that the gate is about."""
  return any(map(_is_about_improver, results["comparisons"]))


def _is_about_improver(row: Mapping) -> bool:
  return not {row["a"], row["b"]} <= POLICIES


def check(results: Mapping) -> dict[str, Any] | None:
  """Returns what `gate` says; None where the results have no improver."""
  return gate(results) if concerns_improver(results) else None
