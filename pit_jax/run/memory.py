"""What a run keeps on each device at least, counted by hand before anything is compiled.

The count has what no compiler can do without. What it can arrange in several ways, as the
intermediate results of one layer, is not in it: `pit plan` asks the compiler.
"""

from typing import Any

import jax.numpy as jnp

from pit_jax import parallel
from pit_jax.models import pure
from pit_jax.run import abstract, kinds

GIB = 2**30
SHOWN = 5  # arrays that an error names


def check(run: abstract.Arrays, method: kinds.Method, memory: int | None = None) -> None:
  """Refuses a configuration that cannot fit into the memory of a device, in bytes.

  None is what the devices say, and where they do not, nothing is refused.

  Raises:
    ValueError: a stage keeps more than a device has; the error names the largest of it.
  """
  memory = memory or parallel.device_memory()
  if memory is None:
    return

  for stage, kept in needs(run, method).items():
    if (total := sum(kept.values())) <= memory:
      continue
    largest = sorted(kept.items(), key=lambda entry: -entry[1])[:SHOWN]
    listed = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in largest)

    raise ValueError(
      f"{stage} keeps at least {total / GIB:.2f} GiB on each device, which has "
      f"{memory / GIB:.2f} GiB: {listed}; use more devices, a mesh.shape with more of fsdp or "
      "tensor, smaller batches, more accumulation, or adapters (model.lora.rank); pit plan "
      "--suggest looks for what fits"
    )


def needs(run: abstract.Arrays, method: kinds.Method) -> dict[str, dict[str, int]]:
  """Returns phase of a stage → what is kept in it → bytes of one device."""
  phases = {}
  base = abstract.device_bytes(run.base())
  for stage in method.stages(run.config):
    waiting = abstract.device_bytes(run.kept(stage.kept))
    kind = kinds.kind_of(method, run.config, stage)
    for phase, kept in kind.needs(run, stage).items():
      phases[phase] = kept | {"models of other stages": waiting, "base model": base}

  return phases


def frozen(run: abstract.Arrays, reward: pure.PureModel | None) -> dict[str, Any]:
  """Returns the models that RL asks and does not train, where they wait.

  With adapters they share one base.
  """
  own = {"reference": run.own(run.language), "reward model": run.own(reward)}
  return own | {"frozen base": run.parts(run.language)[1]}


def gathered(run: abstract.Arrays) -> int:
  """Returns the bytes of the policy's weights that exist once more while it samples.

  Weights that lie as sampling reads them, in the type of its products, are not copied.
  """
  model = run.language
  return abstract.device_bytes(pure.copied(model, run.params(model), run.mesh))


def entering(run: abstract.Arrays, rows: int, length: int) -> int:
  """Returns the bytes of what enters each layer, which is kept for the gradient.

  Without rematerialisation the gradient wants what is inside a layer too: at least the weights of
  attention and the features of the MLP.
  """
  c = run.language.config
  dtype = jnp.dtype(c.dtype)
  kept = [run.array((c.layers, rows, length, c.width), dtype, None, "batch", None, None)]

  if c.remat == "none":
    if c.attention == "xla":  # no kernel writes them down
      scores = (c.layers, rows, c.heads, length, length)
      kept.append(run.array(scores, dtype, None, "batch", "heads", None, None))
    # Gate, up, and their product.
    features = (c.layers, rows, 3, length, c.hidden)
    kept.append(run.array(features, dtype, None, "batch", None, None, "mlp"))

  return abstract.device_bytes(kept)
