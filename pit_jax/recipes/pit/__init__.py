"""PIT: implicit self-improvement from preference data alone (Wang et al. 2024, arXiv 2310.00898).

Four models, three equal folds of preference triples (x, y_l, y_w):

  fold 1   M_P^SFT: x → y_w                 M_PIT^SFT: (x, y_l) → y_w
  fold 2   R_P(x, y): Bradley–Terry         R_PIT(x, y_1, y_2): the five orderings of eq. 2
  fold 3   M_P^RL: eq. 3                    M_PIT^RL: eq. 4 on references from the data,
                                            then eq. 5 on references sampled from M_P^RL

Deviations from the paper, and what it leaves open:
  - RL is PPO with a per-token KL penalty against the SFT model. β is a constant, as in eqs. 3 to 5,
    unless `rl.kl_target` names the nats per response that a controller is to steer to; the paper
    names neither algorithm nor coefficient.
  - Losses are means where the paper sums; eq. 2's five terms have weights, all 1 by default.
  - Rewards are scaled to mean 0 and deviation 1 on samples of the SFT model.
  - R_PIT starts from the trunk of R_P, which already tells good responses from bad ones, and
    value models start from the reward model of their kind; the paper does not say. R_P may be a
    published model (`reward.model`); where its trunk does not fit, R_PIT starts from that of
    M_PIT^SFT and the policy's value model from that of M_P^SFT, each with a fresh head.
  - The curriculum is a list of any length, the paper has two stages; it is one optimisation: Adam's
    moments and β pass on, and the learning rates rise and fall once over all stages.
  - The stop rule at inference is ours (`improve.improve`); the paper leaves it open.
  - References may be shown with what a critic says of them ("policy+critique"); the paper has none.
  - Ablations beyond table 2: R_PIT trained with the term wl > lw of eq. 2 alone, and no gap model
    but R_P(x, y) − R_P(x, y_ref), each as the reward of the same curriculum; and neither gap model
    nor RL: improver_dpo is M_PIT^SFT after DPO of (x, y_l) → y_w over (x, y_l) → y_l, against
    M_PIT^SFT itself. Its pairs are those of fold 2, whose labels R_PIT learns from: RL adds
    prompts and drafts to them, and no label, so both see the same labels.
"""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import ml_collections

from pit_jax import ranges
from pit_jax.evaluate import seeds
from pit_jax.evaluate.experiments import frontier as frontiers
from pit_jax.evaluate.experiments import length, main
from pit_jax.improve import self_refine
from pit_jax.losses import preference
from pit_jax.recipes import recipe, rlhf
from pit_jax.recipes.pit import (
  ablation,
  cost,
  criticised,
  curriculum,
  gap_rewards,
  ledger,
  page,
  rounds,
  stop,
  subject,
  temperature,
  training,
)
from pit_jax.recipes.pit import gap as gap_experiment
from pit_jax.run import kinds
from pit_jax.stages import jobs, rewards
from pit_jax.statistics import stopping
from pit_jax.training import optimizers

GAP_KEPT = (*rlhf.EARLIER, "language")  # M_PIT^SFT too
# R_P, M_P^SFT, M_PIT^SFT and R_PIT, beside the policy that samples.
SAMPLING_KEPT = ("reward", "language", "language", "scalar")


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages of both chains and, where they are asked for, of the ablations."""
  parts = {f"curriculum[{index}]": each for index, each in enumerate(config.curriculum)}
  imitating = kinds.Stage(
    "sft_improver", "sft", prompts=kinds.IMPROVER, kept=("initial", *rlhf.EARLIER)
  )
  gap = kinds.Stage("gap_reward", "gap_reward", prompts=kinds.IMPROVER, kept=GAP_KEPT)
  planned = [
    *rlhf.stages(config),
    imitating,
    gap,
    kinds.Stage("references", "rl", kind="sampling", kept=SAMPLING_KEPT),
    *_curriculum("pit", parts),
  ]
  if config.uncriticised:
    kept = (*imitating.kept, "language", "scalar", "language")  # M_PIT^SFT, R_PIT and M_PIT^RL
    planned.append(dataclasses.replace(imitating, name="sft_improver_uncriticised", kept=kept))
    planned += _curriculum("pit_uncriticised", parts, kept=("language", "language"))
  if not config.ablations:
    return planned
  planned.append(dataclasses.replace(gap, name=f"gap_reward_{gap_rewards.SINGLE_TERM}"))
  places = {each.name: part for part, each in parts.items()}
  for name, (alone,) in curriculum.singles(config.curriculum).items():
    planned += _curriculum(name, {places[alone.name]: alone})
  planned.append(kinds.Stage("rlhf_longer", "rl", steps=curriculum.steps(config.curriculum)))

  difference = _curriculum("pit_rp_difference", parts, reward="reward")
  kept = (*GAP_KEPT, "scalar", "language")  # R_PIT and M_PIT^RL too
  direct = kinds.Stage("dpo_improver", "dpo", prompts=kinds.IMPROVER, kept=kept)
  return [*planned, *_curriculum("pit_single_term", parts), *difference, direct]


def _curriculum(
  name: str, stages: Mapping[str, Any], reward: str = "scalar", kept: tuple[str, ...] = ()
) -> list[kinds.Stage]:
  """Returns the stages of a curriculum whose parts of the configuration are named.

  Networks are kept beside the policy's chain, M_PIT^SFT as the reference, and the reward.
  """
  common = {"prompts": kinds.IMPROVER, "reward": reward, "kept": (*rlhf.EARLIER, *kept)}
  return [
    kinds.Stage(
      f"{name}_{each.name}",
      "rl",
      steps=each.steps,
      part=part,
      values=curriculum.values_of(each),
      **common,
    )
    for part, each in stages.items()
  ]


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the curriculum, and with what Self-Refine is told."""
  yield from curriculum.problems(config.curriculum)
  yield from curriculum.estimator_problems(config.curriculum, config.rl)
  if config.curriculum:
    first = kinds.changed(config.rl, curriculum.values_of(config.curriculum[0]))
    yield from curriculum.warmup_problems(config.curriculum, optimizers.value_warmup(first))
  yield from rewards.problems("rl", config.rl, ("reward", "gap"))
  yield from criticised.problems(config)

  try:
    self_refine.form_of(config.evaluation.self_refine)
  except ValueError as error:
    yield str(error)


def caveat(config: ml_collections.ConfigDict) -> str:
  """Says of which improver R_P is no judge, where it was trained."""
  if not config.ablations:
    return ""
  return "R_P also rewarded pit_rp_difference: its word on it is no evidence."


def exported(models: training.Models) -> dict[str, Any]:
  """Returns what is exported of both chains; see `export.save`."""
  own = {"improver": models.improver.params, "gap_reward": models.gap_reward.params}
  policy = rlhf.exported(models.policy)
  zero_point = models.gap_reward.facts["zero_point"]
  return policy | {"models": policy["models"] | own, "zero_point": zero_point}


RECIPE = recipe.Recipe(
  name="pit",
  kinds={**jobs.BY_NAME, "dpo": jobs.preference_optimisation(preference.PAIR_LOSSES)},
  stages=stages,
  train=training.train,
  exported=exported,
  subject=subject.of_run,
  headline=("pit", "original"),
  page=page.PAGE,
  pooled={
    "ablation": seeds.rows("system"),
    "improvers": seeds.rows("system"),
    "rounds": seeds.rows("k"),
    "self_refine": seeds.rows("k"),
    "temperature": seeds.rows("t", "system"),
    "cost": seeds.rows("system", "budget", "judge"),
    "ledger": ledger.pool,
    "stop": lambda parts, _: stopping.pool([*parts.values()]),
  },
  caveat=caveat,
  experiments={
    "main": main.measure,
    "ablation": ablation.measure,
    "rounds": rounds.measure,
    "stop": stop.measure,
    "temperature": temperature.measure,
    "gap": gap_experiment.measure,
    "length": length.measure,
    "cost": cost.measure,
    "frontier": frontiers.measure,
    "ledger": ledger.measure,
  },
  needs={
    "ablation": ("--config.ablations=True", lambda config: config["ablations"]),
    "frontier": frontiers.NEED,
  },
  asks=criticised.asks,
  allowed={"ablations": ranges.SWITCH, **curriculum.ALLOWED, **criticised.ALLOWED},
  problems=problems,
)
