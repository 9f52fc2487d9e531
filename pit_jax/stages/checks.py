"""What is refused of a configuration on its devices before the first stage is trained."""

import jax
import ml_collections

from pit_jax import layout, parallel
from pit_jax.stages import abstract


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


def folds(config: ml_collections.ConfigDict) -> None:
  """Refuses a division of the rows in which a stage of the recipe would have none.

  Raises:
    ValueError: data.training lacks a fold; the error names it.
  """
  wanted = {job.removeprefix("gap_") for job in abstract.jobs(config)}
  if missing := sorted(wanted - {*config.data.training}):
    raise ValueError(
      f"data.training={tuple(config.data.training)} lacks {', '.join(missing)}, on which recipe "
      f"{config.recipe} trains; give at least {tuple(sorted(wanted))}"
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
