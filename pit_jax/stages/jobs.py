"""The kinds of jobs of this room: fine-tuning, reward models, reinforcement learning, sampling."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pit_jax import ranges
from pit_jax.losses import advantages, gap, preference
from pit_jax.models import pure
from pit_jax.run import abstract, allowed, kinds, memory
from pit_jax.stages import pair_columns, programs
from pit_jax.training import optimizers

SUPERVISED = {
  **dict.fromkeys(("batch_size", "accumulation"), ranges.COUNT),
  **dict.fromkeys(("steps", "evaluate_every"), ranges.COUNT_OR_NONE),
  **dict.fromkeys(("epochs", "weight_decay"), ranges.FROM_ZERO),
  **dict.fromkeys(("learning_rate", "epsilon"), ranges.POSITIVE),
  "clip_norm": ranges.LIMIT,
  "warmup": ranges.SHARE,
  "select": ranges.one_of("last", "best"),
}
PACKED = {"packing": ranges.SWITCH, "packed_length": ranges.COUNT_OR_NONE}
PUBLISHED = {"model": ranges.TEXT, "reader": allowed.READER, "backend": allowed.BACKEND}
OPTIMISATION = {
  "beta": ranges.POSITIVE,
  "label_smoothing": ranges.DOUBT,
  **dict.fromkeys(
    ("sft_coefficient", "gamma", "desirable_weight", "undesirable_weight"), ranges.FROM_ZERO
  ),
  **dict.fromkeys(("reference_free", "importance_correction"), ranges.SWITCH),
  "sft_reduction": ranges.one_of(*preference.REDUCTIONS),
  "token_weights": ranges.one_of(*preference.SCHEDULES),
}
REINFORCEMENT = {
  **dict.fromkeys(("steps", "batch_size", "epochs", "samples"), ranges.COUNT),
  **dict.fromkeys(("minibatches", "accumulation"), ranges.COUNT),
  "value_warmup": ranges.COUNT_OR_NONE,
  **dict.fromkeys(
    ("value_scale", "value_coefficient", "loss_kl_coefficient", "kl_coefficient"), ranges.FROM_ZERO
  ),
  **dict.fromkeys(("target_kl", "kl_target", "missing_eos_penalty"), ranges.FROM_ZERO),
  "entropy_coefficient": ranges.FINITE,  # below 0 the entropy is brought down
  **dict.fromkeys(("learning_rate", "epsilon", "kl_horizon", "temperature"), ranges.POSITIVE),
  **dict.fromkeys(("clip_norm", "clip", "value_clip"), ranges.LIMIT),
  **dict.fromkeys(("warmup", "discount", "trace"), ranges.SHARE),
  "estimator": ranges.one_of(*advantages.ESTIMATORS),
  **dict.fromkeys(("scale_rewards", "whiten_rewards"), ranges.SWITCH),
  "rewards": ranges.Range(
    'a tuple of pairs of a name and a weight, as in (("gap", 1.0),)', ranges.is_list
  ),
}
TERM_WEIGHTS = ranges.Range(
  f"{len(gap.TERMS)} numbers of 0 or more, not all 0, for {', '.join(gap.TERMS)}",
  lambda weights: (
    ranges.is_list(weights)
    and len(weights) == len(gap.TERMS)
    and all(map(ranges.FROM_ZERO.holds, weights))
    and sum(weights) > 0
  ),
)
VALIDATED = {
  "reward_model/order": "validation order",
  "reward_model/accuracy": "validation accuracy",
  "reward_model/margin": "margin",
}
BACK = 3.0  # passes of a row through a network there and back


def supervised_needs(
  run: abstract.Arrays, stage: kinds.Stage, model: pure.PureModel, length: int, copies: int
) -> dict[str, dict[str, int]]:
  """Returns the device memory that a stage of supervised training keeps, in bytes by name.

  Of each row of the data set the network that learns reads so many copies, which are of so many
  tokens when padded.
  """
  job = kinds.job_of(run.config, stage)
  trained, base = run.parts(model)
  # Micro-batches follow one another, so one at a time is in memory.
  rows = copies * job.batch_size // job.accumulation
  return {
    stage.name: {
      "parameters and optimiser state": abstract.device_bytes(run.state(model, job)),
      "frozen parameters": abstract.device_bytes(base),
      "gradient": abstract.device_bytes(trained),
      "what enters each layer": memory.entering(run, rows, length),
    }
  }


def supervised_problems(name: str, job: Any) -> Iterator[str]:
  """Yields what is wrong with the values of a section of supervised training together."""
  if not (job.steps or job.epochs > 0):
    yield f"{name}.epochs={job.epochs} with {name}.steps=0; use more than 0 for one of them"


def _labelled_problems(name: str, job: Any) -> Iterator[str]:
  yield from supervised_problems(name, job)
  yield from pair_columns.problems(name, job)


def _sft_needs(run: abstract.Arrays, stage: kinds.Stage) -> dict[str, dict[str, int]]:
  length = run.prompt_of(stage.prompts) + run.response
  return supervised_needs(run, stage, run.language, length, 1)


def _preference_needs(run: abstract.Arrays, stage: kinds.Stage) -> dict[str, dict[str, int]]:
  # The prompt is read once, and both responses after it.
  return supervised_needs(run, stage, run.scalar, run.prompt + 2 * run.response, 1)


def _gap_needs(run: abstract.Arrays, stage: kinds.Stage) -> dict[str, dict[str, int]]:
  # Two prompts, one with each response as reference, and both responses after each.
  return supervised_needs(run, stage, run.scalar, run.improver_prompt + 2 * run.response, 2)


def _rl_problems(name: str, job: Any) -> Iterator[str]:
  if job.steps <= (warmup := optimizers.value_warmup(job)):
    yield too_short(f"{name}.steps={job.steps}", f"{name}.value_warmup={warmup}")
  yield from group_problems(job, lambda key: f"{name}.{key}")


def group_problems(job: Any, named: Callable[[str], str]) -> Iterator[str]:
  """Yields what is wrong with how a job of RL estimates advantages.

  Keys are told by what `named` makes of them.
  """
  estimator = f"{named('estimator')}={job.estimator!r}"
  if job.estimator != "gae" and job.samples < 2:
    yield (
      f"{estimator} with {named('samples')}={job.samples}: a response is "
      "compared with others to the same prompt; use 2 or more samples, or estimator 'gae'"
    )
  if job.estimator != "grpo" and not job.scale_rewards:
    yield (
      f"{named('scale_rewards')}=False with {estimator}, which divides by no deviation of a group; "
      "use True, or estimator 'grpo'"
    )

  if job.estimator == "grpo" and job.kl_target:
    yield (
      f"{named('kl_target')}={job.kl_target} with estimator 'grpo', whose KL is in the loss: there "
      f"is no β to move; use 0, and {named('loss_kl_coefficient')}"
    )


def too_short(steps: str, warmup: str) -> str:
  """Returns what is wrong with RL that ends before its policy learns."""
  return (
    f"{steps} with {warmup}: only the value model would learn; use more steps than value_warmup"
  )


def _rl_passes(job: Any) -> float:
  """Returns passes of a row: sampled, read by each model, learnt by those that learn."""
  learners = len(optimizers.kinds(job.estimator))
  return 3.0 + learners + learners * BACK * job.epochs


def _rl_needs(run: abstract.Arrays, stage: kinds.Stage) -> dict[str, dict[str, int]]:
  """Returns what is kept while responses are sampled, and while RL learns from them."""
  job = kinds.job_of(run.config, stage)
  length = run.prompt_of(stage.prompts) + run.response
  others = memory.frozen(run, run.network(stage.reward))
  learners = optimizers.kinds(job.estimator)
  actors = "policy and value model" if "value" in learners else "policy"

  kept = {f"{actors} with optimiser state": abstract.device_bytes(run.actors(job))}
  kept |= {other: abstract.device_bytes(tree) for other, tree in others.items()}

  # The policy stands first: without a value model it is alone.
  trained = [run.parts(model)[0] for model in (run.language, run.scalar)[: len(learners)]]
  sampling = {
    "weights gathered for sampling": memory.gathered(run),
    "keys and values": abstract.device_bytes(run.cache(job.batch_size, length - 1)),
  }
  rows = job.batch_size // (job.minibatches * job.accumulation)
  learning = {
    "gradients": abstract.device_bytes(trained),
    "what enters each layer": memory.entering(run, rows, length),
  }
  return {f"sampling of {stage.name}": kept | sampling, f"PPO of {stage.name}": kept | learning}


def _sft_programs(run: abstract.Arrays, stage: kinds.Stage) -> list[tuple]:
  asked = (stage.section, run.prompt_of(stage.prompts), stage.values)
  return [(programs.imitation, *asked)]


def _rl_programs(run: abstract.Arrays, stage: kinds.Stage) -> list[tuple]:
  section = stage.section
  prompt = run.prompt_of(stage.prompts)
  reward = run.network(stage.reward)
  samples = kinds.job_of(run.config, stage).samples
  made = [(programs.sampling, section, prompt, samples)]
  if reward is not None:  # else no device scores
    made.append((programs.scoring, section, prompt, reward))

  return [*made, (programs.iteration, section, prompt, stage.values)]


def _rl_resident(run: abstract.Arrays, stage: kinds.Stage) -> dict[str, int]:
  """Returns the bytes of RL's models on each device while any of its programs runs."""
  prompt = run.prompt_of(stage.prompts)
  roles = programs.iteration(run, stage.section, prompt, stage.values).roles
  frozen = memory.frozen(run, run.network(stage.reward))
  kept = roles | {"reference": frozen["reference"], "reward": frozen["reward model"]}
  return {role: abstract.device_bytes(tree) for role, tree in kept.items()}


SFT = kinds.Kind(
  allowed=SUPERVISED,
  optional=PACKED,
  cuts=("accumulation",),
  passes=lambda job: BACK,
  needs=_sft_needs,
  programs=_sft_programs,
  problems=supervised_problems,
  figures={"validation/loss": "validation loss", "loss": "loss"},
)
PREFERENCE = kinds.Kind(
  allowed=(SUPERVISED | pair_columns.ALLOWED) | {"focal": ranges.FROM_ZERO},
  optional=PUBLISHED,
  cuts=("accumulation",),
  passes=lambda job: 2 * BACK,
  needs=_preference_needs,
  programs=lambda run, stage: [(programs.preference, stage.section, stage.values)],
  problems=_labelled_problems,
  curves=("loss", "accuracy"),
  figures=VALIDATED,
)


def preference_optimisation(losses: Mapping[str, preference.Loss]) -> kinds.Kind:
  """Returns the kind of DPO's jobs, whose sections name one of some losses; see stages/dpo.py."""

  def needs(run, stage):
    # The prompt is read once, and both responses after it.
    length = run.prompt_of(stage.prompts) + 2 * run.response
    return supervised_needs(run, stage, run.language, length, 1)

  def step(run, stage):
    loss = losses[kinds.job_of(run.config, stage).loss]
    asked = (stage.section, run.prompt_of(stage.prompts), loss, stage.values)
    return [(programs.policy_pairs, *asked)]

  def passes(job):
    # For its KL an unpaired loss has policy and reference read as many rows again.
    return 2 * BACK + (0 if losses[job.loss].is_paired else 2 * 2)

  return dataclasses.replace(
    PREFERENCE,
    allowed=SUPERVISED | OPTIMISATION | {"loss": ranges.one_of(*losses)},
    optional={},
    passes=passes,
    needs=needs,
    programs=step,
    problems=functools.partial(_loss_problems, losses),
    curves=("loss", "accuracy", "margin", "chosen_logprob", "rejected_logprob"),
    figures={"validation/accuracy": "validation accuracy", "validation/loss": "loss"},
  )


def _loss_problems(losses: Mapping[str, preference.Loss], name: str, job: Any) -> Iterator[str]:
  """Yields which values of a section of preference optimisation its loss does not go with."""
  yield from supervised_problems(name, job)
  loss = losses[job.loss]
  named = f"{name}.loss={job.loss!r}"
  for key in loss.needs:
    if not job[key] > 0:
      yield f"{named} with {name}.{key}={job[key]}: a part of the loss; use more than 0, such as 1"

  # What would be set and do nothing.
  for key, neutral in _unread(loss).items():
    if job[key] != neutral:
      yield f"{named} with {name}.{key}={job[key]}: the loss does not read it; use {neutral}"
  if job.importance_correction and job.token_weights != preference.EVERY:
    yield (
      f"{name}.importance_correction=True with {name}.token_weights={job.token_weights!r}: the "
      f"correction is of whole responses; use False, or {preference.EVERY!r}"
    )
  if job.reference_free and job.importance_correction:
    yield (
      f"{name}.importance_correction=True with {name}.reference_free=True: the correction is by "
      "the reference; use False for one of them"
    )
  if not loss.is_paired and job.batch_size // max(job.accumulation, 1) < 2:
    yield (
      f"{named} with {name}.batch_size={job.batch_size} and {name}.accumulation={job.accumulation}"
      ": its KL is estimated on responses to other prompts of a micro-batch; use 2 pairs or more "
      "in each"
    )


def _unread(loss: preference.Loss) -> dict[str, float | bool | str]:
  """Returns the options that a loss does not read, and their values that say so."""
  unread: dict[str, float | bool | str] = {}
  if "gamma" not in loss.needs:
    unread["gamma"] = 0.0
  if loss.is_paired:
    unread |= {"desirable_weight": 1.0, "undesirable_weight": 1.0}
  else:
    # Its KL is of whole responses.
    unread |= {"label_smoothing": 0.0, "token_weights": preference.EVERY}
  if not (loss.has_reference and loss.is_paired):
    unread |= {"reference_free": False, "importance_correction": False}
  return unread


GAP = dataclasses.replace(
  PREFERENCE,
  allowed=(SUPERVISED | pair_columns.ALLOWED) | {"term_weights": TERM_WEIGHTS},
  optional={},
  passes=lambda job: 4 * BACK,
  needs=_gap_needs,
  programs=lambda run, stage: [(programs.gap_order, stage.section, stage.values)],
)
RL = kinds.Kind(
  allowed=REINFORCEMENT,
  cuts=("minibatches", "accumulation"),
  passes=_rl_passes,
  needs=_rl_needs,
  programs=_rl_programs,
  resident=_rl_resident,
  problems=_rl_problems,
  curves=("objective/score", "objective/kl", "objective/kl_coef", "tokens/response_length"),
  figures={
    "objective/score": "score",
    "objective/kl": "KL",
    "tokens/response_length": "tokens",
  },
  unit="iterations",
  reads_responses=False,
)
SAMPLING = kinds.Kind(  # a response for every row
  allowed={},
  cuts=("minibatches", "accumulation"),
  passes=lambda job: 1.0,
  needs=lambda run, stage: {},
  programs=lambda run, stage: [(programs.sampling, stage.section, run.prompt_of(stage.prompts), 1)],
  curves=(),
  unit="batches",
  reads_responses=False,
  learns=False,
)
BY_NAME = {"sft": SFT, "preference": PREFERENCE, "gap": GAP, "rl": RL, "sampling": SAMPLING}
