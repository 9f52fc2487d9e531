"""Self-evolved reward learning (Huang et al. 2024, arXiv 2411.00418): SER.

Few pairs have labels, the seed. A reward model learns from them; then come rounds: it scores both
answers of every other pair, keeps those it is sure of, labels them by its own scores, and another
one is trained, from the trunk of M_P^SFT, on the seed and all labels that were kept so far. Rounds
end where little is new, or where labels that nothing trains on say that it got worse.

  seed           the model of the seed's labels
  seed_longer    … with as many optimiser steps as all rounds together: is it only more training?
  ser_K          after K rounds;  `ser`: after that which the validating labels like best
  ser_oracle     on the pairs that the rounds kept, with the labels that these had lost
  ser_random     … with labels at random
  all_labels     with no label lost

Which labels are kept is drawn several times, and all is compared draw by draw. Deviations: the
published code has neither statuses apart, nor a stop rule, nor a loop; scores are centred on the
pool's mean, since Bradley–Terry leaves their zero open; every model of an arm takes as many steps;
a gap model is evolved as well (`ser.model`), by one threshold; and the head alone may learn, on the
trunk of M_P^SFT as it is (`ser.trained`), where the paper has adapters.
"""

import dataclasses
from collections.abc import Iterator, Mapping

import ml_collections

from pit_jax import config_keys, ranges
from pit_jax.evaluate import subject
from pit_jax.evaluate.experiments import length
from pit_jax.recipes import recipe
from pit_jax.recipes.ser import draws, measured, page, policies, rounds, selector
from pit_jax.run import context as contexts
from pit_jax.run import kinds
from pit_jax.stages import jobs, pair_columns, reward, rewards, sft, trained

BEFORE = ("initial", "language")  # networks that stay, beside reward models of earlier stages
ALLOWED = {
  **dict.fromkeys(
    ("share", "validation", "upper", "lower", "difference", "least_new"), ranges.PART
  ),
  **dict.fromkeys(("draws", "rounds", "samples"), ranges.COUNT),
  "model": ranges.one_of(*rounds.SECTIONS),
  "trained": ranges.one_of(*rounds.TRAINED),
  "status": ranges.one_of(*selector.STATUSES),
  "policy": ranges.one_of(*policies.WAYS),
}


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains."""

  sft: trained.Trained
  draws: tuple[rounds.Evolved, ...]
  whole: reward.RewardModel  # of all labels
  policies: Mapping[str, trained.Trained]  # by system, where RL maximises the last models


def stages(config: ml_collections.ConfigDict) -> list[kinds.Stage]:
  """Returns a stage for each model of each draw, which all stay."""
  ser = config.ser
  section = rounds.SECTIONS[ser.model]
  steps = config[section].steps
  form = kinds.IMPROVER if ser.model == rounds.GAP else kinds.POLICY
  arms = [rounds.arm(number) for number in range(ser.rounds + 1)]
  each = dict.fromkeys([*arms, rounds.LONGER, rounds.ORACLE, rounds.RANDOM], steps)
  each[rounds.LONGER] = steps * (1 + ser.rounds)
  names = {rounds.stage(n, arm): each[arm] for n in range(1, ser.draws + 1) for arm in each}
  names[rounds.WHOLE] = steps * (1 + ser.rounds)

  planned = [kinds.Stage("sft", "sft", kept=("initial",))]
  if ser.trained == rounds.HEAD:  # which takes moments, and no stage
    names = {}
  for name, count in names.items():
    kept = (*BEFORE, *["reward"] * (len(planned) - 1))
    planned.append(kinds.Stage(name, section, steps=count, prompts=form, kept=kept))
  if ser.policy == policies.PPO:
    kept = (*BEFORE, *["reward"] * max(len(names), 1))
    planned += [kinds.Stage(name, "rl", kept=kept) for name in policies.REINFORCED]
  return planned


def train(context: contexts.Context) -> Study:
  """Trains all arms; what is finished is read back."""
  c = context.config
  job = rounds.job_of(c)
  fold = context.rows.fold(job.fold)
  shares = {"share": c.ser.share, "validation": c.ser.validation}
  drawn = [
    draws.draw(fold.rows, number, **shares, seed=context.seed(f"labels of draw {number}"))
    for number in range(1, c.ser.draws + 1)
  ]
  if c.ser.policy == policies.PPO:
    rewards.try_functions(context, "rl", context.rows.fold(c.rl.fold), ["reward"])

  imitated = context.rows.fold(c.sft.fold)
  policy = sft.run(context, "sft", imitated, start=context.initial_policy(), job=c.sft)
  # The unit of RL is that of samples; where nothing is reinforced, and of heads, responses of the
  # data will do.
  sampler = policy.params if c.ser.policy == policies.PPO else None
  given = rounds.Given(rounds.encoded(context, fold.rows, policy.params), policy.params, sampler)
  evolved = tuple(rounds.evolve(context, given, one) for one in drawn)

  first = drawn[0]
  validating = {*first.validation}
  labelled = {place: row for place, row in enumerate(fold.rows) if place not in validating}
  whole = rounds.fit(context, given, first, rounds.WHOLE, labelled, 1 + c.ser.rounds)
  reinforced = policies.maximising(context, policy, evolved[0].models)
  return Study(policy, evolved, whole, reinforced)


def exported(study: Study) -> dict:
  """Returns what is exported: M_P^SFT or the policy of RL, and the first draw's evolved model."""
  best = study.draws[0].models[rounds.BEST]
  policy = study.policies.get(policies.OF_SER, study.sft)
  is_gap = "zero_point" in best.facts
  models = {"policy": policy.params, "gap_reward" if is_gap else "reward": best.params}
  return {"models": models, "zero_point": best.facts.get("zero_point")}


def of_run(context: contexts.Context, study: Study) -> measured.Subject:
  """Returns a finished run as its experiments see it."""
  # No model of the run judges: those of systems chose the answers.
  suite = subject.suite_of(context, policy=study.sft.params, sampler=study.sft.params)
  arms = [{**one.models, rounds.WHOLE: study.whole} for one in study.draws]
  return measured.Subject(context, suite, study.sft, study.draws, arms, study.policies)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with thresholds, with the models, and with who judges."""
  ser = config.ser
  section = rounds.SECTIONS[ser.model]
  if ser.lower > ser.upper:
    yield (
      f"ser.lower={ser.lower} with ser.upper={ser.upper}: an answer could be surely good "
      "and surely bad at once, and everything would be kept; use one that is not above ser.upper"
    )
  if ser.model == rounds.GAP and ser.status != selector.UNION:
    yield (
      f"ser.status={ser.status!r} with ser.model='gap', which scores pairs and no answers: "
      f"there is one threshold, ser.difference; use {selector.UNION!r}"
    )
  if not config[section].steps:
    yield (
      f"{section}.steps=0: every model of an arm takes as many steps, whatever labels it has; "
      "use 1 or more"
    )
  if ser.trained == rounds.HEAD:
    yield from _unread(section, config[section])
  if config.reward.model:
    yield f'reward.model={config.reward.model!r}: this recipe trains its models; use ""'
  if ser.policy == policies.PPO and ser.model == rounds.GAP:
    yield (
      "ser.policy='ppo' with ser.model='gap', which rewards no policy; use 'best_of_n' or 'none'"
    )
  yield from rewards.problems("rl", config.rl, ("reward",))
  if ser.policy != policies.NONE and _is_unjudged(config):
    yield (
      f"ser.policy={ser.policy!r} with data.source={config.data.source!r}: nobody but the models "
      "that choose scores the answers; name a judge as evaluation.reward_model=DIRECTORY, or use "
      "'none'"
    )


def _unread(name: str, job: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what a section asks for that a head alone does not do."""
  for key, neutral in {**pair_columns.AS_PUBLISHED, "select": "last"}.items():
    if job[key] != neutral:
      yield (
        f"{name}.{key}={job[key]!r} with ser.trained='head', which learns by the plain loss to its "
        f"last step; use {neutral!r}, or ser.trained='all'"
      )


def _is_unjudged(config: ml_collections.ConfigDict) -> bool:
  """Returns whether nobody scores answers; a language model compares and scores none."""
  return not config_keys.is_embedded(config.data.source) and not config.evaluation.reward_model


RECIPE = recipe.Recipe(
  name="ser",
  kinds={name: jobs.BY_NAME[name] for name in ("sft", "preference", "gap", "rl")},
  stages=stages,
  train=train,
  exported=exported,
  subject=of_run,
  problems=problems,
  allowed={f"ser.{key}": one for key, one in ALLOWED.items()},
  page=page.PAGE,
  pooled={"ser": measured.pool},
  experiments={"main": policies.measure, "length": length.measure, "ser": measured.measure},
)
