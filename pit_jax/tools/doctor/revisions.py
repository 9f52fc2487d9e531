"""Finding on whether what is preferred makes revisions better: MARV, asked of finished runs.

The improver of every run that is named revises either answer of a pair, and the first run's reward
model scores what they wrote. See `statistics.revised`, and `stages/revision.py` for recipes.
"""

import dataclasses
import json
import pathlib
from collections.abc import Sequence

import jax
import numpy as np
from jaxtyping import Float, Int

from pit_jax.api import runs
from pit_jax.data import conversations, rows, values
from pit_jax.exchange import export
from pit_jax.statistics import labelled, revised
from pit_jax.tools.doctor import cases, estimates, findings

TITLE = "Whether what is preferred makes revisions better"
HALF = 0.5  # of pairs whose label says nothing of revisions


@dataclasses.dataclass(frozen=True)
class Revised:
  """Pairs that were revised, and by how much revisions of the preferred answer score higher."""

  places: Int[np.ndarray, " n"]  # of the rows that were drawn and could be shown
  gains: Float[np.ndarray, " n"]  # in the unit of the first run's reward
  unit: str  # of that: "deviations", or "nats" of likelihoods
  refused: dict[int, str]  # row that was drawn → why no run can be asked about it

  @property
  def kept(self) -> Int[np.ndarray, " k"]:
    """The rows of which revisions of the preferred answer score higher."""
    return self.places[self.gains > 0]


def revisers(places: Sequence[str]) -> list[runs.Run]:
  """Returns finished runs that can revise, of which the first one can score.

  Raises:
    ValueError: there is no such run, or it lacks a model.
  """
  found = [runs.load(place) for place in places]
  for one in found:
    if "improver" not in one.models:
      raise ValueError(
        f"--revise={one.place}: this run has no improver, only {', '.join(one.models)}; name runs "
        "of a recipe that trains one"
      )
  try:
    found[0].score([], [])
  except ValueError as error:
    raise ValueError(f"--revise={found[0].place}, whose reward model scores: {error}") from error
  return found


def revise(
  pairs: Sequence[rows.Preference],
  revisers: Sequence[runs.Run],
  *,
  most: int,
  samples: int,
  seed: int,
) -> Revised:
  """Returns what revisers make of pairs that are drawn at random.

  Args:
    pairs: of prompts with two answers.
    revisers: finished runs with an improver, at least one; the first one has a reward model too.
    most: pairs that are drawn, at most; at least 1.
    samples: revisions of each reviser of each answer, at temperature 1; at least 1.
    seed: another seed, other pairs and other revisions.

  Raises:
    ValueError: a run has no improver, the first has no reward model, or of no pair anything can be
      asked.
  """
  drawn = np.sort(np.random.default_rng(seed).permutation(len(pairs))[:most])
  refused = {}
  for place in drawn.tolist():
    if (why := _refusal(pairs[place], revisers)) is not None:
      refused[place] = why
  places = np.array([place for place in drawn.tolist() if place not in refused], int)
  if not places.size:
    raise ValueError(f"no pair can be revised; the first one: {next(iter(refused.values()))}")

  # Of every pair all versions of the preferred answer, then all of the other one.
  sides = [(pairs[place].prompt, text) for place in places.tolist()
           for text in (pairs[place].chosen, pairs[place].rejected)]  # fmt: skip
  prompts, drafts = zip(*(side for side in sides for _ in range(samples)), strict=True)
  shape = (places.size, 2, samples)
  scores = [_scores(revisers[0], prompts, drafts, number, one, seed).reshape(shape)
            for number, one in enumerate(revisers)]  # fmt: skip
  chosen, rejected = np.moveaxis(np.stack(scores, axis=2), 1, 0)
  unit = "nats" if export.IMPLICIT[0] in revisers[0].models else "deviations"
  return Revised(places, revised.gains(chosen, rejected), unit, refused)


def _refusal(pair: rows.Preference, revisers: Sequence[runs.Run]) -> str | None:
  """Returns why some run cannot be asked about a pair; None if all can."""
  for one in revisers:
    try:
      one.improver.inference.check_prompt(pair.prompt)
    except values.RowError as error:
      return str(error)
  return None


def _scores(
  judge: runs.Run,
  prompts: Sequence[conversations.Prompt],
  drafts: Sequence[str],
  number: int,
  reviser: runs.Run,
  seed: int,
) -> np.ndarray:
  """Returns the judge's score of what a reviser makes of every draft; NaN of an empty one."""
  key = jax.random.fold_in(jax.random.key(seed), number)
  models = reviser.under(reviser.chosen(None))
  texts = models.inference.revise(models.improver, models.shown(prompts), drafts, key, 1.0)

  said = np.array([bool(text.strip()) for text in texts])
  scores = np.full(len(texts), np.nan)
  # Many versions are alike; each is scored once.
  whole = [(prompt, text) for prompt, text, one in zip(prompts, texts, said, strict=True) if one]
  keys = [(conversations.write(prompt), text) for prompt, text in whole]
  distinct = dict(zip(keys, whole, strict=True))
  if distinct:
    columns = map(list, zip(*distinct.values(), strict=True))
    by_key = dict(zip(distinct, judge.score(*columns).tolist(), strict=True))
    scores[said] = [by_key[key] for key in keys]
  return scores


def finding(examined: cases.Cases, found: Revised) -> findings.Finding:
  """Says how often, and by how much, revisions of the preferred answer score higher."""
  told = np.isfinite(found.gains)
  gains, places = found.gains[told], found.places[told]
  groups = examined.prompt[places]
  better, worse = (int(np.count_nonzero(sign * gains > 0)) for sign in (1, -1))
  if not gains.size:
    return findings.Finding("revisions", TITLE, "unknown", "No revision could be scored.")

  share = estimates.share((np.sign(gains) + 1) / 2, groups)
  mean, ends = labelled.average(gains, groups, [np.ones(gains.size, bool)])
  low, high = ends or (None, None)
  severity, advice = _weighed(share)
  many = len(found.refused)
  left_out = f" {findings.count(many, 'pair')} could not be asked about." if many else ""
  worst = np.argsort(gains)[: findings.EXAMPLES]
  return findings.Finding(
    "revisions",
    TITLE,
    severity,
    f"Of {findings.count(gains.size, 'pair')} revisions of the preferred answer score higher in "
    f"{better:,}, lower in {worse:,}, alike in {gains.size - better - worse:,}: "
    f"{findings.percent(share.value)} with ties as halves, {findings.interval(share)}.{left_out}",
    advice,
    (
      findings.estimated("revisions of the preferred answer are better", share),
      findings.Figure(f"by how much, in {found.unit} of the reward", mean, found.unit, low, high),
      findings.Figure("pairs that MARV keeps", better),
      findings.Figure("pairs that could not be asked about", many),
    ),
    tuple(
      findings.Example(
        examined.places(places[i]), f"{gains[i]:+.2f}: {examined.asked(places[i], 60)} | "
        f"{examined.answers(places[i])}",
      )
      for i in worst if gains[i] < 0
    ),
    places=examined.places(*places[gains <= 0]),
  )  # fmt: skip


def _weighed(share: estimates.Estimate) -> tuple[str, str]:
  """Returns how grave a share is, and what to do about it."""
  if share.low > HALF:
    return "ok", ""
  if share.high < HALF:
    return "problem", (
      "The other answer is what improves: look at the labels and at the reward model that scored, "
      "or train on what --kept writes."
    )
  return "unknown", "Revise more pairs (--revise_rows) before you trust this preference."


def write(path: str, pairs: Sequence[rows.Preference], found: Revised) -> None:
  """Writes the pairs that MARV keeps as JSON lines that can be trained on; none are no line."""
  lines = (json.dumps(rows.written(pairs[place]), ensure_ascii=False) for place in found.kept)
  pathlib.Path(path).write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
