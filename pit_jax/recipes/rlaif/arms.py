"""The arms of the study: who is trained on whom, in which stage, and who is compared."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import ml_collections

from pit_jax import config_keys, ranges
from pit_jax.data import preferences
from pit_jax.feedback import ceilings, factories, labels, named
from pit_jax.run import kinds

MATCHED = "rlaif_matched"
NAMES = ranges.names_of("a list of names")
ALLOWED = {
  **dict.fromkeys(("rlaif.teacher", "rlaif.strong_teacher"), ranges.SAID),
  **dict.fromkeys(("rlaif.controls", "rlaif.crossover", "rlaif.rivals"), NAMES),
  "rlaif.critics": ranges.names_of("the names of one critic or more", least=1),
  "rlaif.temperature": ranges.POSITIVE,
  "rlaif.top_p": ranges.Range(
    "more than 0 and at most 1", lambda x: ranges.POSITIVE.holds(x) and x <= 1
  ),
  "rlaif.orders": ranges.Range("1 or 2", lambda x: ranges.WHOLE.holds(x) and x in (1, 2)),
  "rlaif.keep": ranges.one_of(*labels.KEEP),
  "rlaif.matched": ranges.SWITCH,
  "rlaif.most_failed": ranges.SHARE,
}


@dataclasses.dataclass(frozen=True)
class Arm:
  """One policy of the study: fine-tuned on a teacher, or by DPO on a critic's labels."""

  system: str  # as its stage and the report call it
  teacher: str  # of `feedback.writers`
  parent: str = ""  # the arm that DPO starts from, whose samples are labelled; "": fine-tuning
  critic: str = ""  # of `feedback.raters`
  is_few: bool = False  # fine-tuned on the first fold alone, in the paper a tenth

  @property
  def about(self) -> str:
    """What it is, in words."""
    if self.critic:
      return (
        f"{self.parent} after DPO on labels of {self.critic}, against answers of {self.teacher}"
      )
    return f"fine-tuned on {'a part' if self.is_few else 'all'} of the answers of {self.teacher}"


def of(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the arms in the order in which they are trained."""
  c = config.rlaif
  first, *others = c.critics
  made = [
    Arm("sft_10", c.teacher, is_few=True),
    Arm("rlaif", c.teacher, "sft_10", first),
    *(Arm(f"rlaif_{critic}_critic", c.teacher, "sft_10", critic) for critic in others),
    Arm("sft_100", c.teacher),
    Arm("sft_100_strong", c.strong_teacher),
  ]

  if c.matched:
    made.append(Arm("sft_10_strong", c.strong_teacher, is_few=True))
    made.append(Arm(MATCHED, c.strong_teacher, "sft_10_strong", first))
  made += [Arm(f"sft_100_{teacher}", teacher) for teacher in c.controls]
  for teacher in c.crossover:
    made += [
      Arm(f"sft_10_{teacher}", teacher, is_few=True),
      Arm(f"rlaif_{teacher}", teacher, f"sft_10_{teacher}", first),
    ]
  return made


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for every arm; all policies stay to be compared."""
  everything = preferences.JOINED.join((config.sft.fold, config.dpo.fold))
  planned = []
  for arm in of(config):
    kept = ("initial", *["language"] * len(planned))
    section, fold = ("dpo", "") if arm.critic else ("sft", "" if arm.is_few else everything)
    planned.append(kinds.Stage(arm.system, section, fold=fold, kept=kept))

  return planned


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what teachers and critics are asked; see `recipe.Recipe.asks`."""
  c = config.rlaif
  few, rest = (ceilings.prompts(rows, config[section].fold) for section in ("sft", "dpo"))
  pairs = rest * (1 + len(c.rivals))
  critics = [arm.critic for arm in of(config) if arm.critic]
  return [
    *(ceilings.Asked("writers", name, few + rest) for name in writers(config)),
    *(ceilings.Asked("raters", name, pairs, c.orders) for name in critics),
  ]


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which arms are compared: with both ends of the study, with their start, with rlaif."""
  made = of(config)
  own = [(arm.system, arm.parent) for arm in made if arm.parent]
  own += [(arm.system, "rlaif") for arm in made if arm.critic and arm.parent == "sft_10"]
  own += [(arm.system, "rlaif") for arm in made if not arm.parent and not arm.is_few]
  ends = [(arm.system, "sft_10") for arm in made] + [("sft_100_strong", arm.system) for arm in made]
  # The headline's comes first, each once, and nothing with itself.
  pairs = dict.fromkeys([*own, *ends])
  return [(a, b) for a, b in pairs if a != b]


def labellers(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the raters whose labels some arm is trained on, of an in_turn all."""
  critics = dict.fromkeys(arm.critic for arm in of(config) if arm.critic)
  raters = config.get("feedback", {}).get("raters", {})
  asked = [name for critic in critics for name in (critic, *named.members(raters, critic))]
  return list(dict.fromkeys(asked))


def trainers(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the judges that say what some arm was trained on: who labelled, by whatever name.

  That is `labellers`, raters that are the same under other names, and the embedded task's own judge
  where one of them gives its score.
  """
  raters = config.get("feedback", {}).get("raters", {})
  labelling = [raters[name] for name in labellers(config) if name in raters]
  alike = [name for name, one in raters.items() if one in labelling]
  gold = [factories.GOLD] if any(one.kind == factories.GOLD for one in labelling) else []
  return list(dict.fromkeys([*labellers(config), *alike, *gold]))


def writers(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the writers whose answers some arm is trained on or labelled against."""
  teachers = [arm.teacher for arm in of(config)]
  return list(dict.fromkeys([*teachers, *config.rlaif.rivals]))


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with teachers, critics and judges of the study."""
  c = config.rlaif
  parts = config.get("feedback", {})
  asked = {
    "writers": {"teacher": (c.teacher,), "strong_teacher": (c.strong_teacher,),
                "controls": c.controls, "crossover": c.crossover, "rivals": c.rivals},
    "raters": {"critics": c.critics},
  }  # fmt: skip

  for part, keys in asked.items():
    there = parts.get(part, {})
    for key, names in keys.items():
      for name in names:
        if name not in there:
          names = ", ".join(there) or "none"
          yield f"rlaif.{key} names {name!r}; use names of feedback.{part}, which has {names}"

  yield from _repeated(config)
  yield from _unjudged(config, parts.get("raters", {}))


def _repeated(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields who is named where an arm, or the other side of its pairs, has them already."""
  c = config.rlaif
  trained = {c.teacher: "sft_100", c.strong_teacher: "sft_100_strong"}
  labelled = {arm.teacher: arm.system for arm in reversed(of(config)) if arm.critic}
  first = {c.teacher: "rlaif"} | ({c.strong_teacher: MATCHED} if c.matched else {})
  taken = {
    "strong_teacher": ((c.strong_teacher,), {c.teacher: "rlaif.teacher is the same"}),
    "controls": (c.controls, {name: f"{arm} is trained on it" for name, arm in trained.items()}),
    "crossover": (c.crossover, {name: f"{arm} is trained on it" for name, arm in first.items()}),
    "rivals": (c.rivals, {name: f"it is the teacher of {arm}, whose answers those of the rivals "
                                "are labelled against" for name, arm in labelled.items()}),
  }  # fmt: skip
  for key, (names, why) in taken.items():
    for name in names:
      if name in why:
        yield (
          f"rlaif.{key}={c[key]!r} names {name!r}, and {why[name]}; use other names of "
          "feedback.writers"
        )

  systems = [arm.system for arm in of(config)]
  if twice := [name for name in dict.fromkeys(systems) if systems.count(name) > 1]:
    yield (
      f"two arms would be called {twice[0]}, as rlaif.critics={c.critics}, rlaif.controls="
      f"{c.controls} and rlaif.crossover={c.crossover} name them; use another name in feedback"
    )


def _unjudged(config: ml_collections.ConfigDict, raters: Any) -> Iterator[str]:
  """Yields why nobody but those who labelled would judge, if so."""
  partial = trainers(config)
  gold = config_keys.is_embedded(config.data.source) and factories.GOLD not in partial
  others = [name for name in config.evaluation.judges if name in raters]
  independent = [name for name in others if name not in partial]
  evaluation = config.evaluation
  if not (gold or independent or evaluation.reward_model or evaluation.language_judge.model):
    names = ", ".join(labellers(config))
    yield (
      f"rlaif.critics={names} label what is trained on, and nobody else judges; name another of "
      "feedback.raters in evaluation.judges, or a model as evaluation.reward_model or "
      "evaluation.language_judge.model"
    )
