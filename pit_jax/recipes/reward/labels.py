"""What reward models say of held-out labels, beside length: accuracy, order, calibration."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from pit_jax.data import preferences, rows
from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.feedback import judges
from pit_jax.improve import improvement
from pit_jax.run import context as contexts
from pit_jax.stages import reward
from pit_jax.statistics import labelled, margins, metrics


@dataclasses.dataclass(frozen=True)
class Models:
  """R_P and R_PIT."""

  reward: reward.RewardModel
  gap_reward: reward.RewardModel


@dataclasses.dataclass(frozen=True)
class Subject(subject.Subject):
  """A finished run of reward models, which answer nothing and have no judges."""

  models: Models
  systems: ClassVar[dict] = {}  # nothing answers
  pairs: ClassVar[list] = []  # nothing is compared

  @property
  def reward_models(self) -> dict[str, dict]:
    """What validation said of the models."""
    return subject.facts_of({"R_P": self.models.reward, "R_PIT": self.models.gap_reward})


def of_run(context: contexts.Context, models: Models) -> Subject:
  """Returns a finished run as its experiments see it."""
  improver = improvement.Improver(
    inference=context.models.inference,
    policy=None,
    improver=None,
    gap_reward=models.gap_reward.params,
    zero_point=models.gap_reward.facts["zero_point"],
    margin=context.config.evaluation.margin,
    stop_rule=context.config.evaluation.stop_rule,
  )

  questions = [row.prompt for row in subject.held_out(context)]
  suite = suites.Suite(improver, questions, (), context.key("evaluation"), 0.0)
  return Subject(context, suite, models)


# All three are of new prompts.
NEW = "new writers"
KNOWN = "known writers"
ALL = "held out"
LONGER = "the longer one"


def measure(run: Subject) -> dict:
  """Returns the accuracy of every reward model and of length, reliability, and the order of eq. 1.

  Pairs whose writers are held out too come apart from those whose prompts alone are. The order's
  histogram is of the first kind.
  """
  # The held-out rows of the prompts that are evaluated.
  evaluated = set(run.suite.questions)
  pairs = [row for row in run.context.rows.folds["held_out"] if row.prompt in evaluated]
  margin, gaps = _margins(run, pairs)
  sizes = [run.suite.lengths([getattr(row, name) for row in pairs]) for name in _RESPONSES]

  # Intervals resample prompts, so each pair has to say whose it is.
  asked = [row.prompt for row in pairs]
  number = {prompt: index for index, prompt in enumerate(dict.fromkeys(asked))}
  prompts = np.array([number[prompt] for prompt in asked])
  differences = {LONGER: sizes[0] - sizes[1], **margin}
  accuracy = []
  reliability = []
  order = []
  histograms = []

  for kind, part in _kinds(run, pairs).items():
    rest = (sizes[0][part], sizes[1][part], prompts[part])
    for name, values in differences.items():
      described = labelled.describe(labelled.right(values[part]), *rest)
      accuracy.append({"pairs": kind, "model": name, **described})

    labels = np.ones(part.sum(), bool)
    for name, values in margin.items():
      groups = margins.by_size(values[part], labels)
      ece = metrics.expected_calibration_error(values[part], labels)
      reliability.append({"pairs": kind, "model": name, "ece": ece, "groups": groups})

    four = {name: values[part] for name, values in gaps.items()}
    histograms.append(four)
    order.append({"pairs": kind, **_order(four, prompts[part], run.models.gap_reward.facts)})

  return {
    "labels": {"accuracy": accuracy, "reliability": reliability, "order": order},
    "gap_order": metrics.gap_order(**histograms[0]) | {"histogram": histograms[0]},
    "reward_models": run.reward_models,
  }


_RESPONSES = ("chosen", "rejected")


def _kinds(run: Subject, pairs: Sequence[rows.Preference]) -> dict[str, np.ndarray]:
  """Returns which pairs are of which kind, kinds without a pair left out."""
  writers = run.context.config.data.held_out_writers
  if not writers:
    return {ALL: np.ones(len(pairs), bool)}
  is_new = np.array([preferences.is_by(row, writers) for row in pairs])
  return {kind: part for kind, part in ((NEW, is_new), (KNOWN, ~is_new)) if part.any()}


def _margins(run: Subject, pairs: Sequence[rows.Preference]) -> tuple[dict, dict]:
  """Returns each model's margins in nats, as trained, and the four gaps in R_PIT's unit."""
  questions = [row.prompt for row in pairs]
  chosen, rejected = ([getattr(row, name) for row in pairs] for name in _RESPONSES)
  model = run.models.reward
  gap = run.models.gap_reward
  judge = judges.reward_model(reward.rating(run.context, model))
  difference = judge.verdicts(questions, chosen, rejected).difference
  gaps = judges.remembering(functools.partial(run.context.models.inference.gaps, gap.params))
  texts = {"w": chosen, "l": rejected}
  four = {a + b: gaps(questions, texts[a], texts[b]) for a, b in ("wl", "ww", "ll", "lw")}
  # Without the gain that calibration put into the head, differences are in nats again.
  turned = (four["wl"] - four["lw"]) / gap.facts["gain"]
  return {"R_P": difference / model.facts["gain"], "R_PIT": turned}, four


def _order(four: Mapping[str, np.ndarray], prompts: np.ndarray, facts: Mapping) -> dict:
  """Returns how many pairs have the order of eq. 1, and where identical pairs lie.

  The zero point is that of the validation part; its distances are in units of the mean gap between
  the two orders of a pair, r(w,l) − r(l,w).
  """
  zero = facts["zero_point"]
  # Eq. 1 puts r(w,w) and r(l,l) between the others and says of neither that it is larger.
  middle = (four["ww"], four["ll"])
  ordered = (four["wl"] >= np.maximum(*middle)) & (np.minimum(*middle) >= four["lw"])
  shares = {"ordered": ordered, "above": four["wl"] > zero, "below": four["lw"] < zero}
  everywhere = [np.ones(len(prompts), bool)]
  summary = {"n": len(prompts)}

  for name, holds in shares.items():
    estimate = labelled.average(holds.astype(float), prompts, everywhere)
    summary |= dict(zip((name, f"{name}_ci95"), estimate, strict=True))

  spread = float((four["wl"] - four["lw"]).mean())
  identical = np.concatenate(middle)
  summary["shift"] = float(identical.mean() - zero) / spread
  summary["deviation"] = float(identical.std() / abs(spread))
  return summary
