"""The arms of the study: what each learns from, who is compared, and what has to be named."""

from collections.abc import Iterator

import ml_collections

from pit_jax import ranges
from pit_jax.data import preferences
from pit_jax.evaluate import subject
from pit_jax.feedback import ceilings, sentence_scores
from pit_jax.recipes.ares import rewards
from pit_jax.run import kinds
from pit_jax.stages import rewards as named_rewards

SFT = "sft"
CORRECTED = "corrected"
SENTENCES = "rl_sentences"
SUM = "rl_sum"
PERMUTED = "rl_permuted"
ARES = "ares"
TWICE = "ares_twice"
HALVES = (1, 2)  # the rounds of TWICE
ARRANGED = {SENTENCES: rewards.as_given, SUM: rewards.summed, PERMUTED: rewards.permuted}
ABOUT = {
  SFT: "fine-tuned on the author's answers",
  CORRECTED: "fine-tuned further on corrections of its answers, for as many asks as ares",
  SENTENCES: "RL for the scores of sentences",
  SUM: "RL for their sum at the last token",
  PERMUTED: "RL for the scores, each at another sentence of the answer",
  ARES: "rl_sentences, then fine-tuned on corrections of its answers",
  TWICE: "the same in two rounds of half as many iterations and corrections",
}
ALLOWED = {
  **dict.fromkeys(("ares.author", "ares.teacher", "ares.corrector"), ranges.SAID),
  **dict.fromkeys(("ares.score_request", "ares.correct_request"), ranges.SAID),
  "ares.neutral": ranges.SHARE,
  "ares.most_failed": ranges.SHARE,
}


def reinforced(half: int) -> str:
  """Returns the stage of RL of a round of TWICE."""
  return f"{TWICE}_rl_{half}"


def corrected(half: int) -> str:
  """Returns the stage of corrections of a round of TWICE; the last one is the system."""
  return TWICE if half == HALVES[-1] else f"{TWICE}_{half}"


def iterations(config: ml_collections.ConfigDict, half: int) -> int:
  """Returns how many iterations of RL a round of TWICE has, which together are those of ARES."""
  first = (config.rl.steps + 1) // 2
  return first if half == HALVES[0] else config.rl.steps - first


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for every fine-tuning and every RL; policies stay to be compared."""
  planned = [
    kinds.Stage(SFT, "sft", kept=("initial",)),
    kinds.Stage(CORRECTED, "correct", kept=("initial", "language")),
  ]
  kept = ("initial", "language", "language")
  for name in ARRANGED:
    planned.append(kinds.Stage(name, "rl", reward=kinds.NONE, kept=kept))
    kept = (*kept, "language")
  planned.append(kinds.Stage(ARES, "correct", kept=kept))
  kept = (*kept, "language")
  for half in HALVES:
    steps = iterations(config, half)
    planned += [
      kinds.Stage(reinforced(half), "rl", steps=steps, reward=kinds.NONE, kept=kept),
      kinds.Stage(corrected(half), "correct", kept=kept),
    ]
  return planned


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what writers are asked; see `recipe.Recipe.asks`.

  An answer of RL is a request, at whose end a batch is shown, and so is one of each system that is
  evaluated.
  """
  c = config.ares
  sampled = config.rl.steps * config.rl.batch_size
  shown = config.rl.batch_size * (len(ARRANGED) + len(HALVES))
  evaluated = rows[preferences.HELD_OUT] * len(ABOUT)
  scored = sampled * (len(ARRANGED) + 1) + shown + evaluated
  # CORRECTED has as many more as RL has answers; the rounds of TWICE share what validates.
  once = ceilings.prompts(rows, config.correct.fold)
  validating = once - sum(rows[fold] for fold in preferences.folds_in(config.correct.fold))
  corrected = once * 3 + validating + sampled
  return [
    ceilings.Asked("writers", c.author, ceilings.prompts(rows, config.sft.fold)),
    ceilings.Asked("writers", c.teacher, scored),
    ceilings.Asked("writers", c.corrector, corrected),
  ]


def compared() -> list[tuple[str, str]]:
  """Returns which systems are compared."""
  own = [(ARES, CORRECTED), (SENTENCES, SUM), (SENTENCES, PERMUTED), (TWICE, CORRECTED),
         (TWICE, ARES), (ARES, SENTENCES), (SUM, PERMUTED)]  # fmt: skip
  return own + [(name, SFT) for name in ABOUT if name != SFT]


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with those who write, with what they are shown, and with rewards."""
  c = config.ares
  there = config.get("feedback", {}).get("writers", {})
  for key in ("author", "teacher", "corrector"):
    if c[key] not in there:
      names = ", ".join(there) or "none"
      yield f"ares.{key}={c[key]!r}; use a name of feedback.writers, which has {names}"
  for key in ("score_request", "correct_request"):
    if wrong := sentence_scores.unfit(c[key]):
      yield f"ares.{key}={c[key]!r}; {wrong}"

  yield from named_rewards.problems("rl", config.rl, (rewards.NAME,))
  if config.correct.fold != config.rl.fold:
    yield (
      f"correct.fold={config.correct.fold!r}: corrections are of answers to the prompts of rl.fold="
      f"{config.rl.fold!r}; use the same fold"
    )
  if config.rl.estimator != "gae":
    yield (
      f"rl.estimator={config.rl.estimator!r}: answers that the teacher does not score are dropped, "
      "and would count as 0 among the samples of their prompt; use 'gae'"
    )
  halves = [iterations(config, half) for half in HALVES]
  if min(halves) <= config.rl.value_warmup:
    yield (
      f"rl.steps={config.rl.steps} with rl.value_warmup={config.rl.value_warmup}: each of the two "
      f"rounds of {TWICE} has half of the steps, and needs more than the warm-up"
    )
  yield from subject.unjudged(config)
