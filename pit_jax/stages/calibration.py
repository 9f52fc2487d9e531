"""The scale of a reward: mean 0 and deviation 1 on given samples, once and for all of a run."""

from collections.abc import Callable

import jax
import numpy as np

from pit_jax.stages import context as contexts


def calibrate(
  context: contexts.Context,
  name: str,
  facts: Callable[[], dict],
  sample: Callable[[jax.Array, float], np.ndarray],
) -> dict:
  """Returns gain and bias of mean 0, deviation 1 on given samples, and what is known of the model.

  The scaling is that of Ziegler et al. 2019, recorded in calibration/<name>.json and read from
  there. Facts in nats (accuracy, margin, ece) are of the model as it was; gaps and zero point are
  in the new unit.

  Args:
    context: the run's surroundings.
    name: of the model.
    facts: returns what is known of the model as it is.
    sample: (key, temperature) → its scores of the samples, Float[N].

  Raises:
    ValueError: the scores do not differ, or are not finite, so that they have no scale.
  """
  known = context.read_json("calibration", f"{name}.json")
  if known is None:
    key = jax.random.fold_in(context.key(name), 1)
    scores = sample(key, context.config.rl.temperature)
    gain = 1.0 / _deviation(name, scores)
    known = facts() | {"gain": gain, "bias": -float(scores.mean()) * gain}
    for entry in ("zero_point", "gaps"):
      if entry in known:
        known[entry] = jax.tree.map(
          lambda x: np.asarray(x * known["gain"] + known["bias"]).tolist(), known[entry]
        )
    known = jax.tree.map(lambda x: x if isinstance(x, list) else float(x), known)
    context.write_json(known, "calibration", f"{name}.json")
  return known


def _deviation(name: str, scores: np.ndarray) -> float:
  """Returns the standard deviation of scores, which has to be more than their rounding."""
  deviation, mean = float(scores.std()), float(scores.mean())
  if not deviation > 1e-5 * max(1.0, abs(mean)):  # nor where one is not finite
    raise ValueError(
      f"{name} gives {len(scores)} samples the scores {mean:.6g} ± {deviation:.2g}: it tells none "
      "from another, so there is no scale and nothing to learn; look at its metrics, and train it "
      "longer or at another learning rate, or validate on more rows (data.validation). Of "
      "rp_difference it says that the improver copies every draft: ablations=False leaves it out"
    )
  return deviation
