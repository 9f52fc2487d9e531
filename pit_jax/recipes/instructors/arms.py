"""The arms of the study: which problems each instructor is shown, and what may be configured."""

import dataclasses
import math
import random
from collections.abc import Callable, Iterable, Iterator, Sequence

import ml_collections
import numpy as np

from pit_jax import configurations, ranges
from pit_jax.data import batches, conversations, preferences
from pit_jax.feedback import ceilings, exercises, factories, named
from pit_jax.run import kinds
from pit_jax.stages import feedback
from pit_jax.statistics import nearest
from pit_jax.tasks import verify

TARGET = "target"
LE, LEC = "le", "lec"
AUGMENTED, RIGHT, SHUFFLED = "augmented", "le_right", "le_shuffled"
METHODS = (LE, LEC)  # of the paper; the others are controls
ABOUT = {
  LE: "exercises like the problems it failed on",
  LEC: "exercises like these, made of the solved ones nearest to them",
  AUGMENTED: "exercises like problems drawn at random",
  RIGHT: "exercises like the problems that it solved",
  SHUFFLED: "exercises like the problems that another student failed on",
}
ALLOWED = {
  **dict.fromkeys(("instructors.verifier", "instructors.instructor"), ranges.SAID),
  **dict.fromkeys(("instructors.judge", "instructors.role"), ranges.SAID),
  **dict.fromkeys(("instructors.author", "instructors.other"), ranges.TEXT),
  **dict.fromkeys(("instructors.rounds", "instructors.exercises"), ranges.COUNT),
  "instructors.classify": ranges.TEXT,
  "instructors.taught": ranges.names_of("a list of kinds"),
  "instructors.neighbours": ranges.COUNT,
  "instructors.form": ranges.Range(
    f"one of {', '.join(verify.FORMS)}, or a text without letters",
    lambda value: isinstance(value, str) and value in ("", *verify.FORMS),
  ),
  **dict.fromkeys(("instructors.temperature", "instructors.writing_temperature"), ranges.FROM_ZERO),
  "instructors.most_failed": ranges.SHARE,
}


@dataclasses.dataclass(frozen=True)
class Answered:
  """Problems of the training split with a student's answers, and whether these are right."""

  completions: feedback.Completions
  questions: Sequence[conversations.Prompt]
  answers: Sequence[str]
  passed: Sequence[float]  # 1 right, 0 wrong, NaN where nothing is known

  def places(self, outcome: float | int) -> list[int]:
    """Returns the places of the answers that are right (1) or wrong (0)."""
    return [place for place, passed in enumerate(self.passed) if passed == outcome]

  @property
  def wrong(self) -> float:
    """The share of the answers that is wrong, of those that were verified."""
    wrong, right = len(self.places(0)), len(self.places(1))
    return wrong / max(wrong + right, 1)


def of(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the arms in the order in which they are trained."""
  return [arm for arm in ABOUT if arm != SHUFFLED or config.instructors.other]


def stage(arm: str, number: int) -> str:
  """Returns the name of the stage of an arm's round."""
  return f"{arm}_{number}"


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stage of imitation, if there is one, and one for each arm in each round."""
  imitation = kinds.Stage(TARGET, "sft", kept=("initial",))
  planned = [imitation] if config.instructors.author else []
  kept = ("initial", "language")
  for number in range(1, config.instructors.rounds + 1):
    for arm in of(config):
      how = {"made": config.instructors.exercises, "values": steps(config)}
      planned.append(kinds.Stage(stage(arm, number), "practice", kept=kept, **how))
      # From the second round on an arm's policy takes the place of its last one.
      kept = (*kept, "language") if number == 1 else kept
  return planned


def steps(config: ml_collections.ConfigDict) -> tuple[tuple[str, int], ...]:
  """Returns the values by which every round of every arm takes as many steps, whatever its rows."""
  job = config.practice
  count = batches.count_steps(config.instructors.exercises, job.batch_size, job.epochs)
  return (("steps", job.steps or count),)


def wanted(config: ml_collections.ConfigDict) -> tuple[int, int]:
  """Returns how many exercises of a round are trained on, and how many more validate."""
  count = config.instructors.exercises
  return count, max(1, math.ceil(count * config.data.validation))


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what writers are asked; see `recipe.Recipe.asks`."""
  c = config.instructors
  practised = ceilings.prompts(rows, config.practice.fold)
  shown = min(practised, sum(wanted(config))) * c.rounds * len(of(config))
  return [
    ceilings.Asked("writers", c.author, ceilings.prompts(rows, config.sft.fold)),
    ceilings.Asked("writers", c.other, practised),
    ceilings.Asked("writers", c.instructor, shown),
  ]


def requests(
  arm: str,
  answered: Answered,
  config: ml_collections.ConfigDict,
  most: int,
  rng: random.Random,
  embed: Callable[[Sequence[conversations.Prompt]], np.ndarray],
) -> list[exercises.Request]:
  """Returns what the instructor of an arm is asked for, problem by problem.

  n = ⌈exercises of a round / problems⌉ + 1 are asked of each, as published: some will be of no use.

  Args:
    arm: one of ABOUT.
    answered: problems of the split, answered by the student whom the arm looks at.
    config: of the run.
    most: problems that are shown, at most; they are drawn.
    rng: source of the draws.
    embed: questions → their points, among which the nearest are looked for.
  """
  right = answered.places(1)
  seen = {AUGMENTED: range(len(answered.questions)), RIGHT: right}.get(arm, answered.places(0))
  chosen = sorted(rng.sample(list(seen), min(most, len(seen))))
  if not chosen:
    return []
  count = math.ceil(sum(wanted(config)) / len(chosen)) + 1
  words = [conversations.said(question) for question in answered.questions]
  solved = [()] * len(chosen)
  if arm == LEC and right:  # who solved nothing has no neighbours to be shown
    points = [embed([answered.questions[place] for place in places]) for places in (chosen, right)]
    rows = nearest.nearest(*points, config.instructors.neighbours)
    solved = [tuple(words[right[place]] for place in row) for row in rows]

  return [
    exercises.Request(
      words[place],
      "" if arm == AUGMENTED else answered.answers[place],
      {AUGMENTED: None, RIGHT: True}.get(arm, False),
      near,
      count,
    )
    for place, near in zip(chosen, solved, strict=True)
  ]


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which systems are compared: both methods with all others, every arm with the target."""
  made = of(config)
  own = [(LE, other) for other in (AUGMENTED, TARGET, *made)]
  own += [(LEC, other) for other in (AUGMENTED, TARGET, *made)]
  own += [(arm, TARGET) for arm in made]
  return [(a, b) for a, b in dict.fromkeys(own) if a != b]


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with who teaches, verifies and judges."""
  c = config.instructors
  parts = config.get("feedback", {})
  raters, people = parts.get("raters", {}), parts.get("writers", {})
  for key in ("author", "instructor", "other"):
    if c[key] and c[key] not in people:
      yield _unknown(key, c[key], "feedback.writers", people)
  if c.verifier not in raters:
    yield _unknown("verifier", c.verifier, "feedback.raters", raters)
  elif raters[c.verifier].kind not in (*factories.VERIFIERS, factories.VERIFIED):
    yield (
      f"instructors.verifier={c.verifier!r} is of kind {raters[c.verifier].kind}, which does not "
      f"say whether an answer is right; use one of {', '.join(factories.VERIFIERS)}, "
      f"{factories.VERIFIED}"
    )

  if c.judge not in config.evaluation.judges:
    yield _unknown("judge", c.judge, "evaluation.judges", config.evaluation.judges)
  elif c.judge in raters and not named.scores(raters, c.judge):
    yield (
      f"instructors.judge={c.judge!r} only compares; name a judge that scores single answers, such "
      "as a function of (questions, answers), a check, or a verifier with scores=True"
    )
  elif c.judge in chooses(config):
    yield (f"instructors.judge={c.judge!r} chooses what is trained on; name a judge that does not")
  if c.taught and not c.classify:
    yield (
      f"instructors.classify={c.classify!r} tells no kinds apart, and instructors.taught="
      f"{tuple(c.taught)} names some; use a function, or taught=()"
    )
  if c.classify:
    try:
      configurations.function(c.classify)
    except ValueError as error:
      yield f"instructors.classify={c.classify!r}: {error}; use package.module:function"
  yield from _folds(config)


def chooses(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the raters that choose what is trained on: who verifies, by whatever name."""
  raters = config.get("feedback", {}).get("raters", {})
  verifier = config.instructors.verifier
  asked = [verifier, *raters.get(verifier, {}).get("verifiers", ())]
  sections = [raters[name] for name in asked if name in raters]
  return list(dict.fromkeys([*asked, *(name for name, one in raters.items() if one in sections)]))


def _folds(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields why imitation and practice would see the same prompts."""
  imitated, practised = (preferences.folds_in(config[name].fold) for name in ("sft", "practice"))
  if config.instructors.author and {*imitated} & {*practised}:
    yield (
      f"practice.fold={config.practice.fold!r} with sft.fold={config.sft.fold!r}: errors on what "
      "was imitated say little of what is not known; use folds apart"
    )


def _unknown(key: str, name: str, where: str, there: Iterable[str]) -> str:
  return (
    f"instructors.{key}={name!r}; use a name of {where}, which has {', '.join(there) or 'none'}"
  )
