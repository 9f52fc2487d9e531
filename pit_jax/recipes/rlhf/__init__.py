"""RLHF, the policy's chain alone (Ouyang et al. 2022): SFT, reward model, PPO.

`pit` runs the same chain. Deviations from the paper: the reward model reads two responses per
prompt instead of ranking many, or is a published one (`reward.model`), which reads words and is not
trained; no pretraining gradients are mixed into PPO. The value model starts from R_P, or, where the
trunk of a published R_P does not fit, from that of M_P^SFT with a fresh head.
"""

from typing import Any

import ml_collections

from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.evaluate.experiments import frontier as frontiers
from pit_jax.evaluate.experiments import length, main
from pit_jax.recipes import recipe
from pit_jax.recipes.rlhf import page, policy_chain
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import jobs, rewards

EARLIER = ("language", "reward", "language")  # M_P^SFT, R_P and M_P^RL, which later stages keep


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns the stages of the policy's chain."""
  planned = [kinds.Stage("sft_policy", "sft", kept=("initial",))]
  if not config.reward.model:
    planned.append(kinds.Stage("reward", "reward", kept=("language",)))
  planned.append(kinds.Stage("rl_policy", "rl"))
  if config.data.judge:
    planned.append(kinds.Stage("reward_judge", "reward", fold="judge", kept=EARLIER))

  return planned


def exported(policy: policy_chain.Policy) -> dict[str, Any]:
  """Returns what is exported of the policy's chain; see `export.save`."""
  models = {"policy": policy.rl.params, "reward": policy.reward.params}
  return {"models": models, "zero_point": None, "published": policy.reward.published}


def judged(policy: policy_chain.Policy) -> dict[str, Any]:
  """Returns the policy's chain as arguments of `subject.suite_of`."""
  models = {"policy": policy.rl.params, "sampler": policy.sft.params}
  return {**models, "reward_model": policy.reward, "judge": policy.judge}


def facts_of(policy: policy_chain.Policy) -> dict[str, dict]:
  """Returns what is known of the reward models of the policy's chain."""
  return subject.facts_of({"R_P": policy.reward, subject.INDEPENDENT: policy.judge})


def chains_of(
  context: contexts.Context, suite: suites.Suite, policy: policy_chain.Policy
) -> dict[str, subject.Chain]:
  """Returns the policy's RL as a chain along which samples were kept."""
  # An improver's chain has drafts; a policy has none.
  chain = subject.Chain(
    stages=[("rl_policy", context.config.rl.steps)],
    start="policy_sft",
    first=lambda few, _: few.answers(policy.sft.params, subject.FRONTIER),
    proxy="R_P",
    score=lambda questions, answers, _: suite.selector.score(questions, answers),
  )

  return {"policy": chain}


def of_run(context: contexts.Context, policy: policy_chain.Policy) -> subject.Policies:
  """Returns a finished run as its experiments see it."""
  suite = subject.suite_of(context, **judged(policy))
  return subject.Policies(
    context,
    suite,
    models={"original": policy.rl.params, "policy_sft": policy.sft.params},
    compared=[("original", "policy_sft"), ("original", "chosen")],
    control="policy_resampled",
    reward_models=facts_of(policy),
    chains=chains_of(context, suite, policy),
  )


RECIPE = recipe.Recipe(
  name="rlhf",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "rl")},
  stages=stages,
  train=policy_chain.train_policy,
  exported=exported,
  subject=of_run,
  headline=("original", "policy_sft"),
  page=page.PAGE,
  experiments={"main": main.measure, "length": length.measure, "frontier": frontiers.measure},
  needs={"frontier": frontiers.NEED},
  problems=lambda config: rewards.problems("rl", config.rl, ("reward",)),
)
