"""Reward models of every draw on held-out pairs, and what their own labels were worth."""

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax import config_keys
from pit_jax.data import preferences
from pit_jax.evaluate import subject
from pit_jax.recipes.ser import policies, rounds
from pit_jax.stages import reward, trained
from pit_jax.statistics import labelled, resampling, significance
from pit_jax.tasks import synthetic

GOLD = "gold"
LABELS = "labels"


@dataclasses.dataclass(frozen=True)
class Subject(subject.Subject):
  """A finished run: models of every draw, and what those of the first one make of M_P^SFT."""

  sft: trained.Trained
  draws: Sequence[rounds.Evolved]
  arms: Sequence[Mapping[str, reward.RewardModel]]  # of each draw, by arm
  policies: Mapping[str, trained.Trained]

  @functools.cached_property
  def systems(self) -> Mapping[str, Sequence[str]]:
    """The answers of every system."""
    first = self.arms[0]
    return policies.answered(self.context, self.suite, self.sft, first, self.policies)

  @property
  def pairs(self) -> list[tuple[str, str]]:
    """Which systems are compared with which."""
    return policies.compared(self.systems)

  @property
  def controls(self) -> list[str]:
    """The second draw of M_P^SFT."""
    return [name for name in self.systems if name == policies.RESAMPLED]

  @property
  def about(self) -> dict[str, str]:
    """What systems are that only the configuration says."""
    ser = self.context.config.ser
    return {
      name: f"of {ser.samples} answers the one that the model of {arm} likes best"
      for name, arm in policies.CHOSEN.items()
      if name in self.systems
    }


@dataclasses.dataclass(frozen=True)
class Truth:
  """Pairs of which one response is better, and who says so."""

  judge: str  # GOLD of the embedded task, else LABELS
  places: Sequence[int]  # of the pairs that are told apart
  signs: np.ndarray  # Int[N], 1 where `chosen` is better, −1 where `rejected` is
  alone: Sequence[str]  # the check in which alone the two differ; "" where there is none


def truth(rows: Sequence[preferences.Preference], places: Sequence[int], is_gold: bool) -> Truth:
  """Returns what is right of the pairs at some places: the gold score says it, or their labels.

  Pairs of equal gold score are left out.
  """
  if not is_gold:
    return Truth(LABELS, places, np.ones(len(places), int), [""] * len(places))
  found = []
  for place in places:
    row = rows[place]
    sides = [synthetic.checks(row.prompt, text) for text in (row.chosen, row.rejected)]
    marks = [synthetic.gold(row.prompt, text) for text in (row.chosen, row.rejected)]
    different = [name for name in sides[0] if sides[0][name] != sides[1][name]]
    if marks[0] != marks[1]:
      alone = different[0] if len(different) == 1 else ""
      found.append((place, 1 if marks[0] > marks[1] else -1, alone))
  columns = [[row[column] for row in found] for column in range(3)]
  return Truth(GOLD, columns[0], np.array(columns[1], int), columns[2])


def measure(run: Subject) -> dict:
  """Returns every arm's accuracy on held-out pairs, their paired differences, and all rounds."""
  context = run.context
  is_gold = config_keys.is_embedded(context.config.data.source)
  # The held-out rows of the prompts that are evaluated.
  evaluated = {*run.suite.questions}
  rows = [row for row in context.rows.folds[preferences.HELD_OUT] if row.prompt in evaluated]
  pairs = rounds.encoded(context, rows, run.sft.params)
  told = truth(rows, [*pairs.at], is_gold)
  right = _right(run, pairs, told)
  arms = [
    {
      "arm": arm, "accuracy": float(columns.mean()), "draws": columns.mean(axis=1).tolist(),
      **({"checks": _by_check(columns, told.alone)} if is_gold else {}),
    }
    for arm, columns in right.items()
  ]  # fmt: skip

  asked = [rows[place].prompt for place in told.places]
  number = {prompt: index for index, prompt in enumerate(dict.fromkeys(asked))}
  prompts = np.array([number[prompt] for prompt in asked])
  return {
    "ser": {
      "judge": told.judge,
      "pairs": len(told.places),
      "draws": len(run.draws),
      "arms": arms,
      "differences": [difference(a, b, right, prompts) for a, b in compared(right)],
      "rounds": [row for one, arm in zip(run.draws, run.arms, strict=True)
                 for row in _rounds(run, one, arm, right, is_gold)],
      "ends": [
        {"draw": one.draw.number, "labels": len(one.draw.training),
         "validation": len(one.draw.validation), "unlabelled": len(one.draw.pool),
         "rounds": one.last, "best": one.best, "ended": one.ended}
        for one in run.draws
      ],
    }
  }  # fmt: skip


def _right(run: Subject, pairs: rounds.Pairs, told: Truth) -> dict[str, np.ndarray]:
  """Returns by arm where each draw's model is right: 1, of equal scores ½, else 0; Float[D N]."""
  met: dict[int, np.ndarray] = {}  # models serve several arms, and that of all labels every draw

  def ask(model):
    if id(model) not in met:
      chosen, rejected = rounds.scores(run.context, model, pairs, told.places)
      met[id(model)] = labelled.right(told.signs * (chosen - rejected))
    return met[id(model)]

  return {arm: np.stack([ask(models[arm]) for models in run.arms]) for arm in run.arms[0]}


def _by_check(right: np.ndarray, alone: Sequence[str]) -> dict[str, dict]:
  """Returns the accuracy over all draws on pairs that differ in one check alone, by that check."""
  found = {}
  for name in synthetic.WEIGHTS:
    where = np.array([one == name for one in alone], bool)
    if where.any():
      found[name] = {"accuracy": float(right[:, where].mean()), "n": int(where.sum())}
  return found


def compared(arms: Mapping[str, np.ndarray]) -> list[tuple[str, str]]:
  """Returns which arms are compared: SER with its controls first, then each round with the seed."""
  best, seed = rounds.BEST, rounds.SEED
  *others, last = [name for name in arms if name.removeprefix("ser_").isdigit()]
  pairs = [(best, seed), (best, rounds.LONGER)]
  pairs += [(name, seed) for name in (*others, last)] + [(last, rounds.LONGER)]
  pairs += [(last, rounds.RANDOM), (rounds.RANDOM, seed)]
  pairs += [(rounds.ORACLE, last), (rounds.ORACLE, seed)]
  pairs += [(rounds.WHOLE, best), (rounds.WHOLE, seed), (rounds.LONGER, seed)]
  return pairs


def difference(a: str, b: str, right: Mapping[str, np.ndarray], prompts: np.ndarray) -> dict:
  """Returns the paired difference of two arms' accuracies, in points.

  Args:
    a: an arm.
    b: the one that it is compared with.
    right: arm → where each draw's model is right, Float[D N].
    prompts: of each pair the number of its prompt, Int[N].

  Returns:
    Who is compared; `delta`, the mean over draws and pairs; `draws`, that of each draw; and
    `pairs_error`, the standard error over the choice of pairs, which all draws share. The intervals
    are as `interval` has them.
  """
  each = 100 * (right[a] - right[b])
  everywhere = [np.ones(len(prompts), bool)]
  _, bounds = labelled.average(each.mean(axis=0), prompts, everywhere) or (0.0, None)
  error = (bounds[1] - bounds[0]) / (2 * resampling.Z) if bounds else 0.0
  deltas = each.mean(axis=1).tolist()
  return {"a": a, "b": b, "draws": deltas, "pairs_error": error, **interval(deltas, error)}


def interval(deltas: Sequence[float], pairs_error: float) -> dict:
  """Returns the mean of the draws' differences with its 95% t intervals, in points.

  `ci95` is over draws of the labels, on these pairs; `ci95_both` over draws and pairs, with `p` of
  "there is no difference"; `positive` is how many draws are above 0. One draw tells nothing of
  others.
  """
  found = {"delta": float(np.mean(deltas)), "positive": sum(delta > 0 for delta in deltas)}
  if len(deltas) < 2:
    return found
  over, both = (significance.over_seeds(np.array(deltas), error) for error in (0.0, pairs_error))
  return found | {"ci95": over["ci95"], "ci95_both": both["ci95"], "p": both["p"]}


def _rounds(
  run: Subject,
  one: rounds.Evolved,
  models: Mapping[str, reward.RewardModel],
  right: Mapping[str, np.ndarray],
  is_gold: bool,
) -> list[dict]:
  """Returns what became of each round of a draw, the seed's model first."""
  rows = run.context.rows.fold(rounds.job_of(run.context.config).fold).rows

  def of_model(number):
    arm = rounds.arm(number)
    return {
      "validation": models[arm].facts["accuracy"],
      "accuracy": float(right[arm][one.draw.number - 1].mean()),
    }

  found = [{"draw": one.draw.number, "round": 0, **of_model(0)}]
  for each in one.rounds:
    kept = np.flatnonzero(each.kept)
    # Self-labels are right where the lost label, or the gold score, prefers the same response.
    told = truth(rows, each.pool[kept].tolist(), is_gold)
    sign_at = dict(zip(each.pool.tolist(), each.kept.tolist(), strict=True))
    agreed = told.signs == np.array([sign_at[place] for place in told.places], int)
    apart = np.abs(each.chosen - each.rejected)
    row = {
      "draw": one.draw.number, "round": each.number, "pool": len(each.pool), "kept": each.count,
      "share": each.count / max(len(each.pool), 1),
      "agreed_labels": _mean(each.kept[kept] > 0),
      **({"agreed_gold": _mean(agreed), "checks": _by_check(agreed[None].astype(float), told.alone)}
         if is_gold else {}),
      "margin": _mean(apart), "margin_kept": _mean(apart[kept]),
    }  # fmt: skip
    found.append(row | (of_model(each.number) if each.number <= one.last else {}))
  return found


def _mean(values: np.ndarray) -> float | None:
  return float(np.mean(values)) if len(values) else None


def pool(parts: Mapping[int, Mapping], prompts: Sequence) -> dict:
  """Returns the section of several seeds as one: all draws of all seeds together.

  Draws of one seed share its rows and its M_P^SFT, so the intervals take them for more alike to
  draws of other seeds than they are.
  """
  sections = [*parts.values()]
  arms = [
    _arm([one["arms"][place] for one in sections]) for place in range(len(sections[0]["arms"]))
  ]
  differences = []
  for place, first in enumerate(sections[0]["differences"]):
    deltas = [delta for one in sections for delta in one["differences"][place]["draws"]]
    errors = [one["differences"][place]["pairs_error"] for one in sections]
    error = math.hypot(*errors) / len(errors)
    names = {name: first[name] for name in ("a", "b")}
    differences.append({**names, "draws": deltas, "pairs_error": error, **interval(deltas, error)})

  listed = {
    name: [{"seed": seed, **row} for seed, one in parts.items() for row in one[name]]
    for name in ("rounds", "ends")
  }
  counts = {name: sum(one[name] for one in sections) for name in ("pairs", "draws")}
  return {
    "judge": sections[0]["judge"],
    **counts,
    "arms": arms,
    "differences": differences,
    **listed,
  }


def _arm(rows: Sequence[Mapping]) -> dict:
  draws = [accuracy for row in rows for accuracy in row["draws"]]
  checks = {}
  for name in rows[0].get("checks", {}):
    same = [row["checks"][name] for row in rows if name in row["checks"]]
    count = sum(one["n"] for one in same)
    accuracy = sum(one["n"] * one["accuracy"] for one in same) / count
    checks[name] = {"accuracy": accuracy, "n": count}
  found = {"arm": rows[0]["arm"], "accuracy": float(np.mean(draws)), "draws": draws}
  return found | ({"checks": checks} if checks else {})
