"""Findings on what can be used at all, and on what the length limits cut away."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from pit_jax.data import encode, values
from pit_jax.report import cells
from pit_jax.tools.doctor import cases, findings, lengths

QUANTILES = (0.5, 0.95, 0.99)
FEW_STEPS = 50  # of an optimiser, that hardly move what starts at random
WHOLE = 0.99  # of the texts that a suggested limit leaves whole

MESSAGE = 320  # characters of what is wrong with a row

LOST = "Cut are the texts longer than the limit, lost is the share of all their tokens."


def usable(examined: cases.Cases) -> findings.Finding:
  """Finds how many rows training would leave out, and whether the rest can be divided."""
  kept = len(examined.rows)
  left_out = sum(examined.skipped.get(reason, 0) for reason in values.LEFT_OUT)
  skipped = sum(examined.skipped.values()) - left_out
  counts = {"usable rows": kept, "different prompts": len(examined.prompts)}
  counts |= {f"skipped: {why}": many for why, many in examined.skipped.items()}

  sentence = f"{findings.count(kept, 'row')} can be used"
  everything = "." if left_out else ", all of them."
  sentence += f", {findings.count(skipped, 'row')} cannot." if skipped else everything
  if left_out:
    sentence += f" Left out without a preference, as ties: {left_out:,}."
  share = skipped / (kept + skipped)
  advice = (
    "Training leaves the others out and counts them; data.on_bad_row=error names the first one and "
    "stops."
  )

  if examined.refusal:
    share = 1.0
    sentence += f" Training would refuse them: {examined.refusal}."
    advice = "Give it more rows, or other fractions."
  else:
    parts = ((name.replace("_", " "), rows) for name, rows in examined.counts().items() if rows)
    counts |= {f"fold: {part}": rows for part, rows in parts}
  figures = tuple(itertools.starmap(findings.Figure, counts.items()))
  return findings.weighed(
    "rows",
    "Usable rows",
    share,
    sentence,
    advice,
    figures,
    _unusable(examined),
    places=tuple(row.place for row in examined.unusable),
  )


def _unusable(examined: cases.Cases) -> tuple[findings.Example, ...]:
  """Shows the first rows of every reason for which rows cannot be used."""
  shown = []
  for reason in examined.skipped:
    rows = [row for row in examined.unusable if row.reason == reason]
    shown += [
      findings.Example((row.place,), findings.shorten(row.message, MESSAGE))
      for row in rows[: findings.EXAMPLES]
    ]
  return tuple(shown)


def steps(planned: Sequence[Any]) -> findings.Finding:
  """Finds stages of a configuration whose fold makes few optimiser steps.

  Args:
    planned: the stages, each with a `name`, `steps`, their `unit` ("steps" of an optimiser),
      `batch_size`, and the `key` that says how long it lasts.
  """
  few = [stage for stage in planned if stage.unit == "steps" and stage.steps < FEW_STEPS]
  longer = _listed(stage.key for stage in few)
  # A number of steps that is set does not depend on rows, nor on how many a step takes.
  by_rows = [stage for stage in few if stage.key.endswith(".epochs")]
  smaller = _listed(f"{_section(stage)}.batch_size" for stage in by_rows)
  by_rows_too = f"give more rows, raise {longer}, or lower {smaller}"
  todo = by_rows_too if by_rows else f"raise {longer}; more rows make no more steps of these"
  advice = f"Adam has hardly begun after fewer than {FEW_STEPS} steps: {todo}."
  table = tuple((stage.name, f"{stage.steps:,}", f"{stage.batch_size:,}") for stage in planned)
  listed = ", ".join(
    f"{stage.name} takes {findings.count(stage.steps, 'step')}" for stage in few or planned
  )
  least = min((stage.steps for stage in few), default=FEW_STEPS)

  return findings.Finding(
    "steps",
    "Optimiser steps",
    "problem" if least < FEW_STEPS / 5 else "warning" if few else "ok",
    f"With this configuration {listed}.",
    advice if few else "",
    tuple(findings.Figure(f"steps: {stage.name}", stage.steps) for stage in planned),
    tables=(cells.Table("steps", "Stages", ("stage", "steps", "rows of a step"), table),),
  )


def _listed(keys: Iterable[str]) -> str:
  return ", ".join(dict.fromkeys(f"--config.{key}" for key in keys))


def _section(stage: Any) -> str:
  return stage.key.split(".")[0]


def truncation(
  examined: cases.Cases, measured: lengths.Lengths, settings: encode.Settings
) -> findings.Finding:
  """Finds what is cut off under the template, and which limits would leave nearly all whole."""
  columns = {
    "prompt": (measured.prompt, settings.max_prompt_length),
    "chosen": (measured.chosen, settings.max_response_length),
    "rejected": (measured.rejected, settings.max_response_length),
  }
  cut = {name: tokens > limit for name, (tokens, limit) in columns.items()}
  is_cut = cut["prompt"] | cut["chosen"] | cut["rejected"]
  equal = measured.becomes_equal(settings.max_response_length)

  figures = [
    findings.Figure("pairs with something cut", float(is_cut.mean()), "share"),
    findings.Figure("prompts that lose their beginning", int(cut["prompt"].sum())),
    findings.Figure("chosen responses without their end", int(cut["chosen"].sum())),
    findings.Figure("pairs that become equal, and are dropped", int(equal.sum())),
  ]
  rows = tuple(_row(name, *column, cut[name]) for name, column in columns.items())
  heads = ("", "median", "95%", "99%", "longest", "limit", "cut", "lost")
  shares = {name: findings.percent(float(flags.mean())) for name, flags in cut.items()}
  limits = f"{settings.max_prompt_length} and {settings.max_response_length} tokens"
  return findings.weighed(
    "truncation",
    "Lengths and what is cut",
    float(is_cut.mean()),
    f"{limits} for prompts and responses cut {shares['prompt']} of the prompts, "
    f"{shares['chosen']} of the chosen responses, {shares['rejected']} of the rejected ones.",
    _advice(measured),
    tuple(figures),
    _examples(examined, measured, is_cut),
    (cells.Table("lengths", "Lengths in tokens", heads, rows, LOST),),
    fine=f"Every prompt and every response fits into {limits}.",
  )


def _row(name: str, tokens: np.ndarray, limit: int, is_cut: np.ndarray) -> tuple[str, ...]:
  lost = (tokens - limit).clip(min=0).sum() / tokens.sum()
  # Inverted CDF: lengths that some text has, and no mean of two.
  numbers = [*np.quantile(tokens, QUANTILES, method="inverted_cdf"), tokens.max(), limit]
  shares = [findings.percent(float(share)) for share in (is_cut.mean(), lost)]
  return (name, *(f"{int(number):,}" for number in numbers), *shares)


def _advice(measured: lengths.Lengths) -> str:
  responses = np.concatenate([measured.chosen, measured.rejected])
  prompt, response = (
    int(np.quantile(tokens, WHOLE, method="inverted_cdf"))
    for tokens in (measured.prompt, responses)
  )
  return (
    "A response that is cut teaches no end, and a prompt loses its oldest part. "
    f"data.max_prompt_length={prompt} and data.max_response_length={response} keep "
    f"{WHOLE:.0%} of each whole; data.over_long=drop leaves the others out instead."
  )


def _examples(
  examined: cases.Cases, measured: lengths.Lengths, is_cut: np.ndarray
) -> tuple[findings.Example, ...]:
  """Shows the longest of the pairs that are cut."""
  total = np.where(is_cut, measured.prompt + measured.chosen + measured.rejected, 0)
  longest: Sequence[int] = np.argsort(-total, kind="stable")[: findings.EXAMPLES]
  return tuple(
    findings.Example(
      examined.places(row),
      f"{measured.prompt[row]:,} + {measured.chosen[row]:,} and {measured.rejected[row]:,} tokens: "
      f"{examined.asked(row, 160)}",
    )
    for row in longest
    if is_cut[row]
  )
