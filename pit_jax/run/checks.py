"""What is refused of a configuration on its devices before the first stage is trained."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import ml_collections

from pit_jax import layout, parallel
from pit_jax.data import encode, preferences
from pit_jax.improve import gains
from pit_jax.run import kinds
from pit_jax.run import rows as run_rows

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
  "1 or more": "inference_batch_size log_every log_every_rl save_every save_every_rl "
  "compilation.limit",
  "0 or more": "frontier.checkpoints recorder.kl recorder.negative_kl recorder.ratio",
}
MODEL = {"1 or more": "width layers heads kv_heads head_width hidden", "more than 0": "rope_theta"}
EVALUATION = {"1 or more": "prompts rounds temperature_prompts"}
FOLDS = {"more than 0 and less than 1": "held_out validation"}


def values(config: ml_collections.ConfigDict, method: kinds.Method) -> None:
  """Refuses values with which a stage of the recipe fails, or does something else in silence.

  Raises:
    ValueError: some are; the error names each key, its value and what is allowed.
  """
  if not method.kinds:  # it trains no network, and knows its values itself
    if wrong := [*method.problems(config)]:
      raise ValueError("; ".join(wrong))
    return

  wrong = [*outside(config, RECORDS), *_folds(config), *_evaluation(config.evaluation)]
  wrong += outside(config.model, MODEL, "model.")
  wrong += unknown_kinds(config, method)
  for name in kinds.sections(config):
    section = config[name]
    if kind := method.kinds.get(section.kind):
      wrong += [*outside(section, kind.allowed, f"{name}."), *kind.problems(name, section)]

  if config.profile.stage and not 1 <= config.profile.first <= config.profile.last:
    wrong.append(
      f"profile.stage={config.profile.stage!r} with profile.first={config.profile.first} and "
      f"profile.last={config.profile.last}; use steps from 1 on, the last not before the first"
    )

  # Stages want sections in order, and what the recipe says wants stages.
  if wrong := wrong or [*_stages(config, method)] or [*method.problems(config)]:
    raise ValueError("; ".join(wrong))


def unknown_kinds(config: ml_collections.ConfigDict, method: kinds.Method) -> Iterator[str]:
  """Yields the sections whose kinds the recipe does not have, and those that it has."""
  known = ", ".join(method.kinds)
  for name in kinds.sections(config):
    if (kind := config[name].kind) not in method.kinds:
      yield f"{name}.kind={kind!r}; recipe {method.name} has {known}"


def _stages(config: ml_collections.ConfigDict, method: kinds.Method) -> Iterator[str]:
  """Yields what is wrong with the stages of the recipe in this configuration."""
  sections = kinds.sections(config)
  there = f"the configuration has {', '.join(sections)}"
  # A recipe reads sections by name: one that is missing is told here, and not by a traceback.
  try:
    stages = method.stages(config)
  except (AttributeError, KeyError) as error:
    missing = str(error).splitlines()[0].strip("\"'")
    yield f"recipe {method.name} wants a section that is not there ({missing}); {there}"
    return

  for stage in stages:
    named = f"stage {stage.name} of recipe {method.name}"
    if stage.section not in sections:
      if stage.section in config:
        there = f"that has no `kind`; give it one of {', '.join(method.kinds)}, and a `fold`"
      yield f"{named} trains by the section {stage.section!r}; {there}"
    elif stage.kind and stage.kind not in method.kinds:
      yield f"{named} is of kind {stage.kind!r}; the recipe has {', '.join(method.kinds)}"


def _evaluation(evaluation: Any) -> Iterator[str]:
  """Yields what is wrong with how a run is evaluated."""
  yield from outside(evaluation, EVALUATION, "evaluation.")
  temperatures = evaluation.temperatures
  are_numbers = all(isinstance(t, int | float) and t >= 0 for t in temperatures)
  if not temperatures or not are_numbers:
    yield f"evaluation.temperatures={tuple(temperatures)}; use some, each 0 or more"
  stop_rule = evaluation.get("stop_rule")  # None in a run of an earlier version
  if stop_rule not in gains.RULES:
    yield f"evaluation.stop_rule={stop_rule!r}; use one of {', '.join(gains.RULES)}"


def outside(section: Any, ranges: dict[str, str], prefix: str = "") -> Iterator[str]:
  """Yields what is wrong with the numbers of a section."""
  for allowed, names in ranges.items():
    for name in names.split():
      # A name may be a path, such as "frontier.checkpoints".
      value = section
      for part in name.split("."):
        value = None if value is None else value.get(part)
      if value is None:
        earlier = "as in a configuration of an earlier version"
        yield f"{prefix}{name} is missing, {earlier}; use {allowed}"
      elif not RANGES[allowed](value):
        yield f"{prefix}{name}={value}; use {allowed}"


def _folds(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with the division of the rows."""
  yield from outside(config.data, FOLDS, "data.")
  folds = tuple(config.data.folds)
  wanted = {name: config[name].fold for name in kinds.sections(config)}
  missing = [f"{name}.fold={fold}" for name, fold in wanted.items() if fold not in folds]
  if missing:
    yield (
      f"data.folds={folds} lacks what {', '.join(missing)} names; give at least "
      f"{tuple(sorted({*wanted.values()}))}, or other folds to these sections"
    )


def batches(
  config: ml_collections.ConfigDict, method: kinds.Method, mesh: jax.sharding.Mesh
) -> None:
  """Refuses batches or parts of them that do not divide: every device would compute all of one.

  Raises:
    ValueError: one does not; the error names the keys and what they have to be.
  """
  devices = parallel.parts(mesh)
  divided = [("inference_batch_size", config.inference_batch_size, "", 1)]
  for name in kinds.sections(config):
    cut = method.kinds[config[name].kind].cut
    size = config[name].batch_size
    count = config[name][cut]
    divided.append((f"{name}.batch_size", size, f" with {name}.{cut}={count}", count))
    if (samples := config[name].get("samples", 1)) > 1:  # each prompt's responses on one device
      divided.append((f"{name}.batch_size", size, f" with {name}.samples={samples}", samples))

  wrong = [
    f"{name}={size}{parts if count > 1 else ''} has to be a multiple of {devices * count}"
    for name, size, parts, count in divided
    if size % (devices * count)
  ]

  if wrong:
    raise ValueError(
      f"{'; '.join(wrong)}: the rows of every batch, micro-batch and minibatch are spread over "
      f"{devices} devices (data={mesh.shape['data']} × fsdp={mesh.shape['fsdp']}); use such sizes, "
      "fewer parts, or a mesh.shape with more of tensor"
    )


def lengths(rows: Sequence[preferences.Preference], settings: encode.Settings) -> None:
  """Refuses limits that leave no room for a text of some rows, before any encoded set is written.

  Raises:
    ValueError: they leave none; the error says how long they have to be.
  """
  if rows:
    cutting = dataclasses.replace(settings, over_long="cut")
    # One row is enough: encoding raises where the limits leave no room.
    encode.demonstrations(rows[:1], settings.formats["policy"], cutting)


def packing(config: ml_collections.ConfigDict, method: kinds.Method, rows: run_rows.Rows) -> None:
  """Refuses packed rows that are shorter than a demonstration that goes into them.

  Raises:
    ValueError: a section's packed_length is too short; the error says how long it has to be.
  """
  longest: dict[str, tuple[int, str]] = {}
  for stage in method.stages(config):
    job = config[stage.section]
    part = rows.folds[kinds.fold_of(config, stage)]
    if part and job.get("packing") and job.packed_length:
      form = rows.settings.formats[stage.prompts]
      length = encode.demonstrations(part, form, rows.settings, rows.tokens).longest_row
      longest[stage.section] = max(longest.get(stage.section, (0, "")), (length, stage.name))

  for section, (length, name) in longest.items():
    if length > (limit := config[section].packed_length):
      raise ValueError(
        f"{section}.packed_length={limit}, and a demonstration has {length} tokens "
        f"in stage {name}; use at least {length}, or 0"
      )


def offload(config: ml_collections.ConfigDict) -> None:
  """Refuses, with a ValueError, to let models wait in the hosts' memory where none can or would."""
  if not config.model.offload:
    return
  if config.model.lora.rank:
    raise ValueError(
      f"model.offload=True with model.lora.rank={config.model.lora.rank}: all models share one "
      "frozen base, which every program reads, so none can wait elsewhere; use offload=False"
    )

  memories = [memory.kind for memory in jax.local_devices()[0].addressable_memories()]
  if layout.HOST not in memories:
    raise ValueError(
      f"model.offload=True wants the memory {layout.HOST!r}, and these devices have {memories}; "
      "use offload=False"
    )
