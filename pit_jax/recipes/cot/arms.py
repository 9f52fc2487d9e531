"""The arms of the study: what each learns from, who is compared, and what has to be named."""

import dataclasses
import re
import string
from collections.abc import Iterator
from typing import Any

import ml_collections

from pit_jax import ranges
from pit_jax.data import conversations, critiques
from pit_jax.evaluate import subject
from pit_jax.feedback import ceilings, factories, named
from pit_jax.losses import preference
from pit_jax.run import kinds

BASE = "base"
SHORT = "sft_short"
STEPS = "sft_steps"
BOTH = "sft_both"
REJECTION = "rejection"
DPO = "dpo"
RANDOM = "dpo_random"
DIRECT = "_direct"  # after the name of a system that is asked for short answers
REWARD = "rerank_reward"  # the stage of R_P
IMITATED = {SHORT: ("short",), STEPS: ("steps",), BOTH: ("short", "steps")}  # what SFT sees
VERIFIES = (*factories.VERIFIERS, factories.VERIFIED)  # kinds of raters
WEIGHTED = tuple(name for name in preference.SCHEDULES if name != preference.EVERY)
ALLOWED = {
  **dict.fromkeys(("cot.answers", "cot.teacher", "cot.verifier"), ranges.SAID),
  **dict.fromkeys(("cot.request", "cot.short_end", "cot.steps_end"), ranges.SAID),
  "cot.samples": ranges.Range(
    "2 or more, a whole number", lambda x: ranges.COUNT.holds(x) and x > 1
  ),
  "cot.candidates": ranges.Range(
    "2 or more, a whole number", lambda x: ranges.COUNT.holds(x) and x > 1
  ),
  **dict.fromkeys(("cot.pairs", "cot.cut_least"), ranges.COUNT),
  "cot.temperature": ranges.POSITIVE,
  "cot.cut": ranges.Range(
    "a whole number of words, 1 or more, or a share of them, more than 0 and less than 1",
    lambda x: ranges.COUNT.holds(x) or ranges.PART.holds(x),
  ),
  "cot.weights": ranges.Range(
    f"a list of some of {', '.join(WEIGHTED)}, each once", lambda x: ranges.is_some(x, WEIGHTED)
  ),
  "cot.unseen": ranges.TEXT,
  "cot.anchor": ranges.FROM_ZERO,
  "cot.most_failed": ranges.SHARE,
}


@dataclasses.dataclass(frozen=True)
class Arm:
  """A policy that DPO trained on right over wrong rationales."""

  system: str
  about: str
  is_cut: bool = False  # whether it sees the first words alone
  is_random: bool = False  # whether a coin says which rationale is right
  token_weights: str = preference.EVERY
  sft_coefficient: float | int | None = None  # None: that of the section

  @property
  def values(self) -> tuple[tuple[str, Any], ...]:
    """The keys of the section that have another value in this arm, with it."""
    own = {"token_weights": self.token_weights, "sft_coefficient": self.sft_coefficient}
    return tuple((key, value) for key, value in own.items() if value is not None)


def of(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the arms of DPO in the order in which they are trained."""
  c = config.cot
  size = f"{c.cut:.0%}" if c.cut < 1 else f"{int(c.cut)}"
  return [
    Arm(DPO, "DPO of right over wrong rationales"),
    Arm(f"{DPO}_cut", f"the same on the first {size} of their words", is_cut=True),
    *(Arm(f"{DPO}_{name}", f"the same with token weights by {name}", token_weights=name)
      for name in c.weights),
    *([Arm(f"{DPO}_anchored", "the same with an SFT term", sft_coefficient=c.anchor)]
      if c.anchor else []),
    Arm(RANDOM, "the same where a coin says which of the two is right", is_random=True),
  ]  # fmt: skip


def about(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns what every arm is, by name."""
  return {
    BASE: "as it was before any stage",
    SHORT: "fine-tuned on short answers",
    STEPS: "fine-tuned on the teacher's rationales",
    BOTH: "fine-tuned on both",
    REJECTION: "fine-tuned further on its own right rationales, those of the pairs",
    **{arm.system: arm.about for arm in of(config)},
  }


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for every policy and the reward model; policies stay to be compared."""
  planned = []
  kept = ("initial",)
  for name in IMITATED:
    planned.append(kinds.Stage(name, "sft", kept=kept))
    kept = (*kept, "language")
  for arm in of(config):
    planned.append(kinds.Stage(arm.system, "dpo", kept=kept, values=arm.values))
    kept = (*kept, "language")
  rejection = kinds.Stage(REJECTION, "sft", fold=config.dpo.fold, kept=kept)
  return [*planned, rejection, kinds.Stage(REWARD, "reward", kept=(*kept, "language"))]


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what writers are asked; see `recipe.Recipe.asks`."""
  count = ceilings.prompts(rows, config.sft.fold)
  return [ceilings.Asked("writers", name, count) for name in (config.cot.answers,
                                                              config.cot.teacher)]  # fmt: skip


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which systems are compared: arms asked for rationales, then for short answers."""
  optimised = [arm.system for arm in of(config)]
  steps = [(DPO, BOTH), (DPO, REJECTION), (SHORT, BASE), (BOTH, SHORT), (BOTH, STEPS)]
  steps += [(name, BOTH) for name in (*optimised[1:], REJECTION)]
  steps += [(name, DPO) for name in optimised[1:]]
  direct = [(SHORT, BASE), (BOTH, SHORT), (DPO, BOTH), (REJECTION, BOTH)]
  crossed = [(BOTH, f"{BOTH}{DIRECT}"), (DPO, f"{DPO}{DIRECT}")]
  return [*steps, *((f"{a}{DIRECT}", f"{b}{DIRECT}") for a, b in direct), *crossed]


def ended(prompt: conversations.Prompt, end: str) -> conversations.Prompt:
  """Returns a prompt that ends in further words, of a conversation in its last turn."""
  if isinstance(prompt, str):
    return f"{prompt.strip()} {end}"
  *earlier, (role, content) = prompt
  return (*earlier, conversations.Turn(role, f"{content} {end}"))


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with those who write and verify, and with what they are shown."""
  c = config.cot
  parts = config.get("feedback", {})
  for key, part in {"answers": "writers", "teacher": "writers", "verifier": "raters"}.items():
    there = parts.get(part, {})
    if c[key] not in there:
      names = ", ".join(there) or "none"
      yield f"cot.{key}={c[key]!r}; use a name of feedback.{part}, which has {names}"
  raters = parts.get("raters", {})
  if c.verifier in raters and raters[c.verifier].get("kind") not in VERIFIES:
    yield (
      f"cot.verifier={c.verifier!r} is of kind {raters[c.verifier].get('kind')}; use a rater of "
      f"kind {', '.join(VERIFIES)}, which says of one answer whether it is right"
    )

  yield from _unfit(c)
  if config.reward.model:
    yield (
      f"reward.model={config.reward.model!r}: R_P learns here from the pairs of DPO, with which it "
      'is compared; use ""'
    )
  if config.reward.fold != config.dpo.fold:
    yield (
      f"reward.fold={config.reward.fold!r}: R_P learns from the pairs of dpo.fold="
      f"{config.dpo.fold!r}; use the same fold"
    )
  if config.dpo.token_weights != preference.EVERY:
    yield (
      f"dpo.token_weights={config.dpo.token_weights!r}: cot.weights names the arms that have "
      f"weights; use {preference.EVERY!r}"
    )
  # What scores single answers, as one that says which are right, is a judge.
  if not any(named.scores(raters, name) for name in config.evaluation.judges if name in raters):
    yield from subject.unjudged(config)


def _unfit(c: Any) -> Iterator[str]:
  """Yields what is wrong with the texts of the section."""
  try:
    # A slot with a format is none of these.
    slots = [f"{name}{spec or ''}{how or ''}" for _, name, spec, how in
             string.Formatter().parse(c.request) if name is not None]  # fmt: skip
  except ValueError as error:
    slots = [str(error)]
  if "prompt" not in slots or {*slots} - {"prompt", "answer"}:
    yield f"cot.request={c.request!r}; use a text with {{prompt}}, and with {{answer}} or without"
  if critiques.plain(c.short_end) == critiques.plain(c.steps_end):
    yield f"cot.short_end and cot.steps_end are both {c.steps_end!r}; nothing else tells them apart"
  if c.pairs > c.samples // 2:
    yield (
      f"cot.pairs={c.pairs} with cot.samples={c.samples}: no rationale is in two pairs; use "
      f"{c.samples // 2} or fewer pairs, or more samples"
    )
  try:
    re.compile(c.unseen)
  except re.error as error:
    yield f"cot.unseen={c.unseen!r} is no regular expression: {error}"
