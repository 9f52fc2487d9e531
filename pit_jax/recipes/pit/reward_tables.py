"""Tables of gap rewards and of stop rules."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

from pit_jax.report import cells, verdict
from pit_jax.statistics import stopping

REWARDS = {  # system → what rewarded it
  "pit": "R_PIT, the five terms of eq. 2",
  "pit_single_term": "R_PIT, its term r(w,l) > r(l,w)",
  "pit_rp_difference": "R_P(x, y) − R_P(x, y_ref)",
}
RULES = {  # stop rule → what the gain is that it asks for
  "both_orders": "(R(x,y,y′) − R(x,y′,y)) / 2",
  "draft_zero": "R(x,y,y′) − R(x,y′,y′)",
  "zero_point": "R(x,y,y′) − zero point",
}
# No judge judges what it rewarded. Each of pit and pit_rp_difference was rewarded by one of two.
OWN = {"pit_rp_difference": ("R_P",)}
OWN_AGAINST_PIT = {"pit_rp_difference": ("R_P", "R_PIT")}


def gap_rewards(results: Mapping) -> cells.Table:
  """What each gap reward knows, and how its improver fares."""
  rows = []
  for row in results.get("ablation", ()):
    system = row["system"]
    find = functools.partial(verdict.find, results["comparisons"])
    over_original = find(system, "original", without=OWN.get(system, ())) or {}
    under_pit = find("pit", system, without=OWN_AGAINST_PIT.get(system, ())) or {}
    rows.append({**over_original, **row, "reward": REWARDS[system], "under_pit": under_pit})

  columns = cells.columns({
    "trained with it": "system", "gap reward": "reward", "judge": "judge",
    "Δ %": "delta", "95% interval": "ci95",
    "pit over it %": lambda row: cells.said("delta", row["under_pit"]),
    "its 95%": lambda row: cells.said("ci95", row["under_pit"]),
    "on labels": "accuracy", "in order": "order", "zero point": "zero_point",
    "± identical": "spread",
    "sign right": lambda row: _signs(row.get("sign_agreement")),
    "of its own": lambda row: _signs(row.get("own_sign_agreement")),
  })  # fmt: skip

  about = {
    "Δ %": "Δ of the improver that each reward trained, against original; no judge is asked about "
    "what it rewarded.",
    "on labels": "On labels: pairs of the reward models' validation part with r(w,l) > r(l,w); in "
    "order: those with all of r(w,l) ≥ r(w,w), r(l,l) ≥ r(l,w).",
    "zero point": "Zero point and ±: mean and deviation over identical pairs, in deviations over "
    "samples of the SFT model; a difference gives all identical pairs the same.",
    "sign right": "Sign right: how often r(y_1, y_0) is on the side of the zero point that the "
    "judge's difference says, for pit's y_1 and its own improver's.",
  }

  return cells.select("gap_rewards", "Which gap reward?", rows, columns, about=about, words=3)


def improvers(results: Mapping) -> cells.Table:
  """What a gap model and RL took and gave, beside DPO of the same improver."""
  rows = []
  for row in results.get("improvers", ()):
    find = functools.partial(verdict.find, results["comparisons"], without=("R_PIT",))
    over_original = find(row["system"], "original") or {}
    over_start = find(row["system"], "improver_sft") or {}
    rows.append({**over_original, **row, "over_start": over_start})

  columns = cells.columns({
    "improver": "system", "judge": "judge", "Δ %": "delta", "95% interval": "ci95",
    "over its start %": lambda row: cells.said("delta", row["over_start"]),
    "its 95%": lambda row: cells.said("ci95", row["over_start"]),
    "labelled pairs": lambda row: cells.fixed(row["pairs"], 0),
    "responses": lambda row: cells.fixed(row["responses"], 0),
    "passes": lambda row: cells.fixed(row["passes"], 0),
    "time": lambda row: cells.duration(row["seconds"]),
    "tokens": "tokens",
  })  # fmt: skip

  about = {
    "Δ %": "Δ is against original, and that over its start against improver_sft.",
    "labelled pairs": "What each took beyond improver_sft, the policy's chain apart: pairs whose "
    "labels it learnt from, responses sampled to learn from, passes of a row through a network "
    "(there 1, there and back 3), and the time of its steps, without compiling.",
    "tokens": "Tokens are those of an answer.",
  }
  title = "Does reinforcement earn its cost?"
  return cells.select("improvers", title, rows, columns, about=about, words=2)


def stop_rules(results: Mapping) -> cells.Table:
  """What each gap reward's stop rule makes of the same rounds."""
  rows = results.get("ablation", ())
  judge = verdict.score_judge(results)
  columns = cells.columns({
    "rule by": lambda row: REWARDS[row["system"]],
    "judge": lambda row: cells.BLANK if row.get("delta_stop") is None else judge,
    "stopped": "stopped", "score*": "score_stop", "Δ* %": "delta_stop",
    "95% interval*": "ci95_stop",
  })  # fmt: skip

  note = (
    "* the last round of pit, the same versions for every rule, against original. Stopped: the "
    "fraction of prompts that the rule has ended by then. A rule by R_P is not judged by R_P."
  )
  return cells.select("stop_rules", "The stop rule by each", rows, columns, note=note, words=2)


def kept(results: Mapping) -> cells.Table:
  """What each stop rule keeps of all versions."""
  measured = results.get("stop", {})
  judge = measured.get("judge")
  note = (
    "Of all versions of all rounds, those after the rule's end too, the share whose gain over the "
    f"version before, y′, is more than the margin, by what {judge} says of the two; "
    "identical are those that repeat it word for word. A rule should keep the better ones alone. "
    "Margins are in deviations of R_PIT over samples of the SFT model."
  )

  rows = stopping.over_rounds(measured.get("rows", ()))
  return _kept("stop", "What stop rules keep", rows, note)


def kept_by_round(results: Mapping) -> cells.Table:
  """The same round by round, without a margin."""
  rows = [row for row in results.get("stop", {}).get("rows", ()) if row["margin"] == 0]
  table = _kept("stop_rounds", "What stop rules keep, by round", rows, "At a margin of 0.")
  return dataclasses.replace(table, is_folded=True)


def _kept(name: str, title: str, rows: Sequence[Mapping], note: str) -> cells.Table:
  def share(row: Mapping, kind: str) -> str:
    n = row[kind]
    return f"{cells.percent(row[f'{kind}_kept'] / n)} of {n:,}" if n else cells.BLANK

  shares = {kind: functools.partial(share, kind=kind) for kind in stopping.KINDS}
  shown = {"gain": lambda row: RULES[row["rule"]], "round": "k", "margin": "margin", **shares}
  return cells.select(name, title, rows, cells.columns(shown), note=note)


def _signs(agreement: Mapping | None) -> str:
  return cells.percent((agreement or {}).get("fraction"))


MAKERS = (gap_rewards, stop_rules, kept, kept_by_round)
