"""Several seeds' results as one: every comparison pooled over all prompts of all seeds.

Each seed of the embedded task has prompts of its own. Rows that are read from elsewhere are divided
by a hash of the prompt alone, so there all seeds hold out the same prompts, and a prompt with what
became of it under every seed is one draw.
"""

import collections
import dataclasses
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import numpy as np

from pit_jax.evaluate.experiments import frontier
from pit_jax.report import verdict
from pit_jax.statistics import metrics, repeated, resampling, significance

# Of the first seed only: what cannot be averaged, or is there to be read.
FROM_FIRST = (
  "recipe", "headline", "controls", "data", "samples", "answers", "stages", "gap_order", "config",
  "about", "absent", "labellers", "not_made", "made",
)  # fmt: skip
BY_KIND = ("kinds", "failures")  # counts of a row
SIGNS = ("sign_agreement", "own_sign_agreement")
OWN = (
  "comparisons count all prompts of all seeds, of which each has its own. Their 95% intervals and "
  "sign tests cover the choice of prompts; what other seeds may give is the interval over seeds."
)
SAME = (
  "comparisons count what became of the same prompts under all seeds. Their 95% intervals resample "
  "prompts with all their outcomes, sign tests ask which side won a prompt more often; both cover "
  "the choice of prompts, and what other seeds may give is the interval over seeds. Intervals "
  "along RL are as wide as if all seeds agreed."
)


def pool(results: Mapping[int, Mapping], own: Mapping[str, Callable] | None = None) -> dict:
  """Returns the results of several runs of one configuration as those of one experiment.

  Args:
    results: seed → what `findings` returned for it; all with the same comparisons.
    own: section that only some recipes have → how it is pooled; see `Recipe.pooled`.

  They are for `report.write`: comparisons over all prompts of all seeds (`seed` "all") and of each
  seed alone, rounds and temperatures likewise, and means over the seeds of all scores.

  Raises:
    ValueError: if the seeds compared other systems, or have the same prompts and do not tell what
      became of each.
  """
  runs = list(results.values())
  # One configuration holds out the same prompts of the same rows.
  prompts = [run.get("data", {}).get("rows_hash", seed) for seed, run in results.items()]
  pooled = {key: runs[0][key] for key in FROM_FIRST if key in runs[0]}
  comparisons = list(zip(*(run["comparisons"] for run in runs), strict=True))
  pooled["comparisons"] = significance.annotate([comparison(rows, prompts) for rows in comparisons])
  if principal := verdict.principal(pooled):
    pooled["power"] = significance.power(principal)

  # After the correction, in which the rows of single seeds have no part.
  pooled["comparisons"] += [
    row | {"seed": seed} for seed, run in results.items() for row in run["comparisons"]
  ]
  times = {f"seed {seed}": sum(run["seconds"].values()) for seed, run in results.items()}
  pooled |= {"seconds": times, "sampling": _mean([run.get("sampling", {}) for run in runs])}
  for section, averaged in {"systems": _system, "reward_models": _facts}.items():
    pooled[section] = {
      name: averaged([run[section][name] for run in runs]) for name in runs[0][section]
    }

  for section, together in (own or {}).items():
    if all(section in run for run in runs):
      parts = {seed: run[section] for seed, run in results.items()}
      pooled[section] = together(parts, prompts)

  if all("frontier" in run for run in runs):
    pooled["frontier"] = frontier.pool([run["frontier"] for run in runs], prompts)
  pooled["notes"] = [
    f"Means over seeds {', '.join(map(str, results))}; {SAME if is_repeated(prompts) else OWN} "
    "Ratings, lengths, the judges' agreement and what gap rewards know are in each seed's report.",
    *runs[0].get("notes", []),
  ]

  return pooled


def is_repeated(prompts: Sequence[Hashable]) -> bool:
  """Returns whether several seeds have the same prompts."""
  return len(set(prompts)) < len(prompts)


def comparison(rows: Sequence[Mapping], prompts: Sequence[Hashable]) -> dict:
  """Returns a comparison over all prompts of all seeds, with its interval over seeds.

  Raises a ValueError where the seeds compared other systems.
  """
  keys = ("a", "b", "judge", "temperature", "chosen_by", "chosen_on")
  kept, *others = ({key: row[key] for key in keys if key in row} for row in rows)
  for other in others:
    if other != kept:
      raise ValueError(
        f"seeds compared other systems: {kept} and {other}; pool runs of one configuration"
      )

  pooled = {**kept, "seed": "all", **_pooled(rows, prompts)}
  pooled |= _over_seeds(rows, pooled)
  failures = _counted(row.get("failures") for row in rows)
  return pooled | ({"failures": failures} if failures else {})


def _over_seeds(rows: Sequence[Mapping], pooled: Mapping) -> dict:
  """Returns the interval over seeds of a comparison that at least two of them judged.

  There is none of a single prompt, which tells nothing of others.
  """
  judged = [row for row in rows if row["n"]]
  shared = pooled["repeated"]["standard_error"] if "repeated" in pooled else 0.0
  if len(judged) < 2 or shared is None:
    return {}
  deltas = np.array([row["delta"] for row in judged])
  own = 0.0 if "repeated" in pooled else significance.own_error(judged)

  # A win rate is (100 + Δ) / 2.
  return {"over_seeds": significance.over_seeds(deltas, 2 * shared, own)}


def _pooled(rows: Sequence[Mapping], prompts: Sequence[Hashable]) -> dict:
  """Returns a comparison over all seeds, and of repeated prompts what tests have to know."""
  failed = sum(row.get("failed", 0) for row in rows)
  groups = {}
  if not is_repeated(prompts):
    comparison = metrics.pool(rows)
    about = {}
  elif any(row["n"] + row.get("failed", 0) > len(row.get("outcomes", "")) for row in rows):
    raise ValueError(
      "the seeds' results are of the same prompts and do not say what became of each: they are of "
      "an older version; make them anew with `pit evaluate --workdir=…` of each seed"
    )
  else:
    for name, row in zip(prompts, rows, strict=True):
      groups.setdefault(name, []).append(row["outcomes"])
    counts = np.concatenate([repeated.tally(columns) for columns in groups.values()])
    comparison = repeated.compare(counts, failed=failed)
    about = {"repeated": repeated.describe(counts)} if comparison.n else {}

  return {key: value for key, value in vars(comparison).items() if key != "outcomes"} | about


def _counted(counts: Iterable[Mapping | None]) -> dict:
  """Returns the sum of counts by kind."""
  return dict(sum(map(collections.Counter, counts), collections.Counter()))


def _shared(counts: Iterable[Mapping]) -> dict:
  """Returns the mean of counts by kind, rounded; those that a seed lacks are 0 there."""
  every = list(counts)
  return {kind: round(count / len(every)) for kind, count in _counted(every).items()}


def _system(records: Sequence[Mapping]) -> dict:
  """Averages a system's figures, and where all seeds have them the shares of its checks."""
  checks = [record.get("checks") for record in records]
  return _mean(records) | ({"checks": _mean(checks)} if all(checks) else {})


def _facts(records: Sequence[Mapping]) -> dict:
  """Averages a reward model's facts; signs are counted over all pairs of all seeds."""
  mean = _mean(records)
  for name in SIGNS:
    signs = [record.get(name) for record in records]
    count = sum(sign["n"] for sign in signs) if all(signs) else 0
    if count:
      # Weighted by their pairs: the mean of shares would count a seed with few as much.
      right = sum(sign["fraction"] * sign["n"] for sign in signs if sign["n"])
      mean[name] = {"fraction": right / count, "n": count}

  return mean


def _mean(records: Sequence[Mapping]) -> dict:
  # Where a judge could judge nothing, figures are missing.
  numbers = [
    key for key in records[0] if all(isinstance(one.get(key), int | float) for one in records)
  ]
  return {key: float(np.mean([record[key] for record in records])) for key in numbers}


def rows(*keys: str) -> Callable:
  """Returns what pools a section of rows: scores are averaged, comparisons counted together.

  The keys tell one row of a run from another.
  """

  def together(parts: Mapping[int, Sequence[Mapping]], prompts: Sequence[Hashable]) -> list[dict]:
    return [_mean_row(same, keys, prompts) for same in zip(*parts.values(), strict=True)]

  return together


def _intervals(rows: Sequence[Mapping], prompts: Sequence[Hashable]) -> dict:
  """Returns the intervals of a row's figures: over prompts, NAME_ci95, and NAME_over_seeds.

  Over the prompts of all seeds: where each seed has its own, their figures are independent; of the
  same prompts the interval is as wide as if all seeds agreed. Over seeds: `values` of each, and
  `ci95`, t of S − 1 degrees of freedom. Of `delta` they are called `ci95` and `over_seeds`.
  """
  found = {}
  for key in (key for key in rows[0] if key.endswith("ci95")):
    name = key.removesuffix("ci95").rstrip("_") or "delta"
    known = [(row[name], *row[key]) for row in rows
             if isinstance(row.get(name), int | float) and row.get(key)]  # fmt: skip
    if len(known) < len(rows):
      continue

    values, low, high = np.array(known, float).T
    halves = (high - low) / 2
    is_shared = is_repeated(prompts)
    half = float(halves.mean() if is_shared else np.hypot.reduce(halves) / len(halves))
    found[key] = [float(values.mean()) - half, float(values.mean()) + half]
    if len(rows) > 1:
      error = half / resampling.Z
      errors = {"shared_error": error} if is_shared else {"own_error": error}
      over = significance.over_seeds(values, **errors)
      found[key.removesuffix("ci95") + "over_seeds"] = {**over, "values": values.tolist()}
  return found


def _mean_row(rows: Sequence[Mapping], keys: Sequence[str], prompts: Sequence[Hashable]) -> dict:
  """Averages a row's figures; its comparisons are counted over all prompts of all seeds."""
  pooled = {**_facts(rows), **{key: rows[0][key] for key in keys}, **_intervals(rows, prompts)}
  for counts in BY_KIND:
    if any(counts in row for row in rows):
      pooled[counts] = _counted(row.get(counts) for row in rows)
  if all("by" in row for row in rows):
    pooled["by"] = _shared(row["by"] for row in rows)
  if all("parts" in row for row in rows):
    pooled["parts"] = _mean([row["parts"] for row in rows])
  fields = [field.name for field in dataclasses.fields(metrics.Comparison)]

  # A row of rounds has two comparisons: without and with the stop rule.
  for suffix in ("", "_stop"):
    if "win" + suffix in rows[0]:
      present = [name for name in fields if name + suffix in rows[0]]
      parts = [{name: row[name + suffix] for name in present} for row in rows]
      pooled |= {name + suffix: value for name, value in _pooled(parts, prompts).items()}

  return pooled
