"""A bandit in which imitation of a teacher and AI feedback can be computed (Sharma et al. 2024).

The example of arXiv 2402.12366, fig. 6: a strong teacher and a weak student choose among 100 arms.
SFT imitates the teacher. RLAIF fits a reward to pairs of the student's, labelled by a critic that
is always right, and moves the student towards it under a KL.

Deviation: where the paper draws 250,000 pairs and as many actions of the teacher, losses here are
expectations, so that nothing depends on a seed; steps and learning rates are the paper's.
"""

import itertools
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax import ranges
from pit_jax.evaluate import provenance
from pit_jax.recipes import recipe
from pit_jax.recipes.bandit import page, policies
from pit_jax.report import pages
from pit_jax.run import checks, workdirs

_SOME = ranges.list_of("some numbers, each more than 0", ranges.POSITIVE, least=1)


def _are_students(value: Any) -> bool:
  """Returns whether a value is two or more numbers, from the lowest to the highest."""
  if not ranges.is_list(value) or not all(map(ranges.is_finite, value)):
    return False
  return len(value) >= 2 and list(value) == sorted({*value})


ALLOWED = {
  "recipe": ranges.SAID,
  "bandit.arms": ranges.Range(
    "2 or more, a whole number", lambda x: ranges.COUNT.holds(x) and x >= 2
  ),
  **dict.fromkeys(("bandit.teacher", "bandit.student"), ranges.FINITE),
  **dict.fromkeys(("bandit.sft_steps", "bandit.reward_steps"), ranges.COUNT),
  **dict.fromkeys(("bandit.spread", "bandit.beta"), ranges.POSITIVE),
  **dict.fromkeys(("bandit.sft_learning_rate", "bandit.reward_learning_rate"), ranges.POSITIVE),
  **dict.fromkeys(("bandit.learning_rates", "bandit.betas"), _SOME),
  "bandit.students": ranges.Range("two or more, from the lowest to the highest", _are_students),
}


def run(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
  """Computes everything and writes the report; a second call does so again.

  Raises:
    ValueError: the configuration cannot be, or the workdir belongs to a run with another one.
  """
  checks.values(config, RECIPE)
  workdirs.is_new(config, workdir)
  workdirs.begin(config, workdir)

  began = time.monotonic()
  results = measure(config.bandit)
  seconds = {"bandit": round(time.monotonic() - began, 2)}
  made = {"made": provenance.facts(devices=1), "config": config.to_dict()}
  pages.publish(
    {"recipe": config.recipe, "seconds": seconds, **results, **made}, workdir, page.PAGE
  )


def measure(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Returns what each policy earns, over students, learning rates, and prices of a nat.

  Args:
    config: the section `bandit` of a configuration.
  """
  teacher, student = (
    policies.hill(config.arms, peak, config.spread) for peak in (config.teacher, config.student)
  )
  (sft,) = _imitations(config, teacher, [config.sft_learning_rate])
  (reward,) = _rewards(config, [student], [config.reward_learning_rate])
  rlaif = policies.best_response(student, reward, config.beta)
  answers = {"teacher": teacher, "student": student, "sft": sft, "rlaif": rlaif}

  curve = _curve(config, _mean(sft))
  above = [row["rlaif"] - row["sft"] for row in curve]
  return {
    "systems": {name: {"score": _mean(policy)} for name, policy in answers.items()},
    "comparisons": [],
    "bandit": {
      "distributions": {name: np.asarray(policy) for name, policy in answers.items()},
      "reward": np.asarray(reward),
      "reward_peak": int(reward.argmax()),
      "curve": curve,
      "crossing": crossing(config.students, above),
      "learning_rates": _by_rate(config, teacher, student),
      "betas": [
        {"beta": beta, "rlaif": _mean(policies.best_response(student, reward, beta))}
        for beta in config.betas
      ],
    },
  }


def _curve(config: ml_collections.ConfigDict, sft: float) -> list[dict[str, float]]:
  """Returns what RLAIF makes of each student, beside what SFT earns."""
  students = [policies.hill(config.arms, peak, config.spread) for peak in config.students]
  fits = _rewards(config, students, [config.reward_learning_rate] * len(students))
  rows = []
  for peak, student, reward in zip(config.students, students, fits, strict=True):
    before = _mean(student)
    after = _mean(policies.best_response(student, reward, config.beta))
    rows.append(
      {"peak": peak, "student": before, "rlaif": after, "gain": after - before, "sft": sft}
    )

  return rows


def _by_rate(
  config: ml_collections.ConfigDict, teacher: policies.Arms, student: policies.Arms
) -> list[dict[str, float]]:
  """Returns what both policies earn at other learning rates and as many steps."""
  rates = config.learning_rates
  imitations = _imitations(config, teacher, rates)
  fits = _rewards(config, [student] * len(rates), rates)
  return [
    {
      "learning_rate": rate,
      "sft": _mean(imitation),
      "rlaif": _mean(policies.best_response(student, reward, config.beta)),
    }
    for rate, imitation, reward in zip(rates, imitations, fits, strict=True)
  ]


def _imitations(
  config: ml_collections.ConfigDict, teacher: policies.Arms, rates: Sequence[float]
) -> jax.Array:
  """Returns the imitation of the teacher after a fit at each learning rate."""
  taught = jnp.stack([teacher] * len(rates))
  gradient = policies.imitation_gradient
  return jax.nn.softmax(policies.descend(gradient, taught, jnp.array(rates), config.sft_steps))


def _rewards(
  config: ml_collections.ConfigDict, students: Sequence[policies.Arms], rates: Sequence[float]
) -> jax.Array:
  """Returns the reward that is fitted to the pairs of each student, at a learning rate each."""
  sampled = jnp.stack(students)
  gradient = policies.reward_gradient
  return policies.descend(gradient, sampled, jnp.array(rates), config.reward_steps)


def crossing(places: Sequence[float], values: Sequence[float]) -> float | None:
  """Returns where a curve first rises through 0, between two of its points; None: nowhere."""
  points = list(zip(places, values, strict=True))
  for (left, low), (right, high) in itertools.pairwise(points):
    if low < 0 <= high:
      return left + (right - left) * -low / (high - low)
  return None


def _mean(policy: jax.Array) -> float:
  return float(policies.expected_reward(policy))


RECIPE = recipe.Recipe(
  name="bandit",
  kinds={},
  stages=lambda config: (),
  run=run,
  allowed=ALLOWED,
  page=page.PAGE,
)
