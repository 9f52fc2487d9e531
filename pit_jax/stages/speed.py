"""How fast a stage is: tokens per second and, where the devices' peak is known, its share of it.

`perf/mfu` is model FLOP utilisation as `costs` counts it, over all devices of the mesh: what is
computed twice to save memory, or on padding, is no work, and attention's own products are left out.
"""

from collections.abc import Mapping

import jax
import ml_collections

from pit_jax import costs
from pit_jax.models import pure
from pit_jax.training import timing
from pit_jax.types import Params


def supervised(model: pure.PureModel, params: Params, mesh: jax.sharding.Mesh) -> timing.Speed:
  """Returns the speed of a step that reads `tokens/read` tokens and learns from them."""
  each = costs.training(model, params, tokens=1).flops

  def speed(measured: Mapping[str, float], seconds: float) -> dict[str, float]:
    tokens = measured["tokens/read"]
    return {"perf/tokens_per_second": tokens / seconds, **_share(tokens * each, seconds, mesh)}

  return speed


def reinforcement(
  models: Mapping[str, pure.PureModel],
  params: Params,
  job: ml_collections.ConfigDict,
  mesh: jax.sharding.Mesh,
) -> timing.Speed:
  """Returns the speed of an iteration of PPO: of response tokens, over all its parts.

  Every token is read to sample, a prompt once for all its responses; by policy, reference and value
  model before the first update; and is learnt from by the value model, and by the policy once that
  learns too, in each pass that `target_kl` leaves. What gives the reward may be of any size, or no
  model at all, and is left out: so much more is done.

  Models and parameters are of {"policy", "value"}, or of the policy where it is alone.
  """
  # A weight and a token are one multiplication and one addition.
  reads = {kind: 2.0 * costs.multiplied(models[kind].config, params[kind]) for kind in models}
  learns = {kind: costs.training(models[kind], params[kind], tokens=1).flops for kind in models}

  def speed(measured: Mapping[str, float], seconds: float) -> dict[str, float]:
    response = job.batch_size * measured["tokens/response_length"]
    prompt = job.batch_size * measured["tokens/prompt_length"]
    sampling = (response + prompt / job.samples) * reads["policy"]
    judging = reads["policy"] + sum(reads.values())  # the policy's network is the reference's too

    # Updates that were made: target_kl may have ended an iteration early.
    learning = sum(measured[f"{kind}/updates"] / job.minibatches * learns[kind] for kind in learns)
    share = _share(sampling + (response + prompt) * (judging + learning), seconds, mesh)
    return {"perf/tokens_per_second": response / seconds, **share}

  return speed


def _share(flops: float, seconds: float, mesh: jax.sharding.Mesh) -> dict[str, float]:
  peak = costs.peak(mesh.devices.flat[0].device_kind)
  mfu = costs.shares(costs.Cost(flops / mesh.size), seconds, peak)["mfu"]
  return {} if mfu is None else {"perf/mfu": mfu}
