"""Preference pairs that a finished run makes of its own answers, for the next round of training.

Whose prompts they are decides what the next round's figures mean:

  held_out, validation, judge   never: they measure, and only what people labelled may measure
  sft, rl                       unless others are named: the next round learns from better answers,
                                and its references are drafts and improvements of this run
  reward                        only when named: R_P and R_PIT would learn R_PIT's own verdicts

A prompt's fold depends on how its conversation begins, so in the next round, with the same
fractions, every prompt is where it was, and held-out prompts are still new to all models. R_PIT
alone labels: whatever judges the next round, gold above all, must not have chosen what it is
trained on.
"""

import collections
import dataclasses
import json
import pathlib
from collections.abc import Collection, Sequence
from typing import Any

import jax

from pit_jax import hosts
from pit_jax.data import conversations, preferences, values
from pit_jax.data import rows as data_rows
from pit_jax.evaluate import suite as suites
from pit_jax.improve import improvement
from pit_jax.recipes.pit import subject
from pit_jax.run import workdirs

FOLDS = ("sft", "reward", "rl")
DEFAULT = ("sft", "rl")
WRITERS = ("pit", "original")  # of chosen and rejected, as the report calls them


@dataclasses.dataclass(frozen=True)
class Pairs:
  """New rows, and what became of the prompts that gave none.

  Attributes:
    rows: {"prompt", "chosen", "rejected", "margin", "chosen_generator", "rejected_generator",
      "rounds", "fold"}.
    left_out: how many prompts gave no pair, by reason.
  """

  rows: list[dict[str, Any]]
  left_out: dict[str, int]


def check(folds: Collection[str], minimum_margin: float | int) -> None:
  """Raises a ValueError for folds that no pairs may come from, or a negative margin."""
  if not folds or not set(folds) <= set(FOLDS):
    raise ValueError(
      f"folds {', '.join(folds) or 'none'}: use some of {', '.join(FOLDS)}; all others measure, "
      "and what is trained on can measure nothing"
    )

  if not minimum_margin >= 0:
    raise ValueError(
      f"minimum margin {minimum_margin}: a regression is no preference; use 0 or more"
    )


def make(
  suite: suites.Suite,
  folds: preferences.Folds,
  names: Collection[str],
  *,
  rounds: int,
  minimum_margin: float | int,
) -> Pairs:
  """Returns one pair per prompt whose answer the stop rule improved.

  `chosen` is the last version that the stop rule keeps, `rejected` the first draft. Neighbouring
  versions may each be better than the last and the whole chain lead nowhere, so R_PIT is asked
  about these two once more, in both orders whatever the stop rule:

    margin = (R_PIT(x, chosen, rejected) − R_PIT(x, rejected, chosen)) / 2 > minimum margin

  in standard deviations of the gap reward over samples of M_PIT^SFT.

  Args:
    suite: the models, the temperature and the noise of a finished run; its questions are not asked.
    folds: the run's data.
    names: of the folds whose prompts are asked, some of FOLDS.
    rounds: versions to make of a draft, at most.
    minimum_margin: at least 0.
  """
  rows = []
  left_out = collections.Counter()
  for index, fold in enumerate(FOLDS):
    if fold in names:
      # Each prompt once, in the order of the data.
      questions = list(dict.fromkeys(row.prompt for row in folds[fold]))
      # By the place among all FOLDS: naming fewer of them changes no sample of the others.
      key = jax.random.fold_in(suite.key, subject.NEXT_ROUND + index)
      drafts, made = _improve(suite, questions, rounds, key)
      pairs = _pairs(suite, questions, drafts, made, minimum_margin, left_out)
      rows += [{**row, "fold": fold} for row in pairs]

  return Pairs(rows, dict(left_out))


def _improve(
  suite: suites.Suite, questions: Sequence[conversations.Prompt], rounds: int, key: jax.Array
) -> tuple[list[str], improvement.Rounds]:
  """Returns the policy's drafts for some prompts, and the improver's versions of them."""
  models = suite.improver
  temperature = suite.temperature
  noise = jax.random.fold_in(key, 0)
  drafts = models.inference.answer(models.policy, questions, noise, temperature)
  options = {"rounds": rounds, "key": key, "temperature": temperature, "until_stopped": True}

  return drafts, improvement.improve(models, questions, drafts, **options)


def _pairs(
  suite: suites.Suite,
  questions: Sequence[conversations.Prompt],
  drafts: Sequence[str],
  made: improvement.Rounds,
  minimum_margin: float | int,
  left_out: collections.Counter,
) -> list[dict[str, Any]]:
  """Returns those pairs that R_PIT is sure of, and counts the prompts that give none."""
  models = dataclasses.replace(suite.improver, stop_rule="both_orders")
  last = made.with_stop(len(made.gaps))
  better = [i for i, draft in enumerate(drafts) if last[i] != draft]
  left_out["the draft was kept"] += len(drafts) - len(better)
  if not better:
    return []
  prompts, chosen, rejected = ([column[i] for i in better] for column in (questions, last, drafts))
  margins = models.gains(prompts, chosen, rejected).tolist()

  pairs = []
  for place, i in enumerate(better):
    margin = margins[place]
    texts = (prompts[place], chosen[place], rejected[place])
    row = data_rows.written(data_rows.Preference(*texts, margin=margin, writers=WRITERS))
    if not margin > 0:
      left_out["no better than the draft in both orders"] += 1
    elif not margin > minimum_margin:
      left_out["less than the minimum margin"] += 1
    elif reason := _unusable(row):
      left_out[reason] += 1
    else:
      pairs.append({**row, "rounds": int(made.kept[i])})

  return pairs


def _unusable(row: dict[str, Any]) -> str | None:
  """Returns why a row would be refused as data, None if it would not."""
  try:
    data_rows.check(row, "a new pair")
  except values.RowError as error:
    return error.reason

  return None


def write(made: Pairs, output: pathlib.Path, data: Sequence[data_rows.Preference] = ()) -> None:
  """Writes new pairs, then the rows of data as they were, and prints what became of the prompts.

  Raises:
    ValueError: there is no pair.
  """
  reasons = "; ".join(f"{reason}: {count:,}" for reason, count in made.left_out.items() if count)
  if not made.rows:
    raise ValueError(f"no pair was made ({reasons}); nothing is written")
  old = [data_rows.written(row) for row in data]
  lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in [*made.rows, *old])
  workdirs.write_text(output, "".join(lines))

  if hosts.is_first():
    rows = f", then {len(old):,} rows of the run's data" if old else ""
    print(f"{output}: {len(made.rows):,} new pairs{rows}; prompts without one: {reasons or 'none'}")
