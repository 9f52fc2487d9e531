"""What a run may claim: the headline, and what is held back while a gate of its method is shut."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pit_jax.report import presentation
from pit_jax.statistics import significance

JUDGES = {  # of any run, in the order in which they are believed; before those that it trained
  "gold": "the gold score, which training never saw",
  "language_model": "language_model, which was asked to compare and trained nothing here",
  "R_public": "R_public, a published reward model",
  "R_judge": "R_judge, a reward model trained on pairs that trained nothing else",
}
FEW = 20  # prompts below which resampling them does not tell how sure a Δ is
COMPARES_ONLY = "language_model"  # gives a single answer no score


def is_judged(row: Mapping) -> bool:
  """Returns whether a comparison says anything: prompts were judged, and as many as failed."""
  return row["n"] > 0 and row["n"] >= row.get("failed", 0)


def is_of_few(row: Mapping) -> bool:
  """Returns whether a row is of too few prompts for an interval; False where it has no count."""
  return ("n" in row or "repeated" in row) and 0 < prompts(row) < FEW


def direction(row: Mapping) -> int:
  """Returns 1 where a surely beats b, −1 where b surely beats a, else 0.

  The 95% interval has to leave 0 out, and the sign test to have p ≤ 0.05: of a handful of prompts
  that all have one outcome every resample is the same, and the interval has no width.
  """
  low, high = row["ci95"]
  if low <= 0 <= high or significance.p_value(row) > significance.LEVEL:
    return 0
  return 1 if low > 0 else -1


def gate(results: Mapping, method: presentation.Presentation) -> dict[str, Any] | None:
  """Returns what the method's gate says; None where nothing in the results depends on one."""
  return method.gate.check(results) if method.gate else None


def presentable(results: Mapping, method: presentation.Presentation) -> dict[str, Any]:
  """Returns the results without the figures that a shut gate holds back."""
  checked = gate(results, method)
  return dict(results) if checked is None or checked["passed"] else method.gate.hold_back(results)


def principal(results: Mapping) -> Mapping | None:
  """Returns the comparison that the run is about, under the most believed judge."""
  pair = results.get("headline")
  return find(results["comparisons"], *pair) if pair else None


def headline(results: Mapping, method: presentation.Presentation) -> str:
  """Returns the one sentence that says what the run found, built from its figures."""
  row = principal(results)
  checked = gate(results, method)
  if row is None:
    return method.sentence(results)
  if checked is not None and not checked["passed"]:
    return method.gate.refusal.format(checked["reason"].rstrip("."))

  return _sentence(row, results, method)


def key_figures(results: Mapping) -> list[tuple[str, str, str]]:
  """Returns the figures for the top of the page, each as (label, value, explanation)."""
  figures = []
  a, b = results.get("headline", ("", ""))  # a run that is about no comparison has no Δ there
  for judge in believed(results["comparisons"]):
    row = find(results["comparisons"], a, b, (judge,))
    if row:
      low, high = (signed(bound, digits(row["ci95"])) for bound in row["ci95"])
      of = f"{low} to {high}, of {prompts(row):,} prompts"
      if is_of_few(row):
        of = f"of {prompts(row):,} prompts, too few for an interval"
      figures.append((f"Δ under {judge}", f"{delta(row)}%", of))

  scores = [results["systems"].get(name, {}).get("score") for name in (b, a)]
  if figures and None not in scores:
    label = f"mean {score_judge(results)} score"
    figures.append((label, f"{scores[0]:.2f} → {scores[1]:.2f}", f"{b} → {a}"))

  for name, facts in results.get("reward_models", {}).items():
    agreement = facts.get("sign_agreement")
    fraction = agreement["fraction"] if isinstance(agreement, Mapping) else agreement
    if fraction is not None:
      label = f"{name} right in sign"
      figures.append((label, f"{100 * fraction:.0f}%", "on the improver's samples"))

  return figures


def score_judge(results: Mapping) -> str:
  """Returns the judge whose mean score the systems carry: the most believed one that scores."""
  systems = results.get("systems", {}).values()
  scores = (key for row in systems for key in row if key.startswith("score_"))
  scoring = (judge for judge in believed(results["comparisons"]) if judge != COMPARES_ONLY)
  return next(scores, next(scoring, "gold")).removeprefix("score_")


def believed(comparisons: Sequence[Mapping]) -> list[str]:
  """Returns the judges of comparisons, the most believed first; a run's own in their order."""
  named = dict.fromkeys(row["judge"] for row in comparisons)
  return [*(judge for judge in JUDGES if judge in named), *(j for j in named if j not in JUDGES)]


def find(
  comparisons: Sequence[Mapping],
  a: str,
  b: str,
  judges: Sequence[str] | None = None,
  without: Sequence[str] = (),
) -> Mapping | None:
  """Returns the comparison of a with b by the most believed judge that made one, or None.

  Rows at temperature 1 (or at no stated one) and over all seeds go before others. A comparison of
  which most prompts could not be judged is none. Asked are the judges, the most believed first
  (None: all of them), but for those in `without`.
  """
  rows = [row for row in comparisons if (row["a"], row["b"]) == (a, b) and is_judged(row)]
  allowed = [judge for judge in judges or believed(rows) if judge not in without]

  def preference(row: Mapping) -> tuple:
    # The least one is taken: by judge, then temperature 1 (False sorts first), then all seeds.
    plain = row.get("temperature") in (None, 1)
    return allowed.index(row["judge"]), not plain, row.get("seed") not in (None, "all")

  return min((row for row in rows if row["judge"] in allowed), key=preference, default=None)


def interval_text(row: Mapping) -> str:
  """Returns a comparison's Δ with its interval, as `Δ = +3.1% (95% interval −0.4 to +6.6)`."""
  return f"Δ = {delta(row)}% ({bounds_text(row)})"


def bounds_text(row: Mapping) -> str:
  """Returns the intervals of a comparison's Δ; its sign test too, where that does not agree."""
  low, high = row["ci95"]
  of = digits(row["ci95"])
  text = f"95% interval {signed(low, of)} to {signed(high, of)}"
  if is_of_few(row):
    text = "too few prompts for an interval"
  if "over_seeds" in row:
    bounds = " to ".join(signed(bound, of) for bound in row["over_seeds"]["ci95"])
    text += f" over prompts, {bounds} over {row['over_seeds']['seeds']} seeds"

  if low <= 0 <= high or direction(row):
    return text
  return f"{text}, but p = {significance.p_value(row):.2f} in a sign test"


def prompts(row: Mapping) -> int:
  """Returns of how many different prompts a comparison is."""
  return row["repeated"]["prompts"] if "repeated" in row else row["n"]


def delta(row: Mapping) -> str:
  """Returns a comparison's Δ with its sign and with the digits that its interval bears."""
  return signed(row["delta"], digits(row["ci95"]))


def signed(value: float | int, digits: int = 1) -> str:
  """Returns a number with so many decimals, a sign, and a true minus."""
  # What rounds to 0 has no sign.
  sign = "+" if round(value, digits) else ""
  return f"{value if sign else 0.0:{sign}.{digits}f}".replace("-", "−")


def digits(bounds: Sequence[float | int | None] | None, most: int = 1) -> int:
  """Returns how many decimals a number with an interval bears: two digits of half its width.

  There are at most so many, as there are where no interval is known or it has no width.
  """
  if not bounds or None in bounds or bounds[1] <= bounds[0]:
    return most
  half = (bounds[1] - bounds[0]) / 2
  return min(max(1 - math.floor(math.log10(half)), 0), most)


def described(judge: str, results: Mapping, method: presentation.Presentation) -> str:
  """Returns what a judge is, its name first."""
  labelled = judge in results.get("labellers", ())
  also = ", which labelled what models here were trained on" if labelled else ""
  if labelled and judge == "gold":
    return f"the gold score{also}"
  if words := (JUDGES | method.judges).get(judge):
    return words
  config = results.get("config", {})
  if judge not in config.get("evaluation", {}).get("judges", ()):
    return f"{judge}, a reward model that the run trained"

  kind = config["feedback"]["raters"][judge]["kind"]
  return f"{judge}, a rater that the configuration names (kind {kind}){also}"


def _sentence(row: Mapping, results: Mapping, method: presentation.Presentation) -> str:
  judge = row["judge"]
  sign = direction(row)
  if words := method.headlines.get((row["a"], row["b"])):
    sentence = f"{words[0]} {_change(judge, sign, words[1])}"
  else:
    sentence = f"{row['a']} {_difference(judge, sign, row['b'])}"

  # Of several seeds that do not agree beyond chance, only these models differ.
  if sign and "over_seeds" in row and row["over_seeds"]["p"] > significance.LEVEL:
    sentence += ", with these models"
  failed = f" ({row['failed']:,} more could not be judged)" if row.get("failed") else ""
  held_out = f"{prompts(row):,} held-out prompts"
  if "repeated" in row:
    held_out = f"{row['n']:,} trials on {held_out}, the same for all seeds"

  return (
    f"{sentence}: it wins {row['win']:.0f}% and loses {row['lose']:.0f}% of {held_out}"
    f"{failed} under {described(judge, results, method)}, {interval_text(row)}."
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


def _difference(judge: str, found: int, other: str) -> str:
  """Says the same of two systems of which nothing is known but their names."""
  if not found:
    return f"does not measurably differ from {other}"
  if judge == "gold":
    return f"answers {'better' if found > 0 else 'worse'} than {other}"
  if judge == "language_model":
    return _change(judge, found, f"the answers of {other}")

  return f"has a {'higher' if found > 0 else 'lower'} {judge} score than {other}"
