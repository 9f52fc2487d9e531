"""The arms of the study: by whose labels each learns, and what a configuration has to name."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from pit_jax import config_keys, ranges
from pit_jax.feedback import ceilings, factories, labels, named, router
from pit_jax.run import kinds
from pit_jax.stages import rewards

SFT = "sft"
BASIC = "basic"
HYBRID = "hybrid"
ALLOWED = {
  **dict.fromkeys(("hrlaif.author", "hrlaif.basic", "hrlaif.hybrid"), ranges.SAID),
  **dict.fromkeys(("hrlaif.harm", "hrlaif.rewriter", "hrlaif.rewrite_turn"), ranges.SAID),
  **dict.fromkeys(("hrlaif.preference", "hrlaif.satisfaction"), ranges.SAID),
  "hrlaif.controls": ranges.names_of("a list of names"),
  "hrlaif.harmless": ranges.FINITE,
  "hrlaif.temperature": ranges.POSITIVE,
  "hrlaif.orders": ranges.Range("1 or 2", lambda x: ranges.WHOLE.holds(x) and x in (1, 2)),
  "hrlaif.keep": ranges.one_of(*labels.KEEP),
  "hrlaif.most_failed": ranges.SHARE,
}


@dataclasses.dataclass(frozen=True)
class Arm:
  """A policy that RL trained for the reward model of one rater's labels."""

  system: str  # as its stage and the report call it
  rater: str  # of `feedback.raters`
  rewritten: tuple[str, ...]  # classes whose pairs a rewriter makes

  @property
  def reward(self) -> str:
    """The stage of its reward model."""
    return f"{self.system}_reward"

  @property
  def about(self) -> str:
    """What it is, in words."""
    more = f", and rewritings of the class {' and '.join(self.rewritten)}" if self.rewritten else ""
    return f"after RL for the labels of {self.rater}{more}"


def of(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the arms in the order in which they are trained."""
  c = config.hrlaif
  raters = {BASIC: c.basic, HYBRID: c.hybrid, **{f"{HYBRID}_{name}": name for name in c.controls}}
  there = config.get("feedback", {}).get("raters", {})
  leave = {name: tuple(there[name].get("leave", ())) if name in there else ()
           for name in raters.values()}  # fmt: skip
  return [Arm(system, name, leave[name]) for system, name in raters.items()]


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stage of imitation, and two of each arm; all policies stay to be compared."""
  planned = [kinds.Stage(SFT, "sft", kept=("initial",))]
  kept = ("initial", "language")
  for arm in of(config):
    planned.append(kinds.Stage(arm.reward, "reward", kept=kept))
    planned.append(kinds.Stage(arm.system, "rl", kept=kept))
    kept = (*kept, "language")
  return planned


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what writers and raters are asked; see `recipe.Recipe.asks`."""
  c = config.hrlaif
  pairs = ceilings.prompts(rows, config.reward.fold)
  asked = [ceilings.Asked("writers", c.author, ceilings.prompts(rows, config.sft.fold))]
  asked += [ceilings.Asked("raters", arm.rater, pairs, c.orders) for arm in of(config)]
  if any(arm.rewritten for arm in of(config)):
    mended = 2 * pairs  # both samples
    asked.append(ceilings.Asked("writers", c.rewriter, mended))
    asked.append(ceilings.Asked("raters", c.harm, mended, 2))
  return asked


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which systems are compared: the hybrid with all others, every arm with both ends."""
  systems = [arm.system for arm in of(config)]
  own = [(HYBRID, other) for other in (BASIC, SFT, *systems[2:])]
  own += [(system, SFT) for system in systems]
  own += [(system, BASIC) for system in systems[2:]]
  return list(dict.fromkeys(own))


def trainers(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the judges that say what some arm was trained on: who labelled, by whatever name."""
  raters = config.get("feedback", {}).get("raters", {})
  asked = [name for arm in of(config) for name in (arm.rater, *named.members(raters, arm.rater))]
  asked += [config.hrlaif.harm] if any(arm.rewritten for arm in of(config)) else []
  asked += [one for name in asked if name in raters for one in raters[name].get("verifiers", ())]
  labelling = [raters[name] for name in dict.fromkeys(asked) if name in raters]
  alike = [name for name, one in raters.items() if one in labelling]
  gold = [factories.GOLD] if any(one.kind == factories.GOLD for one in labelling) else []
  return list(dict.fromkeys([*asked, *alike, *gold]))


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with those who write, label and judge, and with rewards."""
  yield from rewards.problems("rl", config.rl, ("reward",))
  if config.reward.model:
    yield (
      f"reward.model={config.reward.model!r}: this recipe learns its rewards from labels of its "
      'own; use ""'
    )
  c = config.hrlaif
  parts = config.get("feedback", {})
  raters = parts.get("raters", {})
  rewrites = any(arm.rewritten for arm in of(config))
  asked = {"author": ("writers", (c.author,)), "basic": ("raters", (c.basic,)),
           "hybrid": ("raters", (c.hybrid,)), "controls": ("raters", c.controls)}  # fmt: skip
  if rewrites:
    asked |= {"rewriter": ("writers", (c.rewriter,)), "harm": ("raters", (c.harm,))}

  for key, (part, names) in asked.items():
    yield from _unknown(key, names, f"feedback.{part}", parts.get(part, {}))
  for key in ("hybrid", "controls"):
    for name in asked[key][1]:
      if name in raters and raters[name].kind != router.KIND:
        yield (
          f"hrlaif.{key} names {name!r}, which is of kind {raters[name].kind}; use a rater of kind "
          f"{router.KIND}, which asks another one for each class of prompts"
        )

  own = (c.preference, c.satisfaction)
  for key, name in zip(("preference", "satisfaction"), own, strict=True):
    yield from _unknown(key, (name,), "evaluation.judges", config.evaluation.judges)
    if name in trainers(config):
      yield (
        f"hrlaif.{key}={name!r} labels what is trained on; name a judge that does not, such as the "
        "same rater with another seed"
      )
  if c.satisfaction in raters and not named.scores(raters, c.satisfaction):
    yield (
      f"hrlaif.satisfaction={c.satisfaction!r} only compares; name a judge that scores single "
      "answers, such as a function of (questions, answers), a check, or a verifier with scores=True"
    )
  systems = [arm.rater for arm in of(config)]
  if twice := [name for name in dict.fromkeys(systems) if systems.count(name) > 1]:
    yield f"{twice[0]!r} labels for two arms of hrlaif; name each rater once"
  yield from _unjudged(config)


def _unknown(key: str, names: Sequence[str], where: str, there: Any) -> Iterator[str]:
  for name in names:
    if name not in there:
      known = ", ".join(there) or "none"
      yield f"hrlaif.{key} names {name!r}; use names of {where}, which has {known}"


def _unjudged(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields why nobody can score the answers of a run, if nobody can."""
  raters = config.get("feedback", {}).get("raters", {})
  partial = trainers(config)
  others = [name for name in config.evaluation.judges if name in raters and name not in partial]
  scoring = [name for name in others if named.scores(raters, name)]
  is_gold = config_keys.is_embedded(config.data.source) and factories.GOLD not in partial
  if not (is_gold or scoring or config.evaluation.reward_model):
    yield (
      "nobody who labelled nothing scores single answers; name a function or a check of "
      "feedback.raters in evaluation.judges, or a model as evaluation.reward_model"
    )
