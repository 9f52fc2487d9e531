"""What is refused of a configuration on its devices before the first stage is trained."""

import dataclasses
import pathlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections

from pit_jax import layout, parallel
from pit_jax.data import encode, preferences
from pit_jax.losses import gap
from pit_jax.rollout import gains
from pit_jax.stages import abstract

# What numbers may be; one that is not a number is never within. Values that are not listed are
# checked where they are used.
RANGES = {
  "1 or more": lambda x: x >= 1,
  "0 or more": lambda x: x >= 0,
  "more than 0": lambda x: x > 0,
  "from 0 to 1": lambda x: 0 <= x <= 1,
  "more than 0 and less than 1": lambda x: 0 < x < 1,
}
RECORDS = {
  "1 or more": "inference_batch_size log_every log_every_rl save_every save_every_rl",
  "0 or more": "frontier.checkpoints recorder.kl recorder.negative_kl recorder.ratio",
}
SUPERVISED = {
  "1 or more": "batch_size accumulation",
  "0 or more": "steps evaluate_every weight_decay",
  "more than 0": "learning_rate clip_norm epsilon",
  "from 0 to 1": "warmup",
}
REINFORCEMENT = {
  "1 or more": "steps batch_size epochs minibatches",
  "0 or more": "value_scale value_coefficient loss_kl_coefficient target_kl missing_eos_penalty "
  "kl_coefficient kl_target value_warmup",
  "more than 0": "learning_rate clip_norm epsilon clip value_clip kl_horizon temperature",
  "from 0 to 1": "warmup discount trace",
}
CURRICULUM = {"1 or more": "steps", "0 or more": "kl_coefficient", "more than 0": "learning_rate"}
EVALUATION = {"1 or more": "prompts rounds temperature_prompts"}
MODEL = {
  "1 or more": "width layers heads kv_heads head_width hidden",
  "more than 0": "rope_theta",
}
SOURCES = ("dataset.rejected", "dataset.chosen", "policy")  # of a curriculum's references
FOLDS = {"more than 0 and less than 1": "held_out validation"}


def values(config: ml_collections.ConfigDict) -> None:
  """Refuses values with which a stage of the recipe fails, or does something else in silence.

  Raises:
    ValueError: some are; the error names each key, its value and what is allowed.
  """
  jobs = abstract.jobs(config)
  wrong = [*_outside(config, RECORDS), *_folds(config)]
  wrong += _outside(config.evaluation, EVALUATION, "evaluation.")
  wrong += _outside(config.model, MODEL, "model.")
  for job in jobs:
    wrong += _outside(config[job], REINFORCEMENT if job == "rl" else SUPERVISED, f"{job}.")
    if job != "rl" and not (config[job].steps or config[job].epochs > 0):
      wrong.append(f"{job}.epochs={config[job].epochs}; use more than 0, or set {job}.steps")
    if "margin_scale" in config[job]:
      wrong += _outside(config[job], {"0 or more": "margin_scale"}, f"{job}.")
    if job != "rl" and config[job].select not in ("last", "best"):
      wrong.append(f'{job}.select={config[job].select!r}; use "last" or "best"')
  if "curriculum" in config:
    wrong += _curriculum(config.curriculum)
  temperatures = config.evaluation.temperatures
  are_numbers = all(isinstance(t, int | float) and t >= 0 for t in temperatures)
  if not temperatures or not are_numbers:
    wrong.append(f"evaluation.temperatures={tuple(temperatures)}; use some, each 0 or more")
  stop_rule = config.evaluation.get("stop_rule")  # None in a run of an earlier version
  if stop_rule not in gains.RULES:
    wrong.append(f"evaluation.stop_rule={stop_rule!r}; use one of {', '.join(gains.RULES)}")
  if config.profile.stage and not 1 <= config.profile.first <= config.profile.last:
    wrong.append(
      f"profile.stage={config.profile.stage!r} with profile.first={config.profile.first} and "
      f"profile.last={config.profile.last}; use steps from 1 on, the last not before the first"
    )
  if "gap_reward" in jobs:
    wrong += _weights(config.gap_reward.term_weights)
  if "rl" in jobs and not wrong:
    wrong += _never(config)
  if wrong:
    raise ValueError("; ".join(wrong))


def _outside(section: Any, ranges: dict[str, str], prefix: str = "") -> Iterator[str]:
  """Yields what is wrong with the numbers of a section."""
  for allowed, names in ranges.items():
    for name in names.split():
      value = section
      for part in name.split("."):
        value = value[part]
      if not RANGES[allowed](value):
        yield f"{prefix}{name}={value}; use {allowed}"


def _folds(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the division of the rows."""
  yield from _outside(config.data, FOLDS, "data.")
  wanted = {job.removeprefix("gap_") for job in abstract.jobs(config)}
  if missing := sorted(wanted - {*config.data.training}):
    yield (
      f"data.training={tuple(config.data.training)} lacks {', '.join(missing)}, on which recipe "
      f"{config.recipe} trains; give at least {tuple(sorted(wanted))}"
    )


def _curriculum(stages: Sequence[ml_collections.ConfigDict]) -> Iterator[str]:
  """Yields what is wrong with the stages of a curriculum."""
  names = [stage.name for stage in stages]
  if not names or len(set(names)) < len(names):
    yield (
      f"curriculum with the stages {names}: give at least one, each a name of its own, since "
      "checkpoints go by names"
    )
  for index, stage in enumerate(stages):
    yield from _outside(stage, CURRICULUM, f"curriculum[{index}].")
    unknown = [source for source in stage.references if source not in SOURCES]
    if unknown or not stage.references:
      yield (
        f"curriculum[{index}].references={tuple(stage.references)}: {unknown or 'no source'} is "
        f"not allowed; use some of {SOURCES}"
      )


def _weights(weights: tuple[float, ...]) -> Iterator[str]:
  """Yields what is wrong with the weights of eq. 2's terms."""
  if len(weights) != len(gap.TERMS) or not all(w >= 0 for w in weights) or not sum(weights) > 0:
    yield (
      f"gap_reward.term_weights={tuple(weights)}; use {len(gap.TERMS)} numbers of 0 or more, not "
      f"all 0, for {', '.join(gap.TERMS)}"
    )


def _never(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what would keep PPO from training the policy."""
  rl, stages = config.rl, config.get("curriculum", ())
  taken = {"rl.steps": rl.steps}
  if stages:
    taken["the steps of the curriculum"] = sum(stage.steps for stage in stages)
  for name, steps in taken.items():
    if steps <= rl.value_warmup:
      yield (
        f"{name}={steps} with rl.value_warmup={rl.value_warmup}: only the value model would learn; "
        "use more steps than value_warmup"
      )


def batches(config: ml_collections.ConfigDict, mesh: jax.sharding.Mesh) -> None:
  """Refuses batches that do not divide over the mesh, or are cut into parts that do not.

  Such a part would be computed whole by every device.

  Raises:
    ValueError: one does not; the error names the keys and what they have to be.
  """
  cuts = {job: "minibatches" if job == "rl" else "accumulation" for job in abstract.jobs(config)}
  devices = parallel.parts(mesh)
  found = [("inference_batch_size", config.inference_batch_size, "", 1)]
  for job, cut in cuts.items():
    count, size = config[job][cut], config[job].batch_size
    found.append((f"{job}.batch_size", size, f" with {job}.{cut}={count}", count))
  wrong = [
    f"{name}={size}{parts if count > 1 else ''} has to be a multiple of {devices * count}"
    for name, size, parts, count in found
    if size % (devices * count)
  ]
  if wrong:
    raise ValueError(
      f"{'; '.join(wrong)}: the rows of every batch, micro-batch and minibatch are spread over "
      f"{devices} devices (data={mesh.shape['data']} × fsdp={mesh.shape['fsdp']}); use such sizes, "
      "fewer parts, or a mesh.shape with more of tensor"
    )


def lengths(rows: Sequence[preferences.Preference], settings: encode.Settings) -> None:
  """Refuses limits that leave no room for a text, before any encoded set is written.

  Args:
    rows: its imitation fold.
    settings: how they are encoded.

  Raises:
    ValueError: they leave none; the error says how long they have to be.
  """
  if rows:
    encode.policy_demonstrations(rows[:1], dataclasses.replace(settings, over_long="cut"))


def packing(
  config: ml_collections.ConfigDict,
  rows: Sequence[preferences.Preference],
  settings: encode.Settings,
  tokens: pathlib.Path,
) -> None:
  """Refuses packed rows that are shorter than a demonstration of policy or improver.

  Args:
    config: of the run.
    rows: its imitation fold.
    settings: how they are encoded.
    tokens: where encoded sets are kept.

  Raises:
    ValueError: sft.packed_length is too short; the error says how long it has to be.
  """
  if not rows or not config.sft.packing or not config.sft.packed_length:
    return
  makers = [encode.policy_demonstrations]
  if "gap_reward" in abstract.jobs(config):
    makers.append(encode.improver_demonstrations)
  longest = max(make(rows, settings, tokens).longest_row for make in makers)
  if longest > config.sft.packed_length:
    raise ValueError(
      f"sft.packed_length={config.sft.packed_length}, and a demonstration has {longest} tokens; "
      f"use at least {longest}, or 0"
    )


def offload(config: ml_collections.ConfigDict) -> None:
  """Refuses to let models wait in the hosts' memory where they cannot, or where none would.

  Raises:
    ValueError: the devices know no such memory, or all models share a base.
  """
  if not config.model.offload:
    return
  if config.model.lora.rank:
    raise ValueError(
      f"model.offload=True with model.lora.rank={config.model.lora.rank}: all models share one "
      "frozen base, which every program reads, so none can wait elsewhere; use offload=False"
    )
  kinds = [memory.kind for memory in jax.local_devices()[0].addressable_memories()]
  if layout.HOST not in kinds:
    raise ValueError(
      f"model.offload=True wants the memory {layout.HOST!r}, and these devices have {kinds}; "
      "use offload=False"
    )
