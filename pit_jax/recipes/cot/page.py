"""What the report says of rationales: ways of asking, rerankers, what DPO did, claims."""

from collections.abc import Mapping, Sequence

from pit_jax.recipes.cot import arms
from pit_jax.report import cells, claims, diagram, palette, presentation, tabular

RIGHT = "right"  # the judge of final answers


def modes(results: Mapping) -> cells.Table:
  """How right every arm is, asked for rationales and for short answers, by kind of prompts."""
  rows = results.get("modes", ())
  by_place = {(row["system"], row["mode"], row["prompts"]): row for row in rows}
  names = dict.fromkeys(row["system"] for row in rows)

  def share(mode, prompts, what):
    return lambda row: cells.percent(by_place.get((row["system"], mode, prompts), {}).get(what))

  columns = cells.columns({
    "arm": "system",
    "rationales": share("steps", "seen", "right"), "greedily": share("steps", "seen", "greedy"),
    "every call right": share("steps", "seen", "sound"),
    "of unseen kind": share("steps", "unseen", "right"),
    "every call right, unseen": share("steps", "unseen", "sound"),
    "short": share("direct", "seen", "right"), "short, greedily": share("direct", "seen", "greedy"),
    "short, unseen": share("direct", "unseen", "right"),
  })  # fmt: skip
  note = (
    "Shares of held-out prompts whose final answer is right, as the verifier says. Prompts of "
    "unseen kind are those that no stage learns from."
  )
  listed = [{"system": name} for name in names]
  return cells.select("modes", "Rationales and short answers", listed, columns, note=note)


def rerankers(results: Mapping) -> cells.Table:
  """Who chooses best among rationales of sft_both."""
  columns = cells.columns({
    "chooses": "chooser", "right": lambda row: cells.percent(row["right"]),
    "over the majority": lambda row: cells.signed(row["delta"], row["ci95"]),
    "95% interval": lambda row: cells.interval(row["ci95"]),
    "over seeds": lambda row: cells.interval(row.get("over_seeds", {}).get("ci95")),
    "right above wrong": lambda row: cells.percent(row.get("ordered")),
    "95% interval of it": lambda row: cells.percents(row.get("ordered_ci95")),
  })  # fmt: skip
  note = (
    "“One” takes the first rationale, “any” a right one where there is one. “implicit” is "
    "β log π / π_ref of dpo, “implicit_random” that of dpo_random, “R_P” a reward model of the "
    "same pairs, “likelihood” log π_ref. Right above wrong: how often a right rationale is scored "
    "above a wrong one of its prompt."
  )
  return cells.select("rerankers", "Reranking", results.get("rerankers", ()), columns, note=note)


def log_ratios(results: Mapping) -> cells.Table:
  """How every arm moved the log-probabilities of right and wrong rationales."""
  columns = cells.columns({
    "arm": "system", "right, nats": lambda row: cells.signed(row["right"]),
    "wrong, nats": lambda row: cells.signed(row["wrong"]),
    "right ahead": lambda row: cells.percent(row["ahead"]),
  })  # fmt: skip
  note = "Mean log π − log π_ref of whole rationales of pairs that validate, π_ref being sft_both."
  rows = results.get("log_ratios", ())
  return cells.select("log_ratios", "What became likelier", rows, columns, note=note)


def origins(results: Mapping) -> cells.Table:
  """What became of the teacher's rationales and of the policy's own."""
  names = ("asked", "kept", "wrong", "failed", "prompts", "both", "right", "unknown", "pairs")
  shown = {name: (lambda row, name=name: cells.plain(row.get(name, ""))) for name in names}
  sound = {"every call right": lambda row: cells.percent(row.get("sound"))}
  note = (
    "Of the teacher's rationales those are kept whose final answer is right. Of the policy's "
    "prompts `both` have right and wrong rationales, which are paired; the others one kind alone."
  )
  columns = cells.columns({"of": "of", **shown, **sound})
  rows = results.get("rationales", ())
  return cells.select("rationales", "Where rationales come from", rows, columns, note=note)


def pipeline(results: Mapping) -> list[diagram.Column]:
  """Returns the three fine-tuned arms, and what follows the one that imitates both."""
  stages = results.get("stages", {})
  if arms.BOTH not in stages:
    return []
  single = [name for name in (arms.SHORT, arms.STEPS) if name in stages]
  optimised = [name for name in stages if name.startswith(arms.DPO)]
  own = [
    [diagram.Box((arms.BOTH, "imitates short answers and rationales",
                  *diagram.effort(results, arms.BOTH)))],
    [diagram.Box((", ".join(single), "imitate one kind", *diagram.effort(results, arms.SHORT)))],
  ]  # fmt: skip
  box = (", ".join(optimised), "DPO, right over wrong", *diagram.effort(results, arms.DPO))
  other = (arms.REJECTION, "imitates the right ones", *diagram.effort(results, arms.REJECTION))
  ends = ("asked in both ways", "for rationales and short answers")
  return [
    diagram.Column("Imitation", own, diagram.rows(results, stages[arms.BOTH].get("fold", ""))),
    diagram.Column(
      "Own rationales, verified", [[diagram.Box(box)], [diagram.Box(other)]],
      diagram.rows(results, stages[arms.DPO].get("fold", "")),
    ),
    diagram.Column(
      "Held out", [[diagram.Box(ends)], [diagram.Box(("reranked", "by R_P, majority and DPO"))]],
      diagram.rows(results, "held_out"),
    ),
  ]  # fmt: skip


def said(results: Mapping) -> tuple[Sequence[claims.Claim], str]:
  """Returns what the run says of each step of the method, and of the controls."""
  direct = arms.DIRECT
  learnt = claims.share(results, f"{arms.SHORT}{direct}", f"{arms.BASE}{direct}", 1 / 3, RIGHT)
  gained = claims.share(results, arms.DPO, arms.BOTH, 1 / 3, RIGHT)
  stated = [
    claims.Stated(
      f"{arms.SHORT}{direct}", f"{arms.BASE}{direct}", "short answers teach short answers",
      judge=RIGHT,
    ),
    claims.Stated(
      arms.SHORT, arms.BASE, "of rationales short answers teach at most a third as much",
      judge=RIGHT, at_most=learnt,
    ),
    claims.Stated(arms.BOTH, arms.SHORT, "both teach rationales", judge=RIGHT),
    claims.Stated(
      arms.DPO, arms.BOTH, "DPO of right over wrong rationales gives more right ones", judge=RIGHT
    ),
    claims.Stated(
      f"{arms.DPO}{direct}", f"{arms.BOTH}{direct}", "DPO of rationales improves short answers",
      judge=RIGHT
    ),
    claims.Stated(
      arms.DPO, arms.REJECTION, "DPO beats imitating the right rationales of its pairs",
      claims.EXPECTED, judge=RIGHT,
    ),
    claims.Stated(
      arms.RANDOM, arms.BOTH, "a coin in the verifier's place gains at most a third",
      claims.EXPECTED, judge=RIGHT, at_most=gained,
    ),
  ]  # fmt: skip
  found, _ = claims.decide([*claims.tests(results, stated, {}), *_reranked(results)])
  return found, claims.remark(results) if found else ""


def _reranked(results: Mapping) -> list[claims.Measured]:
  """Returns the tests of the DPO model's own reward as a reranker."""
  choosers = {row["chooser"]: row for row in results.get("rerankers", ())}
  own = "implicit"
  return [
    *claims.measured("the DPO model's reward reranks better than the majority", choosers, own,
                     0.0, "delta", what="Δ to the majority in percent"),
    *claims.measured("its reward tells right rationales from wrong ones", choosers, own, 0.5,
                     "ordered", what="the share of right ones scored above wrong ones"),
  ]  # fmt: skip


COLOURS = {
  arms.DPO: palette.TEAL, arms.BOTH: "#94a3ba", arms.REJECTION: palette.PURPLE,
  arms.RANDOM: palette.RUST, arms.SHORT: palette.BLUE,
}  # fmt: skip
PAGE = presentation.Presentation(
  title="Chain-of-thought distillation and DPO, arXiv 2410.16198",
  systems={name: presentation.System("", colour) for name, colour in COLOURS.items()},
  baseline=arms.BOTH,
  headlines={(arms.DPO, arms.BOTH): ("Right over wrong rationales", "imitated ones")},
  claims=said,
  diagram=pipeline,
  sections=(
    presentation.Section("Rationales and short answers", (modes, rerankers, log_ratios, origins)),
    tabular.COMPARED,
    tabular.CERTAINTY,
    tabular.TRAINING,
  ),
)
