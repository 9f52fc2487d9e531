"""Tables of single experiments: significance, agreement, ratings, length, gap, cost, rounds."""

from collections.abc import Mapping, Sequence

from pit_jax.report import cells, label_tables, palette, verdict
from pit_jax.statistics import ratings, significance


def significant(results: Mapping) -> cells.Table | None:
  """Win rates, tests corrected for their number, and what the prompts can show."""
  rows = [
    row
    for row in results["comparisons"]
    if row.get("p_holm") is not None and row.get("seed") in (None, "all")
  ]
  if not rows:
    return None
  columns = {
    "system": lambda row: row["a"],
    "against": lambda row: row["b"],
    "T": lambda row: cells.plain(row.get("temperature")),
    "judge": lambda row: row["judge"],
    "win rate %": lambda row: cells.fixed(row["win_rate"], 1),
    "standard error": lambda row: cells.fixed(row["standard_error"]),
    "p": lambda row: _small(row["p"]),
    "p, corrected": lambda row: _small(row["p_holm"]),
    "detectable Δ": lambda row: cells.fixed(row["detectable"], 1),
  }
  unclear = sum(row["p_holm"] > significance.LEVEL for row in rows)
  note = (
    "Win rate as AlpacaEval has it, a tie being half a win. p is an exact sign test; corrected "
    f"(Holm) for all comparisons of its judge, {len(rows) - unclear} of {len(rows)} differ from 0 "
    "at 5%. The intervals of the other tables are not corrected: of twenty comparisons without a "
    "difference, one would look like one. Detectable is the Δ that so many prompts find in 80% of "
    "experiments."
  )
  return cells.select(
    "significance", "Significance", rows, columns, note=note, words=4, is_folded=True
  )


def power(results: Mapping) -> cells.Table | None:
  """How many prompts a difference needs."""
  known = results.get("power")
  if not known:
    return None
  columns = {
    "Δ": lambda row: cells.signed(row["delta"]),
    "prompts needed": lambda row: f"{row['prompts']:,}",
  }
  note = (
    f"To find Δ in 80% of experiments at the 5% level, where {known['decided']:.0f}% of prompts "
    f"are no tie, as when {known['judge']} compares {known['a']} with {known['b']}. The "
    f"{verdict.prompts(known):,} prompts here find a Δ of {cells.fixed(known['detectable'], 1)}."
  )
  return cells.select("power", "Power", known["needed"], columns, note=note, words=0)


def agreement(results: Mapping) -> cells.Table:
  """How far the judges agree."""
  columns = {
    "judges": lambda row: " and ".join(row["judges"]),
    "of": lambda row: row["of"],
    "κ": lambda row: cells.fixed(row["kappa"]),
    "95% interval": lambda row: cells.bounds(row["ci95"]),
    "same %": lambda row: cells.fixed(row["agreement"], 1),
    "same, no ties %": lambda row: cells.fixed(row["decided"], 1),
  }
  note = (
    "Cohen's κ over wins, ties and losses: 0 is the agreement of chance, 1 is all there can be. "
    "A reward model hardly ever ties, so κ counts the ties of others against both."
  )
  rows = results.get("agreement", ())
  return cells.select("agreement", "Do the judges agree?", rows, columns, note=note, words=2)


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


def length(results: Mapping) -> cells.Table:
  """Comparisons without the effect of length."""

  def of(part: str, key: str, render):
    return lambda row: render(row[part] and row[part][key])

  columns = {
    "system": lambda row: row["a"],
    "against": lambda row: row["b"],
    "judge": lambda row: row["judge"],
    "longer by": lambda row: cells.signed(row["tokens"]),
    "Δ": lambda row: cells.signed(row["delta"]),
    "Δ controlled": of("controlled", "delta", cells.signed),
    "controlled 95%": of("controlled", "ci95", cells.interval),
    "not controlled": lambda row: row["controlled"].get("reason") or cells.BLANK,
    "Δ matched": of("matched", "delta", cells.signed),
    "matched 95%": of("matched", "ci95", cells.interval),
    "prompts": of("matched", "n", cells.plain),
  }
  note = (
    "Longer by: mean difference in tokens. Controlled: Δ as a logistic regression on the length "
    "difference predicts it for answers of equal length (after AlpacaEval 2); where one system "
    "wins every prompt it cannot be estimated. Matched: Δ on the prompts whose two answers differ "
    "by at most 10% in length."
  )
  rows = results.get("length", {}).get("comparisons", ())
  title = "Without the effect of length"
  return cells.select("length", title, rows, columns, note=note, words=3, is_printed=False)


def correlations(results: Mapping) -> cells.Table:
  """Whether judges score long answers higher."""
  found = results.get("length", {}).get("correlations", ())
  judges = list(dict.fromkeys(row["judge"] for row in found))
  rows: dict[str, dict] = {}
  for row in found:
    rows.setdefault(row["system"], {"system": row["system"]})[row["judge"]] = row
  columns = {"system": lambda row: row["system"]}
  for judge in judges:
    columns[judge] = lambda row, judge=judge: cells.fixed(row[judge]["correlation"])
    columns[f"{judge} 95%"] = lambda row, judge=judge: cells.bounds(row[judge]["ci95"])
  note = "Spearman's rank correlation of a judge's score and the answer's length, in each system."
  title = "Score and length"
  return cells.select(
    "correlations", title, list(rows.values()), columns, note=note, is_printed=False
  )


def discernment(results: Mapping) -> cells.Table:
  """Where R_PIT is right, and how sure of it."""
  known = results.get("gap", {})
  rows = [{"pairs": name, **row} for name, row in known.get("pairs", {}).items()]
  columns = {
    "pairs": lambda row: row["pairs"],
    "right": lambda row: cells.percent(row["accuracy"]),
    "95% interval": lambda row: label_tables.percents(row["ci95"]),
    "surest fifth": lambda row: cells.percent(row["groups"][-1]["accuracy"]),
    "least sure": lambda row: cells.percent(row["groups"][0]["accuracy"]),
    "margin": lambda row: cells.fixed(row["margin"]),
    "ECE": lambda row: cells.fixed(row["ece"], 3),
    "n": lambda row: f"{row['n']:,}",
  }
  note = (
    "How often R_PIT, asked in both orders, says which of two answers is better: by the labels for "
    f"the data's pairs, else by {known.get('judge')}, without its ties. The last kind has "
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
  first = {row["judge"]: {**row, "system": "original"} for row in rows if row["budget"] == 1}
  rows = [*first.values(), *(row for row in rows if row["budget"] > 1)]
  rows.sort(key=lambda row: row["budget"])
  taken = _seconds(results, rows)
  columns = {
    "spent on": lambda row: _label(row["system"]),
    "judge": lambda row: row["judge"],
    "samples": lambda row: cells.fixed(row["samples"], 1),
    "tokens": lambda row: cells.fixed(row["tokens"], 1),
    "reads": lambda row: cells.fixed(row["reads"], 1),
    "seconds": lambda row: cells.fixed(taken.get((row["system"], row["budget"])), 3),
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
  if taken:
    note += (
      " Seconds are what the most samples of a kind took this machine, many prompts at once, with "
      "their reads and without compiling."
    )
  if "self_refine" in judges:
    note += " A round of self_refine is two samples: feedback, and the answer written after it."
  return cells.select("cost", "What quality costs", rows, columns, note=note, words=2)


def ledger(results: Mapping) -> cells.Table | None:
  """What each round did to the answers whose version of it the stop rule kept."""
  known = results.get("ledger")
  if not known:
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
  together = "prompts of all seeds" if "shown" in known else "prompts"
  if known.get("is_repeated"):
    together = "answers, of every seed to the same prompts"
  note = (
    f"Of {known['prompts']:,} {together}: those whose version of the round the stop rule "
    f"kept, and what {known['judge']} says of it against the version before. Log-ratio of these "
    "versions to the improver before RL, in nats, a mean. In the end "
    f"{known['improved']:,} answers are better than their draft, {known['unchanged']:,} as good "
    f"and {known['worse']:,} worse; {known['regressions']:,} were made worse by some round."
  )
  return cells.select("ledger", "The ledger", known["rounds"], columns, note=note, words=0)


MAKERS = (significant, power, agreement, rated, length, correlations, discernment, cost, ledger)


def _seconds(results: Mapping, rows: Sequence[Mapping]) -> dict[tuple, float]:
  """Returns the seconds per prompt of one sample, and of the largest budget of who was timed."""
  timed = results.get("sampling", {})
  most = {row["system"]: row["budget"] for row in rows}  # they are in the order of budgets
  first = timed.get("original")
  found = {(name, most[name]): first + timed[name] for name in timed if name in most and first}
  return found | ({("original", 1): first} if first else {})


def _label(spender: str) -> str:
  return palette.SPENDERS.get(spender, (spender,))[0]


def _small(value: float | int) -> str:
  return "< 0.001" if value < 0.001 else cells.fixed(value, 3)
