"""What is refused of a configuration on its devices before the first stage is trained."""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence

import jax
import ml_collections

from pit_jax import layout, parallel, ranges
from pit_jax.data import columns, encode, preferences
from pit_jax.run import allowed, kinds
from pit_jax.run import rows as run_rows


def values(config: ml_collections.ConfigDict, method: kinds.Method) -> None:
  """Refuses values with which a stage of the recipe fails, or does something else in silence.

  Raises:
    ValueError: some are; the error names each key, its value and what is allowed.
  """
  # What is wrong with values together is asked of values that are right alone, and what the recipe
  # says of its stages, of stages that there are.
  # A configuration of another recipe lacks whole sections, of which one is told and not each key.
  is_others = any(re.split(r"[.\[]", key)[0] not in config for key in method.allowed)
  wrong = [*_stages(config, method)] if is_others else []
  wrong = wrong or [*ranges.outside(config, allowed.of(config, method))]
  if method.kinds:  # else it trains no network
    wrong = wrong or [*_together(config, method)] or [*_stages(config, method)]
  if wrong := wrong or [*method.problems(config)]:
    raise ValueError("; ".join(wrong))


def _together(config: ml_collections.ConfigDict, method: kinds.Method) -> Iterator[str]:
  """Yields what is wrong with values that go together."""
  data = config.data
  if data.judge and preferences.JUDGED not in data.folds:
    yield (
      f"data.judge={data.judge} is a part of the fold {preferences.JUDGED}, and "
      f"data.folds={tuple(data.folds)} has none; use 0"
    )
  try:
    columns.parse(data.columns)
  except ValueError as error:
    yield str(error)

  for name in kinds.sections(config):
    section = config[name]
    kind = method.kinds[section.kind]
    yield from kind.problems(name, section)
    unread = [fold for fold in preferences.folds_in(section.fold) if fold in data.prompts_only]
    if kind.reads_responses and unread:
      yield (
        f"data.prompts_only={tuple(data.prompts_only)} has {unread[0]!r}, whose responses the "
        f"section {name} is trained on; leave it out"
      )

  profile = config.profile
  if profile.stage and profile.last < profile.first:
    yield (
      f"profile.first={profile.first} with profile.last={profile.last} of profile.stage="
      f"{profile.stage!r}: the last step is before the first; use {profile.first} or more for it"
    )


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
    cuts = method.kinds[config[name].kind].cuts
    size = config[name].batch_size
    count = math.prod(config[name][cut] for cut in cuts)
    named = [f"{name}.{cut}={config[name][cut]}" for cut in cuts if config[name][cut] > 1]
    given = " and ".join(named)
    divided.append((f"{name}.batch_size", size, f" with {given}", count))
    if (samples := config[name].get("samples", 1)) > 1:  # each prompt's responses on one device
      divided.append((f"{name}.batch_size", size, f" with {name}.samples={samples}", samples))

  for stage in method.stages(config):
    if (samples := dict(stage.values).get("samples", 1)) > 1:
      size = config[stage.section].batch_size
      given = f" with {stage.part}.samples={samples}"
      divided.append((f"{stage.section}.batch_size", size, given, samples))

  wrong = [
    f"{name}={size}{parts if count > 1 else ''} has to be a multiple of {devices * count}"
    for name, size, parts, count in dict.fromkeys(divided)  # some stages are of one part
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
  longest: dict[str, tuple[int, int, str]] = {}
  for stage in method.stages(config):
    job = kinds.job_of(config, stage)
    part = rows.fold(kinds.fold_of(config, stage)).rows
    if part and job.get("packing") and job.packed_length:
      form = rows.settings.formats[stage.prompts]
      length = encode.demonstrations(part, form, rows.settings, rows.tokens).longest_row
      found = (length, job.packed_length, stage.name)
      longest[stage.section] = max(longest.get(stage.section, found), found)

  for section, (length, limit, name) in longest.items():
    if length > limit:
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
