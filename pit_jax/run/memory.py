"""What a run keeps on each device at least, counted by hand before anything is compiled.

The count has what no compiler can do without. What it can arrange in several ways, as the
intermediate results of one layer, is not in it: `launch/plan.py` asks the compiler.
"""

import jax.numpy as jnp

from pit_jax import parallel
from pit_jax.models import pure
from pit_jax.run import abstract

GIB = 2**30
SHOWN = 5  # arrays that an error names


def check(run: abstract.Arrays, memory: int | None = None) -> None:
  """Refuses a configuration that cannot fit.

  Args:
    run: the models and rows of the run.
    memory: bytes of one device; None is what the devices say, and where they do not, nothing is
      refused.

  Raises:
    ValueError: a stage keeps more than a device has; the error names the largest of it.
  """
  memory = memory or parallel.device_memory()
  if memory is None:
    return
  for stage, kept in needs(run).items():
    total = sum(kept.values())
    if total <= memory:
      continue
    largest = sorted(kept.items(), key=lambda entry: -entry[1])[:SHOWN]
    listed = ", ".join(f"{name} {size / GIB:.2f} GiB" for name, size in largest)
    raise ValueError(
      f"{stage} keeps at least {total / GIB:.2f} GiB on each device, which has "
      f"{memory / GIB:.2f} GiB: {listed}; use more devices, a mesh.shape with more of fsdp or "
      "tensor, smaller batches, more accumulation (in RL more minibatches, which are updates of "
      "their own), or adapters (model.lora.rank); "
      "launch/plan.py --suggest looks for what fits"
    )


def needs(run: abstract.Arrays) -> dict[str, dict[str, int]]:
  """Returns stage → what is kept in it → bytes of one device."""
  config, response = run.config, run.response
  pair, given = run.prompt + 2 * response, run.improver_prompt + 2 * response
  kinds = {
    "sft": ("imitation", run.language, run.longest_prompt + response, 1),
    "reward": ("reward modelling", run.scalar, pair, 1),
    "gap_reward": ("gap reward modelling", run.scalar, given, 2),
  }
  found, jobs = {}, abstract.jobs(config)
  for job, (name, model, length, copies) in kinds.items():
    if job not in jobs or (job == "reward" and run.published):
      continue
    job = config[job]
    trained, base = run.parts(model)
    rows = copies * job.batch_size // job.accumulation
    found[name] = {
      "parameters and optimiser state": abstract.device_bytes(run.state(model, job)),
      "frozen parameters": abstract.device_bytes(base),
      "gradient": abstract.device_bytes(trained),
      "what enters each layer": entering(run, rows, length),
    }
  if "rl" in jobs:
    found |= reinforcement(run, "policy", run.prompt, frozen(run, run.reward))
  if "curriculum" in config:
    kept = frozen(run, run.scalar) | earlier(run)
    found |= reinforcement(run, "improver", run.improver_prompt, kept)
  base = abstract.device_bytes(run.base())
  return {name: kept | {"base model": base} for name, kept in found.items()}


def reinforcement(
  run: abstract.Arrays, name: str, prompt: int, others: dict
) -> dict[str, dict[str, int]]:
  """Returns what is kept while responses are sampled, and while PPO learns from them.

  Args:
    run: the models and rows of the run.
    name: what is trained.
    prompt: tokens of its prompts.
    others: the models that are there and not trained, by name.
  """
  job, length = run.config.rl, prompt + run.response
  kept = {
    "policy and value model with optimiser state": abstract.device_bytes(run.actors()),
    **{other: abstract.device_bytes(tree) for other, tree in others.items()},
  }
  trained = [run.parts(model)[0] for model in (run.language, run.scalar)]
  return {
    f"sampling from the {name}": kept
    | {
      "weights gathered for sampling": gathered(run),
      "keys and values": abstract.device_bytes(run.cache(job.batch_size, length - 1)),
    },
    f"PPO of the {name}": kept
    | {
      "gradients": abstract.device_bytes(trained),
      "what enters each layer": entering(run, job.batch_size // job.minibatches, length),
    },
  }


def frozen(run: abstract.Arrays, reward: pure.PureModel | None) -> dict:
  """Returns the models that RL asks and does not train, where they wait.

  With adapters they share one base.
  """
  own = {"reference": run.own(run.language), "reward model": run.own(reward)}
  return own | {"frozen base": run.parts(run.language)[1]}


def earlier(run: abstract.Arrays) -> dict:
  """Returns what stays of the policy's chain while the improver's is trained."""
  policy = run.own(run.language)
  return {
    "imitating policy": policy,
    "policy's reward model": run.own(run.reward),
    "policy": policy,
  }


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
  kind = jnp.dtype(c.dtype)
  kept = [run.array((c.layers, rows, length, c.width), kind, None, "batch", None, None)]
  if not c.remat:
    scores, features = (c.heads, length, length), (3, length, c.hidden)
    if c.attention == "xla":  # no kernel writes them down
      kept.append(run.array((c.layers, rows, *scores), kind, None, "batch", "heads", None, None))
    kept.append(run.array((c.layers, rows, *features), kind, None, "batch", None, None, "mlp"))
  return abstract.device_bytes(kept)
