"""Tables of PIT's rounds and samples: rounds, temperatures, gaps, ratings, cost, the ledger."""

import collections
from collections.abc import Callable, Mapping, Sequence

from pit_jax.recipes.pit import figures
from pit_jax.report import cells, verdict
from pit_jax.statistics import ratings


def rounds(results: Mapping) -> cells.Table:
  """What each round makes of the drafts."""
  columns = {
    "k": lambda row: str(row["k"]),
    "score": lambda row: cells.fixed(row.get("score")),
    "Δ": lambda row: cells.signed(row.get("delta")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
    "stopped": lambda row: cells.percent(row.get("stopped")),
    "score*": lambda row: cells.fixed(row.get("score_stop")),
    "Δ*": lambda row: cells.signed(row.get("delta_stop")),
    "95% interval*": lambda row: cells.interval(row.get("ci95_stop")),
    "tokens": lambda row: cells.fixed(row.get("tokens"), 1),
  }

  note = (
    "Round 0 is the original, and Δ is against it. * with the stop rule: a prompt keeps its "
    "response once the gap model sees no further gain; “stopped” is the fraction that has."
  )
  return cells.select("rounds", "Rounds", results.get("rounds", ()), columns, note=note)


def refinements(results: Mapping) -> cells.Table:
  """What each round of Self-Refine makes of them."""
  columns = {
    "k": lambda row: str(row["k"]),
    "score": lambda row: cells.fixed(row.get("score")),
    "Δ": lambda row: cells.signed(row.get("delta")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
    "refined": lambda row: cells.percent(row.get("refined")),
    "unchanged": lambda row: cells.percent(row.get("unchanged")),
    "stopped": lambda row: cells.percent(row.get("stopped")),
    "fell back": lambda row: cells.percent(row.get("fallback")),
    "feedback tokens": lambda row: cells.fixed(row.get("feedback_tokens"), 1),
    "answer tokens": lambda row: cells.fixed(row.get("answer_tokens"), 1),
  }

  rows = results.get("self_refine", ())
  kinds = sum((collections.Counter(row.get("kinds")) for row in rows), collections.Counter())
  note = (
    "The policy is asked for feedback on its last answer, then for a better one, with all earlier "
    "drafts and feedback before it; Δ is against original. Unchanged: the new answer is the draft. "
    "Stopped: the feedback said that nothing is to be made better, in this round or before. Fell "
    f"back to the draft, because of its form: {cells.plain(kinds)}. Tokens are those of the round, "
    "per prompt."
  )

  return cells.select("self_refine", "Self-Refine", rows, columns, note=note)


def temperature(results: Mapping) -> cells.Table | None:
  """Scores over temperatures."""
  points = {(row["t"], row["system"]): row for row in results.get("temperature", ())}
  if not points:
    return None
  systems = list(dict.fromkeys(system for _, system in points))
  rows = [{"t": t} for t in sorted({t for t, _ in points})]
  columns: dict[str, Callable] = {"temperature": lambda row: cells.plain(row["t"])}

  for key, label, render in (("score", "", cells.fixed), ("delta", "Δ ", cells.signed)):
    for system in systems:
      # Defaults hold the values of this turn; a closure would see those of the last.
      columns[label + system] = lambda row, system=system, key=key, render=render: render(
        points.get((row["t"], system), {}).get(key)
      )

  return cells.select(
    "temperature", "Temperatures", rows, columns, note="Mean score, and Δ where given."
  )


def rated(results: Mapping) -> cells.Table:
  """Original and every round among each other."""
  columns = {
    "player": lambda row: row["system"],
    "judge": lambda row: row["judge"],
    "Elo": lambda row: cells.fixed(row["elo"], 0),
    "Elo 95%": lambda row: cells.bounds(row["elo_ci95"], 0),
    "over orders ±": lambda row: cells.fixed(row["elo_spread"], 0),
    "Bradley–Terry": lambda row: cells.fixed(row["bradley_terry"], 0),
    "Bradley–Terry 95%": lambda row: cells.bounds(row["bradley_terry_ci95"], 0),
    "games": lambda row: f"{row['games']:,}",
  }

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
  columns = {
    "pairs": lambda row: row["pairs"],
    "right": lambda row: cells.percent(row["accuracy"]),
    "95% interval": lambda row: cells.percents(row["ci95"]),
    "surest fifth": lambda row: cells.percent(row["groups"][-1]["accuracy"]),
    "least sure": lambda row: cells.percent(row["groups"][0]["accuracy"]),
    "margin": lambda row: cells.fixed(row["margin"]),
    "ECE": lambda row: cells.fixed(row["ece"], 3),
    "n": lambda row: f"{row['n']:,}",
  }

  note = (
    "How often R_PIT, asked in both orders, says which of two answers is better: by the labels for "
    f"the data's pairs, else by {measured.get('judge')}, without its ties. The last kind has "
    "answers better than the data's own. Margin is mean |r(a,b) − r(b,a)| in nats, and ECE "
    "how far σ(margin) is from how often it is right."
  )

  return cells.select("gap", "Is R_PIT right?", rows, columns, note=note)


def cost(results: Mapping) -> cells.Table:
  """What each way to spend samples costs and gives."""
  judges: dict[str, str] = {}  # of each system the most believed one
  for row in results.get("cost", ()):
    judges.setdefault(row["system"], row["judge"])
  rows = [row for row in results.get("cost", ()) if row["judge"] == judges[row["system"]]]

  # One sample is one sample, whatever it begins: it is shown once per judge, as original.
  first = {row["judge"]: {**row, "system": "original"} for row in rows if row["budget"] == 1}
  rows = [*first.values(), *(row for row in rows if row["budget"] > 1)]
  rows.sort(key=lambda row: row["budget"])
  seconds = _seconds(results, rows)
  columns = {
    "spent on": lambda row: _label(row["system"]),
    "judge": lambda row: row["judge"],
    "samples": lambda row: cells.fixed(row["samples"], 1),
    "tokens": lambda row: cells.fixed(row["tokens"], 1),
    "reads": lambda row: cells.fixed(row["reads"], 1),
    "seconds": lambda row: cells.fixed(seconds.get((row["system"], row["budget"])), 3),
    "score": lambda row: cells.fixed(row["score"]),
    "gain": lambda row: cells.fixed(row.get("gain")),
    "Δ": lambda row: cells.signed(row.get("delta")),
    "95% interval": lambda row: cells.interval(row.get("ci95")),
    "KL ≤": lambda row: cells.fixed(row.get("kl_bound")),
    "prompts": lambda row: f"{verdict.prompts(row):,}",
  }

  note = (
    "Per prompt, all drafts included: samples and their tokens, and what a reward model read to "
    "choose or to stop. Gain is score per 100 tokens beyond the first sample's; Δ is against "
    "original. best_of_n takes the sample with the highest R_P, gap_tournament the one with the "
    "highest sum of R_PIT over the others; no judge judges its own choice. KL: the most that the "
    "choice adds, log n − (n − 1)/n nats. Other judges' figures are in results.json."
  )

  if seconds:
    note += (
      " Seconds are what the most samples of a kind took this machine, many prompts at once, with "
      "their reads and without compiling."
    )

  if "self_refine" in judges:
    note += " A round of self_refine is two samples: feedback, and the answer written after it."
  return cells.select("cost", "What quality costs", rows, columns, note=note, words=2)


def ledger(results: Mapping) -> cells.Table | None:
  """What each round did to the answers whose version of it the stop rule kept."""
  counts = results.get("ledger")
  if not counts:
    return None
  columns = {
    "round": lambda row: f"{row['k']}",
    "kept": lambda row: f"{row['kept']:,}",
    "better": lambda row: f"{row['win']:,}",
    "as good": lambda row: f"{row['tie']:,}",
    "worse": lambda row: f"{row['lose']:,}",
    "mean gap": lambda row: cells.fixed(row["gap"]),
    "log-ratio": lambda row: cells.fixed(row["kl"], 1),
    "tokens": lambda row: cells.fixed(row["tokens"], 1),
  }

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


def _label(spender: str) -> str:
  return figures.SPENDERS.get(spender, (spender,))[0]


ROUNDS = (rounds, ledger, refinements, temperature, rated)
