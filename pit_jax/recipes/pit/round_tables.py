"""Tables of PIT's rounds and samples: rounds, temperatures, gaps, ratings, cost, the ledger."""

import collections
from collections.abc import Iterator, Mapping, Sequence

from pit_jax.recipes.pit import figures
from pit_jax.report import cells, verdict
from pit_jax.statistics import ratings


def rounds(results: Mapping) -> cells.Table:
  """What each round makes of the drafts."""
  columns = cells.columns({
    "k": "k", "score": "score", "Δ %": "delta", "95% interval": "ci95", "stopped": "stopped",
    "score*": "score_stop", "Δ* %": "delta_stop", "95% interval*": "ci95_stop", "tokens": "tokens",
  })  # fmt: skip

  about = {
    "k": "Round 0 is the original.",
    "Δ %": "Δ is against it.",
    "score*": "* with the stop rule: a prompt keeps its response once the gap model sees no "
    "further gain.",
    "stopped": "“Stopped” is the fraction that has.",
  }
  return cells.select("rounds", "Rounds", results.get("rounds", ()), columns, about=about)


def refinements(results: Mapping) -> cells.Table:
  """What each round of Self-Refine makes of them."""
  columns = cells.columns({
    "k": "k", "score": "score", "Δ %": "delta", "95% interval": "ci95", "refined": "refined",
    "unchanged": "unchanged", "stopped": "stopped", "fell back": "fallback",
    "feedback tokens": "feedback_tokens", "answer tokens": "answer_tokens",
  })  # fmt: skip

  rows = results.get("self_refine", ())
  kinds = sum((collections.Counter(row.get("kinds")) for row in rows), collections.Counter())
  note = (
    "The policy is asked for feedback on its last answer, then for a better one, with all earlier "
    "drafts and feedback before it. Unchanged: the new answer is the draft. "
    "Stopped: the feedback said that nothing is to be made better, in this round or before. Fell "
    f"back to the draft, because of its form: {cells.plain(kinds)}. Tokens are those of the round, "
    "per prompt."
  )

  about = {"Δ %": "Δ is against original."}
  return cells.select("self_refine", "Self-Refine", rows, columns, note=note, about=about)


def temperature(results: Mapping) -> cells.Table:
  """Scores over temperatures."""
  points = {(row["t"], row["system"]): row for row in results.get("temperature", ())}
  systems = dict.fromkeys(system for _, system in points)
  rows = [{"t": t} for t in sorted({t for t, _ in points})]
  rows = rows if len(rows) > 1 else []  # one temperature is that of all comparisons
  columns = cells.columns({"temperature": "t"})
  for label, key in (("score ", "score"), ("Δ % ", "delta")):
    for system in systems:
      # Defaults hold the values of this turn; a closure would see those of the last.
      columns[label + system] = lambda row, system=system, key=key: cells.said(
        key, points.get((row["t"], system), {})
      )

  about = {f"Δ % {system}": f"Δ of {system} is against original." for system in systems}
  note = f"Mean {verdict.score_judge(results)} score."
  return cells.select("temperature", "Temperatures", rows, columns, note=note, about=about)


def rated(results: Mapping) -> cells.Table:
  """Original and every round among each other."""
  columns = cells.columns({
    "player": "system", "judge": "judge", "Elo": "elo", "Elo 95%": "elo_ci95",
    "over orders ±": "elo_spread", "Bradley–Terry": "bradley_terry",
    "Bradley–Terry 95%": "bradley_terry_ci95", "games": "games",
  })  # fmt: skip

  note = (
    f"All pairs of original and rounds on every prompt, best first; {ratings.SCALE:.0f} points are "
    "odds of ten to one, and the mean is 1,000. Elo depends on the order of the games: it is a "
    "mean over 20 orders, whose deviation is beside it. “pit 2” is the second round."
  )
  rows = results.get("ratings", ())

  return cells.select("ratings", "Ratings of the rounds", rows, columns, note=note, words=2)


def discernment(results: Mapping) -> cells.Table:
  """Where R_PIT is right, and how sure of it."""
  measured = results.get("gap", {})
  rows = [{"pairs": name, **row} for name, row in measured.get("pairs", {}).items()]
  columns = cells.columns({
    "pairs": "pairs", "right": "accuracy", "95% interval": lambda row: cells.percents(row["ci95"]),
    "surest fifth": lambda row: cells.percent(row["groups"][-1]["accuracy"]),
    "least sure": lambda row: cells.percent(row["groups"][0]["accuracy"]),
    "margin, nats": "margin", "ECE": "ece", "n": "n",
  })  # fmt: skip

  others = f", else by {measured.get('judge')}, without its ties" if len(rows) > 1 else ""
  note = (
    "How often R_PIT, asked in both orders, says which of two answers is better: by the labels for "
    f"the data's pairs{others}. Margin is mean |r(a,b) − r(b,a)| in nats, and ECE how far "
    "σ(margin) is from how often it is right."
  )

  return cells.select("gap", "Is R_PIT right?", rows, columns, note=note)


def cost(results: Mapping) -> cells.Table:
  """What each way to spend samples costs and gives."""
  # Without a score or a Δ there is a price, and nothing that was bought.
  measured = [
    row
    for row in results.get("cost", ())
    if row.get("score") is not None or row.get("delta") is not None
  ]
  judges = {row["system"]: row["judge"] for row in reversed(measured)}  # the most believed ones
  rows = [row for row in measured if row["judge"] == judges[row["system"]]]

  # One sample is one sample, whatever it begins: it is shown once per judge, as original.
  first = {row["judge"]: {**row, "system": "original"} for row in rows if row["budget"] == 1}
  rows = [*first.values(), *(row for row in rows if row["budget"] > 1)]
  rows.sort(key=lambda row: row["budget"])
  seconds = _seconds(results, rows)
  columns = cells.columns({
    "spent on": lambda row: figures.SPENDERS.get(row["system"], (row["system"],))[0],
    "judge": "judge",
    "samples": "samples", "tokens": "tokens", "reads": "reads",
    "seconds": lambda row: cells.fixed(seconds.get((row["system"], row["budget"])), 3),
    "score": "score", "gain": "gain", "Δ %": "delta", "95% interval": "ci95",
    "KL ≤ nats": "kl_bound",
    "prompts": lambda row: f"{verdict.prompts(row):,}",
  })  # fmt: skip

  note = " ".join(_about_spenders(results.get("cost", ()), rows))
  return cells.select("cost", "What quality costs", rows, columns, note=note, about=PAID, words=2)


PAID = {  # column of what quality costs → what is said of it
  "gain": "Gain is score per 100 tokens beyond the first sample's.",
  "Δ %": "Δ is against original.",
  "KL ≤ nats": "KL: the most that the choice adds, log n − (n − 1)/n nats.",
  "seconds": "Seconds are what the most samples of a kind took this machine, many prompts at once, "
  "with their reads and without compiling.",
}


def _about_spenders(measured: Sequence[Mapping], rows: Sequence[Mapping]) -> Iterator[str]:
  """Yields what is to be known of the ways to spend samples, those that have no row among them."""
  yield (
    "Per prompt, all drafts included: samples and their tokens, and what a reward model read to "
    "choose or to stop."
  )
  shown = {row["system"] for row in rows}
  choosing = {
    "best_of_n": ("best_of_n takes the sample with the highest R_P", "R_P"),
    "gap_tournament": (
      "gap_tournament takes the sample with the highest sum of R_PIT over the others", "R_PIT"
    ),
  }  # fmt: skip

  for system, (how, chooser) in choosing.items():
    if system in shown:
      yield f"{how}; {chooser}, which chose it, is no judge of it."
    elif any(row["system"] == system for row in measured):
      yield f"{system} has no row: only {chooser} could score it here, which chose it."
  if {row["judge"] for row in measured} - {row["judge"] for row in rows}:
    yield "Other judges' figures are in results.json."
  if "self_refine" in shown:
    yield "A round of self_refine is two samples: feedback, and the answer written after it."


def ledger(results: Mapping) -> cells.Table | None:
  """What each round did to the answers whose version of it the stop rule kept."""
  counts = results.get("ledger")
  if not counts:
    return None
  columns = cells.columns({
    "round": "k", "kept": "kept", "better": "win", "as good": "tie", "worse": "lose",
    "mean gap, deviations": "gap", "log-ratio, nats": "kl", "tokens": "tokens",
  })  # fmt: skip

  together = "prompts of all seeds" if "shown" in counts else "prompts"
  if counts.get("is_repeated"):
    together = "answers, of every seed to the same prompts"
  note = (
    f"Of {counts['prompts']:,} {together}: those whose version of the round the stop rule "
    f"kept, and what {counts['judge']} says of it against the version before. Log-ratio of these "
    "versions to the improver before RL, in nats, a mean. In the end "
    f"{counts['improved']:,} answers are better than their draft, {counts['unchanged']:,} as good "
    f"and {counts['worse']:,} worse; {counts['regressions']:,} were made worse by some round."
  )

  return cells.select("ledger", "The ledger", counts["rounds"], columns, note=note, words=0)


def _seconds(results: Mapping, rows: Sequence[Mapping]) -> dict[tuple, float]:
  """Returns the seconds per prompt of one sample, and of the largest budget of who was timed."""
  timed = results.get("sampling", {})
  most = {row["system"]: row["budget"] for row in rows}  # they are in the order of budgets
  first = timed.get("original")
  seconds = {(name, most[name]): first + timed[name] for name in timed if name in most and first}
  return seconds | ({("original", 1): first} if first else {})


ROUNDS = (rounds, ledger, refinements, rated)
