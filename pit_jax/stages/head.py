"""Reward models of which the head alone learns, on features that a frozen trunk gives once.

A scalar model is linear in its trunk's last hidden state φ, r(x, y) = w · φ(x, y), so that a head
w is learnt in moments where the trunk stays as it is, and scores are products.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Float, Int, Key

from pit_jax import hosts
from pit_jax.losses import gap, preference
from pit_jax.run import context as contexts
from pit_jax.stages import calibration, reward
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Params

Features = Float[Array | np.ndarray, "N C D"]  # of every pair what the loss scores, C of them
PAIR = ("chosen", "rejected")  # what R_P scores of a pair
GAPS = ("wl", "ww", "ll", "lw")  # what R_PIT does
FOLDER = "heads"  # below the workdir


def learn(
  context: contexts.Context,
  name: str,
  trunk: Params,
  features: Features,
  rows: Sequence[int],
  signs: Sequence[int],
  validation: Sequence[int],
  job: ml_collections.ConfigDict,
) -> reward.RewardModel:
  """Returns a reward model, calibrated on what validates, in WORKDIR/heads/NAME.json.

  With C = 2 it is R_P, by Bradley–Terry; with 4 R_PIT, by the five orderings of its gaps.

  Args:
    context: of the run.
    name: of the model; also seeds its batches.
    trunk: parameters of the trunk.
    features: of all pairs, in the order of PAIR or of GAPS.
    rows: places of the pairs to learn from.
    signs: of each of them 1, or −1 where what stands second is preferred.
    validation: places of the pairs that validate, as they stand.
    job: the section of the configuration.

  Raises:
    ValueError: what lies there was learnt from other rows that the run made.
  """
  recorded = context.read_json(FOLDER, f"{name}.json")
  if recorded is None:
    recorded = {"made rows": dict(context.made_rows)}
    head = _fit(features, rows, signs, job, context.key(name))
    recorded |= _calibrated(name, np.asarray(features)[list(validation)] @ head)
    recorded["head"] = (head * recorded["gain"]).tolist()
    context.write_json(recorded, FOLDER, f"{name}.json")

  elif recorded["made rows"] != dict(context.made_rows):
    raise ValueError(
      f"{context.workdir / FOLDER / name}.json was learnt from other rows than lie in "
      f"{context.workdir / 'rows'}; use another --workdir"
    )
  head = np.array(recorded["head"], np.float32)
  facts = {key: value for key, value in recorded.items() if key not in ("head", "made rows")}
  params = {"trunk": trunk, "head": jnp.asarray(head), "bias": jnp.float32(0)}
  return reward.RewardModel(context.models.waiting(params), {**facts, "steps": job.steps})


def _calibrated(name: str, scores: Float[np.ndarray, "N C"]) -> dict[str, Any]:
  """Returns facts of a head as `reward.run` and `reward.gap` have them of their models."""
  gain = 1.0 / calibration.deviation(name, scores)
  margins = scores[:, 0] - scores[:, -1]
  facts = calibration.pair_facts(margins) | {"gain": gain, "shift": -float(scores.mean()) * gain}
  if scores.shape[1] == len(GAPS):
    facts["zero_point"] = float(scores[:, 1:3].mean()) * gain
  return facts


def _fit(
  features: Features,
  rows: Sequence[int],
  signs: Sequence[int],
  job: ml_collections.ConfigDict,
  key: Key[Array, ""],
) -> Float[np.ndarray, " D"]:
  """Returns the head after so many steps, on the first host's numbers."""
  # Of one shape whatever labels there are, so that all heads share a program.
  room = features.shape[0] - len(rows)
  places = np.pad(np.asarray(rows, np.int32), (0, room))
  directions = np.pad(np.asarray(signs, np.int32), (0, room))
  weights = tuple(job.get("term_weights", ()))
  learnt = _program(optimizers.supervised(job), job.batch_size, weights)
  schedule = training_step.warmup_linear(job.learning_rate, job.steps, int(job.warmup * job.steps))
  rates = np.zeros(_padded(job.steps), np.float32)
  rates[: job.steps] = schedule(np.arange(job.steps))
  return hosts.fetch(learnt(features, places, directions, len(rows), key, rates, job.steps))


def _padded(steps: int) -> int:
  """Returns the next power of two, so that few lengths of a schedule are compiled."""
  return 1 << (steps - 1).bit_length()


@functools.cache
def _program(optimizer: Any, batch_size: int, term_weights: tuple[float, ...]) -> Callable:
  """Returns the compiled learning of a head from features."""

  def loss_fn(params, frozen, batch: Float[Array, "B C D"], rng):
    scores = jnp.moveaxis(batch @ params["head"], 1, 0)
    if term_weights:
      loss, metrics = gap.gap_loss(*scores, jnp.asarray(term_weights, jnp.float32))
    else:
      loss, metrics = preference.bradley_terry_loss(*scores)
    return loss, metrics | {"weight": jnp.float32(batch.shape[0])}

  step = training_step.make_train_step(loss_fn, optimizer)

  def learn(
    features: Features,
    places: Int[Array, " N"],
    signs: Int[Array, " N"],
    count: Int[Array, ""],
    key: Key[Array, ""],
    rates: Float[Array, " S"],
    steps: Int[Array, ""],
  ) -> Float[Array, " D"]:
    state = training_step.init_state({"head": jnp.zeros(features.shape[2])}, optimizer)

    def advance(index, state):
      drawn = jax.random.randint(jax.random.fold_in(key, index), (batch_size,), 0, count)
      batch = features[places[drawn]]
      # Reversed, (chosen, rejected) and (wl, ww, ll, lw) are those of the exchanged pair.
      batch = jnp.where(signs[drawn][:, None, None] > 0, batch, batch[:, ::-1])
      return step(state, {}, batch, key, rates[index])[0]

    return jax.lax.fori_loop(0, steps, advance, state).params["head"]

  return jax.jit(learn)
