"""The unit of a reward, once and for all of a run: given samples have deviation 1.

Where a score's zero lies is arbitrary: reward models learn differences. No bias hence makes part of
a model, whose scores are those of a head without one, as transformers knows no other. RL is given
them shifted, so that the samples have mean 0: γ < 1 and whitened rewards depend on it.
"""

from collections.abc import Callable

import jax
import numpy as np

from pit_jax.run import context as contexts
from pit_jax.statistics import metrics as statistics


def calibrate(
  context: contexts.Context,
  name: str,
  facts: Callable[[], dict],
  sample: Callable[[jax.Array, float], np.ndarray],
) -> dict:
  """Returns gain and shift of mean 0, deviation 1 on given samples, and what is known of the model.

  Scores as RL is given them are gain · (score as it was) + shift (Ziegler et al. 2019, §2.1); the
  model's own, in the new unit, are gain · (score as it was). Both numbers are recorded in
  calibration/<name>.json and read from there. Facts in nats (accuracy, margin, ece) are of the
  model as it was; gaps and zero point are the model's own, in the new unit.

  Args:
    name: of the model.
    facts: returns what is known of the model as it is.
    sample: (key, temperature) → its scores of the samples, Float[N].

  Raises:
    ValueError: the scores do not differ, or are not finite, so that they have no scale; or the file
      is of an earlier version, which counted from another zero.
  """
  recorded = context.read_json("calibration", f"{name}.json")
  if recorded is not None and "shift" not in recorded:
    raise ValueError(
      f"{context.workdir / 'calibration' / name}.json is of an earlier version, whose scores count "
      "from another zero; use another --workdir"
    )

  if recorded is None:
    key = jax.random.fold_in(context.key(name), 1)
    scores = sample(key, context.config.temperature)
    gain = 1.0 / deviation(name, scores)
    recorded = facts() | {"gain": gain, "shift": -float(scores.mean()) * gain}

    # Margin and ece stay in nats, where σ(margin) is a probability.
    for entry in recorded.keys() & {"zero_point", "gaps"}:
      recorded[entry] = jax.tree.map(lambda x: np.asarray(x * gain).tolist(), recorded[entry])

    recorded = jax.tree.map(lambda x: x if isinstance(x, list) else float(x), recorded)
    context.write_json(recorded, "calibration", f"{name}.json")

  return recorded


def deviation(name: str, scores: np.ndarray) -> float:
  """Returns the standard deviation of scores, which has to be more than their rounding."""
  deviation = float(scores.std())
  mean = float(scores.mean())
  # float32 has seven digits: what differs in the last two is rounding. `not >` refuses NaN too.
  if not deviation > 1e-5 * max(1.0, abs(mean)):
    hint = (
      ". It says that the improver copies every draft: ablations=False leaves it out"
      if name == "rp_difference"
      else ""
    )
    raise ValueError(
      f"{name} gives {len(scores)} samples the scores {mean:.6g} ± {deviation:.2g}: it tells none "
      "from another, so there is no scale and nothing to learn; look at its metrics, and train it "
      f"longer or at another learning rate, or validate on more rows (data.validation){hint}"
    )

  return deviation


def pair_facts(margins: np.ndarray) -> dict:
  """Returns what a reward model's margins, chosen minus rejected in nats, say of it."""
  return {
    "n": len(margins),
    "accuracy": float((margins > 0).mean()),
    "margin": float(margins.mean()),
    "ece": statistics.expected_calibration_error(margins, np.ones(len(margins), bool)),
  }
