"""Direct preference optimisation (Rafailov et al. 2023): SFT, then DPO or a kin of it on pairs.

The reference of the second stage is the model of the first. `arms` names several such stages, each
from the same fine-tuned policy and on the same pairs, and RLHF beside them: reward model and PPO.

Deviation: an SFT term (`dpo.sft_coefficient`) is on by default, since DPO alone lowers the
probability of what was chosen. ORPO starts from the SFT model too, where its paper has no stage
before it; KTO takes a pair for a desirable and an undesirable response.
"""

import dataclasses
from collections.abc import Iterator

import ml_collections

from pit_jax import ranges
from pit_jax.evaluate import subject
from pit_jax.evaluate.experiments import length, main
from pit_jax.losses import preference
from pit_jax.recipes import recipe, rlhf
from pit_jax.recipes.rlhf import policy_chain
from pit_jax.report import palette, presentation
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import dpo, jobs, rewards, sft, trained

FIRST = "dpo"  # the arm that the run is about
RLHF = "rl"  # the arm that is no preference optimisation
ABOUT = {  # of arms beside the first, by their loss, and of RLHF
  "ipo": "the policy by the loss of IPO, which ends at a margin",
  "kto": "the policy by the loss of KTO, which judges each response by itself",
  "simpo": "the policy by the loss of SimPO, per token and without a reference",
  "orpo": "the policy by the loss of ORPO, by odds and without a reference",
  "rlhf": "the policy after PPO for R_P, which was trained on the same pairs",
}


@dataclasses.dataclass(frozen=True)
class Study:
  """The policies of a run, and the reward models of its RLHF."""

  sft: trained.Trained
  arms: dict[str, trained.Trained]  # by system, in order
  chain: policy_chain.Policy | None  # of RLHF, where it is an arm


def optimised(config: ml_collections.ConfigDict) -> list[str]:
  """Returns the arms of preference optimisation, by their sections; of others `problems` tells."""
  return [arm for arm in config.arms if arm != RLHF and arm in kinds.sections(config)]


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages of the arms; RLHF comes first, and all policies stay to be compared."""
  planned = [kinds.Stage("sft_policy", "sft", kept=("initial",))]
  kept = ("language",)
  if RLHF in config.arms:
    planned = rlhf.stages(config)
    kept = rlhf.EARLIER + (("reward",) if config.data.judge else ())
  for arm in optimised(config):
    planned.append(kinds.Stage(f"{arm}_policy", arm, kept=kept))
    kept = (*kept, "language")

  return planned


def train(context: contexts.Context) -> Study:
  """Trains the arms, each from the policy that was fine-tuned."""
  c = context.config
  chain = policy_chain.train_policy(context) if RLHF in c.arms else None
  if chain:
    policy_sft = chain.sft
  else:
    fold = context.rows.fold(c.sft.fold)
    policy_sft = sft.run(context, "sft_policy", fold, start=context.initial_policy(), job=c.sft)

  arms = {}
  models = {"start": policy_sft.params, "reference": policy_sft.params}
  for arm in optimised(c):
    # Of one policy and the same pairs, the reference is asked once for all arms of like weights.
    schedule = c[arm].token_weights
    weighted = "" if schedule == preference.EVERY else f"_{schedule}"
    asked_as = f"reference_on_{c[arm].fold}{weighted}"
    pairs = {"fold": context.rows.fold(c[arm].fold), "asked_as": asked_as}
    arms[arm] = dpo.run(context, f"{arm}_policy", job=c[arm], **pairs, **models)
  if chain:
    arms["rlhf"] = chain.rl

  return Study(policy_sft, arms, chain)


def of_run(context: contexts.Context, study: Study) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  policies = {name: one.params for name, one in study.arms.items()}
  chain = study.chain
  judges = {"reward_model": chain.reward, "judge": chain.judge} if chain else {}
  models = {"policy": policies[FIRST], "sampler": study.sft.params}
  others = [arm for arm in policies if arm != FIRST]
  # What the arms are that the configuration names.
  losses = {arm: context.config[arm].loss for arm in optimised(context.config) if arm != FIRST}
  about = {arm: ABOUT.get(loss, f"the policy by the loss {loss}") for arm, loss in losses.items()}
  return subject.Policies(
    context,
    subject.suite_of(context, **models, **judges),
    models={**policies, "policy_sft": study.sft.params},
    compared=[
      *((arm, "policy_sft") for arm in policies),
      *((arm, FIRST) for arm in others),
      *((system, "chosen") for system in (*policies, "policy_sft")),
    ],
    control="dpo_resampled",
    reward_models=rlhf.facts_of(chain) if chain else {},
    about=about | ({"rlhf": ABOUT["rlhf"]} if "rlhf" in policies else {}),
  )


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the arms, and why nobody could judge them."""
  arms = tuple(config.arms)
  sections = kinds.sections(config)
  able = [name for name in sections if config[name].kind in ("dpo", "rl")]
  if wrong := [arm for arm in arms if arm not in able]:
    more = "" if able[1:] else ", or the size arms, which has a section for each loss and for RL"
    yield f"arms={arms} has {wrong[0]!r}; use some of {', '.join(able)}{more}"
  elif arms[:1] != (FIRST,):
    yield f"arms={arms}; give {FIRST!r} first, whose policy the run is about"
  elif RLHF in arms:
    yield from rewards.problems("rl", config.rl, ("reward",))
  else:
    yield from subject.unjudged(config)


RECIPE = recipe.Recipe(
  name="dpo",
  kinds={
    "sft": jobs.SFT,
    "dpo": jobs.preference_optimisation(preference.PAIR_LOSSES),
    "preference": jobs.PREFERENCE,
    "rl": jobs.RL,
  },
  stages=stages,
  train=train,
  exported=lambda study: {"models": {"policy": study.arms[FIRST].params}, "zero_point": None},
  subject=of_run,
  problems=problems,
  allowed={"arms": ranges.names_of("names of sections, such as 'dpo'", least=1)},
  headline=(FIRST, "policy_sft"),
  page=presentation.Presentation(
    systems={
      FIRST: presentation.System("the policy after direct preference optimisation", palette.TEAL),
      "policy_sft": presentation.System("the policy after fine-tuning only", "#94a3ba"),
    },
    judges=rlhf.page.JUDGES,
    stages={"sft_policy": "Fine-tuning", "dpo_policy": "Preference optimisation"},
  ),
  experiments={"main": main.measure, "length": length.measure},
)
