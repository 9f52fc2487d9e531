"""The arms of the study: what each learns of critiques, and who is compared."""

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from pit_jax import ranges
from pit_jax.data import critiques, prompt_formats
from pit_jax.evaluate import subject
from pit_jax.feedback import ceilings
from pit_jax.run import kinds
from pit_jax.stages import criticism, feedback, rewards, sft

DRAFTS = "sft"  # the policy that writes the drafts
FIRST = "stage_1"
SRT = "srt"
IMITATED = "srt_sft"
REDRAWN = "srt_redrawn"
AFTER = "srt_refined"
TWICE = "stage_1_plain_refined_twice"
GAP, IMPROVER = "gap_reward", "improver"  # stages of PIT, whose improver refines once and twice
PIT, PIT_TWICE = "pit_refined", "pit_refined_twice"
ALLOWED = {
  **criticism.ALLOWED,
  "srt.teacher": ranges.SAID,
  "srt.author": ranges.TEXT,
  "srt.temperature": ranges.POSITIVE,
  "srt.feedback_temperature": ranges.FROM_ZERO,
  **dict.fromkeys(("srt.direct", "srt.filtered", "srt.controls", "srt.improver"), ranges.SWITCH),
  "srt.most_failed": ranges.SHARE,
}


@dataclasses.dataclass(frozen=True)
class Arm:
  """A model of stage 1: which parts of critiques it learns to write before the better answer."""

  name: str  # "" is the method's own
  parts: tuple[str, ...]
  about: str
  is_shuffled: bool = False  # whether all parts but the answer are those of another draft

  @property
  def stage(self) -> str:
    """The name of its stage, and of its own answers to prompts."""
    return "_".join(filter(None, (FIRST, self.name)))

  @property
  def refined(self) -> str:
    """What the drafts are called after it has refined them."""
    return f"{self.stage}_refined"

  def form(self, whole: critiques.Form) -> critiques.Form:
    """Returns the form of what it writes: a better answer alone has no words before it."""
    if self.parts == ("answer",):
      return dataclasses.replace(whole, template="{answer}")
    return whole.of(*self.parts)


METHOD = Arm("", critiques.PARTS, "after its own weaknesses, score and changes")
PLAIN = Arm("plain", ("answer",), "without feedback")
CONTROLS = (
  Arm("score", ("score", "answer"), "after its own score alone"),
  Arm("weaknesses", ("weaknesses", "answer"), "after its own weaknesses alone"),
  Arm(
    "shuffled",
    critiques.PARTS,
    "by a model taught with the feedback on other drafts",
    is_shuffled=True,
  ),
)


def of(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the arms of stage 1, in the order in which they are trained."""
  return [METHOD, PLAIN, *(CONTROLS if config.srt.controls else ())]


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what author and teacher are asked; see `recipe.Recipe.asks`."""
  return [
    ceilings.Asked("writers", config.srt.author, ceilings.prompts(rows, config.sft.fold)),
    ceilings.Asked("writers", config.srt.teacher, ceilings.prompts(rows, config.tuning.fold)),
  ]


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages: the drafts' author, the arms of stage 1, then stage 2 and its controls."""
  planned = [kinds.Stage(DRAFTS, "sft", kept=("initial",))] if config.srt.author else []
  kept = ("initial", "language")
  # Each draft is a lesson in refining, and perhaps one in answering.
  taught = (("epochs", (1 + config.srt.direct) * config.tuning.epochs),)
  for arm in of(config):
    planned.append(
      kinds.Stage(arm.stage, "tuning", prompts=kinds.IMPROVER, kept=kept, values=taught)
    )
    kept = (*kept, "language")
  planned.append(kinds.Stage(SRT, "dpo", kept=kept))
  if config.srt.controls:
    kept = (*kept, "language")
    fold = config.dpo.fold
    own = {"part": "dpo", "values": imitated_values(config)}
    planned.append(kinds.Stage(IMITATED, "tuning", fold=fold, kept=kept, **own))
    planned.append(kinds.Stage(REDRAWN, "dpo", kept=(*kept, "language")))
  return planned


def imitated_values(config: ml_collections.ConfigDict) -> tuple[tuple[str, int | float], ...]:
  """Returns how imitation of own refinements takes the steps that DPO takes, and its batches.

  A packed batch would hold more refinements than a batch of pairs.
  """
  as_dpo = ((name, config.dpo[name]) for name in ("steps", "epochs", "batch_size"))
  return (*as_dpo, ("packing", False))


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which systems are compared, the headline's first."""
  refined = [arm.refined for arm in of(config)[1:]]
  own = METHOD.refined
  pairs = [(own, name) for name in (*refined, TWICE)] + [(own, DRAFTS), (PLAIN.refined, DRAFTS)]
  answered = [(SRT, FIRST), (SRT, DRAFTS), (FIRST, DRAFTS), (AFTER, own)]
  if config.srt.controls:
    answered += [(SRT, IMITATED), (SRT, REDRAWN), (IMITATED, FIRST)]
  if config.srt.improver:
    pairs += [(own, PIT), (own, PIT_TWICE), (PIT, PLAIN.refined), (PIT, DRAFTS)]
  return [*pairs, *answered]


def lessons(
  arm: Arm,
  taught: Mapping[str, Sequence[criticism.Criticised]],
  form: critiques.Form,
  policy: prompt_formats.Format,
  *,
  is_direct: bool,
  seed: int,
) -> dict[str, sft.Lessons]:
  """Returns what an arm learns from drafts with critiques, by part of the fold.

  Of each draft (x, y) → critique in the arm's form; and, of direct ones too, x → better answer.
  """
  own = arm.form(form)
  learnt = {}
  for part in feedback.PARTS:
    rows = list(taught[part])
    said = [row.critique for row in rows]
    if arm.is_shuffled:
      said = shuffled(said, seed)
    asked = form.format.conversations([row.prompt for row in rows], [row.draft for row in rows])
    learnt[part] = list(zip(asked, map(own.write, said), strict=True))
    if is_direct:
      asked = policy.conversations([row.prompt for row in rows])
      learnt[part] += zip(asked, (row.text for row in rows), strict=True)
  return learnt


def shuffled(said: Sequence[critiques.Critique], seed: int) -> list[critiques.Critique]:
  """Returns critiques with the feedback of another one, each with its own better answer.

  Each gives its feedback to one other: turned by one place in an order at random.
  """
  order = list(range(len(said)))
  random.Random(seed).shuffle(order)
  giver = dict(zip(order, [*order[1:], *order[:1]], strict=True))
  return [
    dataclasses.replace(said[giver[place]], answer=one.answer) for place, one in enumerate(said)
  ]


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with teacher, author and form, and who lacks to judge."""
  there = config.get("feedback", {}).get("writers", {})
  names = ", ".join(there) or "none"
  for key in ("teacher", "author"):
    if (name := config.srt[key]) and name not in there:
      yield f"srt.{key}={name!r}; use a name of feedback.writers, which has {names}"
  yield from criticism.problems(config)
  if config.srt.improver:
    yield from _unfit(config)
  if config.critique.max_tokens > config.data.max_response_length:
    yield (
      f"critique.max_tokens={config.critique.max_tokens} is more than data.max_response_length="
      f"{config.data.max_response_length}, and models learn to write critiques; use as much there"
    )
  parts = critiques.Form(config.critique.template).parts
  if lacking := [name for name in critiques.PARTS if name not in parts]:
    yield (
      f"critique.template={config.critique.template!r} has no {{{lacking[0]}}}, which recipe srt "
      "teaches; give it all of weaknesses, score, changes and answer"
    )
  yield from subject.unjudged(config)


def _unfit(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the sections of PIT's improver."""
  yield from rewards.problems("rl", config.rl, ("gap",))
  for name, other in (("gap_reward", "tuning"), ("rl", "dpo")):
    if config[name].fold != config[other].fold:
      yield (
        f"{name}.fold={config[name].fold!r}: it sees the prompts of {other}.fold="
        f"{config[other].fold!r}; use the same fold"
      )
