"""Tables of experiments that any method may have: significance, agreement, length, frontiers."""

from collections.abc import Mapping

from pit_jax.report import cells, rewarded, verdict
from pit_jax.statistics import significance


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
    "standard error %": lambda row: cells.fixed(row["standard_error"]),
    "p": lambda row: _small(row["p"]),
    "p, corrected": lambda row: _small(row["p_holm"]),
    "detectable Δ %": lambda row: cells.fixed(row["detectable"], 1),
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
  study = results.get("power")
  if not study:
    return None
  columns = {
    "Δ %": lambda row: cells.signed(row["delta"]),
    "prompts needed": lambda row: f"{row['prompts']:,}",
  }

  note = (
    f"To find Δ in 80% of experiments at the 5% level, where {study['decided']:.0f}% of prompts "
    f"are no tie, as when {study['judge']} compares {study['a']} with {study['b']}. The "
    f"{verdict.prompts(study):,} prompts here find a Δ of {cells.fixed(study['detectable'], 1)}%."
  )

  return cells.select("power", "Power", study["needed"], columns, note=note, words=0)


def agreement(results: Mapping) -> cells.Table:
  """How far the judges agree."""
  columns = {
    "judges": lambda row: " and ".join(row["judges"]),
    "of": lambda row: row["of"],
    "κ": lambda row: cells.within(row["kappa"], row["ci95"]),
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


def length(results: Mapping) -> cells.Table:
  """Comparisons without the effect of length."""

  def of(part: str, key: str, render):
    return lambda row: render(row[part] and row[part][key])

  columns = {
    "system": lambda row: row["a"],
    "against": lambda row: row["b"],
    "judge": lambda row: row["judge"],
    "longer by, tokens": lambda row: cells.signed(row["tokens"]),
    "Δ %": lambda row: cells.signed(row["delta"], row.get("ci95")),
    "Δ controlled %": of("controlled", "delta", cells.signed),
    "controlled 95%": of("controlled", "ci95", cells.interval),
    "not controlled": lambda row: row["controlled"].get("reason") or cells.BLANK,
    "Δ matched %": of("matched", "delta", cells.signed),
    "matched 95%": of("matched", "ci95", cells.interval),
    "prompts": of("matched", "n", cells.plain),
  }

  about = {
    "longer by, tokens": "Longer by: mean difference in tokens.",
    "Δ controlled %": "Controlled: Δ as a logistic regression on the length difference predicts it "
    "for answers of equal length (after AlpacaEval 2).",
    "not controlled": "Where one system wins every prompt that cannot be estimated.",
    "Δ matched %": "Matched: Δ on the prompts whose two answers differ by at most 10% in length.",
  }
  rows = results.get("length", {}).get("comparisons", ())
  title = "Without the effect of length"

  return cells.select("length", title, rows, columns, about=about, words=3, is_printed=False)


def correlations(results: Mapping) -> cells.Table:
  """Whether judges score long answers higher."""
  measured = results.get("length", {}).get("correlations", ())
  judges = list(dict.fromkeys(row["judge"] for row in measured))
  rows: dict[str, dict] = {}
  for row in measured:
    rows.setdefault(row["system"], {"system": row["system"]})[row["judge"]] = row
  columns = {"system": lambda row: row["system"]}

  for judge in judges:
    # A default keeps the judge of this turn; a closure would see that of the last one.
    columns[judge] = lambda row, judge=judge: cells.within(
      row[judge]["correlation"], row[judge]["ci95"]
    )
    columns[f"{judge} 95%"] = lambda row, judge=judge: cells.bounds(row[judge]["ci95"])

  note = "Spearman's rank correlation of a judge's score and the answer's length, in each system."
  title = "Score and length"
  return cells.select(
    "correlations", title, list(rows.values()), columns, note=note, is_printed=False
  )


def knee(results: Mapping) -> cells.Table:
  """Whether more optimisation harmed."""
  section = results.get("frontier", {})
  judge = section.get("judge")
  rows = [chain for chain in section.get("chains", ()) if chain["since"]]
  columns = {
    "chain": lambda row: row["chain"],
    "knee": _knee,
    "from KL, nats": lambda row: cells.fixed(row["points"][_best(row)["index"]]["kl"]),
    "to KL, nats": lambda row: cells.fixed(row["points"][-1]["kl"]),
    "proxy": lambda row: row["proxy"],
    "its change": lambda row: _change(_best(row), "proxy"),
    "judge": lambda row: judge or cells.BLANK,
    "the judge's": lambda row: _change(_best(row), "judge"),
  }

  note = (
    "From the checkpoint of less KL that the judge puts highest to the last one, in the unit of "
    "each score. A knee is a checkpoint since which the judge fell and the proxy rose, with "
    "intervals that hold at 95% for all checkpoints of the chain together; its own interval spans "
    "the checkpoints that may be the highest. Where there is none, either more did no harm, or so "
    "many prompts cannot tell."
  )

  return cells.select("knee", "Over-optimised?", rows, columns, note=note, words=2)


def frontier(results: Mapping) -> cells.Table:
  """Every checkpoint of every chain."""
  section = results.get("frontier", {})
  rows = [
    {"chain": chain["chain"], "optimised": rewarded.optimised(results, chain), **point}
    for chain in section.get("chains", ())
    for point in chain["points"]
  ]
  judge = section.get("judge")

  columns = {
    "chain": lambda row: row["chain"],
    "checkpoint of": lambda row: row["stage"],
    "optimises": lambda row: row["optimised"],
    "step": lambda row: str(row["step"]),
    "KL, nats": lambda row: cells.within(row["kl"], row["kl_ci95"]),
    "KL 95%": lambda row: cells.bounds(row["kl_ci95"]),
    "proxy": lambda row: cells.within(row["proxy"], row["proxy_ci95"]),
    "proxy 95%": lambda row: cells.bounds(row["proxy_ci95"]),
    f"{judge}": lambda row: cells.within(row.get("judge"), row.get("judge_ci95")),
    f"{judge} 95%": lambda row: cells.bounds(row.get("judge_ci95")),
  }

  note = "KL between the model and its SFT model in nats per response, on held-out prompts; "
  others = {
    chain["proxy"]
    for chain in section.get("chains", ())
    if rewarded.optimised(results, chain) != chain["proxy"]
  }
  if others:
    note += f"the proxy is {' or '.join(sorted(others))}, which is not all that training maximised."
  else:
    note += "the proxy is the reward that training maximised."
  if any(row["chain"] == "improver" for row in rows):
    note += " The improver's drafts are samples of the final policy."

  return cells.select("frontier", "Checkpoints", rows, columns, note=note, words=3, is_folded=True)


def _best(chain: Mapping) -> Mapping:
  """Returns the change since the checkpoint of less KL that the judge puts highest."""
  # By the judge and not by the proxy, which training raises to the end.
  points = chain["points"]
  return max(chain["since"], key=lambda row: points[row["index"]]["judge"])


def _change(row: Mapping, name: str) -> str:
  change = f"{row[name]:+.2f} ({cells.bounds(row[f'{name}_ci95'])})"
  return change.replace("-", "−")


def _knee(chain: Mapping) -> str:
  checkpoint = chain["knee"]
  if not checkpoint:
    return "none within this run"
  return f"at KL {cells.fixed(checkpoint['kl'])} ({cells.bounds(checkpoint['ci95'])})"


def _small(value: float | int) -> str:
  return "< 0.001" if value < 0.001 else cells.fixed(value, 3)


OPTIMISED = (knee, frontier)
CERTAINTY = (power, agreement, length, correlations)
