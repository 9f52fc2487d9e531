"""The arms of the study: whose critiques critics learn, which pairs RL sees, who is compared."""

import dataclasses
from collections.abc import Iterator

import ml_collections

from pit_jax import config_keys, ranges
from pit_jax.data import preferences
from pit_jax.feedback import ceilings
from pit_jax.run import allowed, kinds
from pit_jax.stages import rewards, unit_criticism

DRAFTS = "sft"  # the policy that writes the drafts
REWARD = "reward"  # R_P, which scores revisions
RANDOM_REWARD = "reward_random"
UNION, MERGED = "union", "merged"
ALL, MARV, RANDOM = "all", "marv", "random"
# Of filters those that nothing is trained on.
BLIND, SHUFFLED = "marv_random_reward", "marv_shuffled"
ALLOWED = {
  **unit_criticism.ALLOWED,
  "revision.request": ranges.SAID,
  "revision.plain": allowed.shows("reviser", "reference", "critique"),
  "revision.samples": ranges.COUNT,
  "revision.temperature": ranges.POSITIVE,
  "revision.margin": ranges.FROM_ZERO,
  **dict.fromkeys(
    ("multicritique.critics", "multicritique.revisers"),
    ranges.names_of("the names of one writer or more", least=1),
  ),
  "multicritique.meta": ranges.SAID,
  "multicritique.author": ranges.TEXT,
  "multicritique.temperature": ranges.POSITIVE,
  "multicritique.feedback_temperature": ranges.FROM_ZERO,
  **dict.fromkeys(("multicritique.reinforced", "multicritique.controls"), ranges.SWITCH),
  "multicritique.most_failed": ranges.SHARE,
}


@dataclasses.dataclass(frozen=True)
class Arm:
  """A critic that is trained: on whose critiques, or by RL on which pairs."""

  name: str
  about: str
  source: str  # UNION, MERGED, one of multicritique.critics; or of RL the filter of its pairs
  is_reinforced: bool = False

  @property
  def stage(self) -> str:
    """The name of its stage."""
    return f"critic_{self.name}"

  @property
  def reward(self) -> str:
    """The stage of the reward model of its critiques."""
    return f"{self.stage}_reward"

  @property
  def revised(self) -> str:
    """What the drafts are called that are revised after its critiques."""
    return f"revised_{self.name}"


METHOD = Arm(MERGED, "units of all critics that the meta-critic accepts, merged", MERGED)


def taught(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the critics that imitate critiques, in the order in which they are trained."""
  c = config.multicritique
  arms = [METHOD, Arm(UNION, "units of all critics, merged without a meta-critic", UNION)]
  if c.controls:
    arms += [Arm(name, f"critiques of {name} alone", name) for name in c.critics]
  return arms


def reinforced(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns the critics after RL, in the order in which they are trained."""
  c = config.multicritique
  if not c.reinforced:
    return []
  about = {
    MARV: "after RL on pairs that MARV keeps",
    ALL: "after RL on all pairs",
    RANDOM: "after RL on as many pairs at random",
  }
  return [Arm(f"rl_{name}", text, name, is_reinforced=True) for name, text in about.items()]


def of(config: ml_collections.ConfigDict) -> list[Arm]:
  """Returns all critics that are trained."""
  return [*taught(config), *reinforced(config)]


def filters(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the names of the sets of pairs that are told about."""
  return [ALL, MARV, RANDOM, *((BLIND, SHUFFLED) if config.multicritique.controls else ())]


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> Iterator[ceilings.Asked]:
  """Yields what writers are asked; see `recipe.Recipe.asks`.

  Of a meta-critic the critics' replies say how much.
  """
  c = config.multicritique
  yield ceilings.Asked("writers", c.author, ceilings.prompts(rows, config.sft.fold))
  folds = dict.fromkeys((config.tuning.fold, config.critic_reward.fold))
  drafts = sum(ceilings.prompts(rows, fold) for fold in folds)
  yield from (ceilings.Asked("writers", name, drafts) for name in c.critics)
  yield ceilings.Asked("writers", c.meta, None)

  # Critics are paired off, and each text of a pair is shown, and again to another draft.
  pairs = ceilings.prompts(rows, config.critic_reward.fold) * (len(c.critics) // 2)
  revisions = pairs * 2 * config.revision.samples * (2 if c.controls else 1)
  yield from (ceilings.Asked("writers", name, revisions) for name in c.revisers)
  held_out = rows[preferences.HELD_OUT] * len(of(config))
  yield ceilings.Asked("writers", c.revisers[0], held_out)


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages: drafts, the reward model of revisions, critics, and RL on critiques."""
  c = config.multicritique
  planned = [kinds.Stage(DRAFTS, "sft", kept=("initial",))] if c.author else []
  kept = ("initial", "language")
  if not config.reward.model:
    planned.append(kinds.Stage(REWARD, "reward", kept=kept))
  if c.controls:
    planned.append(kinds.Stage(RANDOM_REWARD, "reward", kept=(*kept, "reward")))
  kept = (*kept, "reward")
  for arm in taught(config):
    planned.append(kinds.Stage(arm.stage, "tuning", prompts=kinds.IMPROVER, kept=kept))
    kept = (*kept, "language")
  for arm in reinforced(config):
    shown = {"prompts": kinds.IMPROVER, "kept": kept}
    planned.append(kinds.Stage(arm.reward, "critic_reward", **shown))
    planned.append(kinds.Stage(arm.stage, "rl", reward="scalar", **shown))
    kept = (*kept, "language")
  return planned


def compared(config: ml_collections.ConfigDict) -> list[tuple[str, str]]:
  """Returns which systems are compared, the headline's first."""
  own = METHOD.revised
  arms = {arm.name: arm.revised for arm in of(config)}
  pairs = [(own, arm.revised) for arm in taught(config)[1:]] + [(own, DRAFTS)]
  if config.multicritique.reinforced:
    marv = arms[f"rl_{MARV}"]
    pairs += [(marv, arms[f"rl_{name}"]) for name in (ALL, RANDOM)]
    pairs += [(marv, own), (arms[f"rl_{ALL}"], own)]
  return pairs


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with who writes, how units are read, and who lacks to judge."""
  yield from rewards.problems("rl", config.rl, ("reward",))
  there = config.get("feedback", {}).get("writers", {})
  known = ", ".join(there) or "none"
  c = config.multicritique
  asked = {"critics": c.critics, "revisers": c.revisers, "meta": (c.meta,),
           "author": filter(None, (c.author,))}  # fmt: skip
  for key, names in asked.items():
    for name in names:
      if name not in there:
        yield (
          f"multicritique.{key} names {name!r}; use names of feedback.writers, which has {known}"
        )
  if len(c.critics) < 2:
    yield (
      f"multicritique.critics={tuple(c.critics)}: their critiques are compared; use two or more"
    )
  if taken := [name for name in c.critics if name in (UNION, MERGED) or name.startswith("rl_")]:
    yield (
      f"multicritique.critics names {taken[0]!r}, as critics of this recipe are called; use "
      "another name"
    )
  if config.critic_reward.get("model"):
    yield (
      f"critic_reward.model={config.critic_reward.model!r}: rewards of critiques are learnt from "
      'the pairs of this recipe; use ""'
    )
  yield from unit_criticism.problems(config)
  if "{severity}" not in config.units.template:
    yield (
      f"units.template={config.units.template!r} has no {{severity}}, by which this recipe prefers "
      "one critique to another; give it one"
    )
  if not config_keys.is_embedded(config.data.source) and not config.evaluation.reward_model:
    yield (
      f"R_P scores the revisions that decide which pairs are kept, and nobody else the answers to "
      f"{config.data.source}; name a judge as evaluation.reward_model=DIRECTORY"
    )
