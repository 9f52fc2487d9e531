"""A published reward model in the unit of a run: calibrated, and not trained."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pit_jax.data import rows as data_rows
from pit_jax.rollout import classifiers
from pit_jax.run import context as contexts
from pit_jax.run import published_models
from pit_jax.stages import calibration
from pit_jax.types import Params


def calibrated(
  context: contexts.Context,
  name: str,
  rows: Sequence[data_rows.Preference],
  model: published_models.Published,
  sampler: Params | None,
) -> tuple[classifiers.Classifier, dict]:
  """Returns a published reward model in the run's unit, and facts as of a `reward.RewardModel`.

  It is measured and calibrated on pairs; `cut` is the share of them that it read shortened. Samples
  of M_P^SFT, the sampler, set the scale, or without one the responses of the pairs.
  """
  classifier = model.load(context.mesh, context.config.inference_batch_size)
  questions = [row.prompt for row in rows]
  sides = [[row.chosen for row in rows], [row.rejected for row in rows]]

  def sample(key, temperature):
    if sampler is None:
      return np.concatenate([classifier.rate(questions, answers) for answers in sides])
    answers = context.models.inference.answer(sampler, questions, key, temperature)
    return classifier.rate(questions, answers)

  def facts():
    chosen, rejected = (classifier.rate(questions, answers) for answers in sides)
    cut = [classifier.reader.read(questions, answers).is_cut for answers in sides]
    return calibration.pair_facts(chosen - rejected) | {"cut": np.any(cut, axis=0).mean()}

  recorded = calibration.calibrate(context, name, facts, sample)
  scaled = classifier.scaled(recorded["gain"])
  if scaled.params is not None:
    scaled = dataclasses.replace(scaled, params=context.models.waiting(scaled.params))
  return scaled, recorded
