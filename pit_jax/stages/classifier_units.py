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
  """Returns a published reward model in the run's unit, and what is known of it.

  Args:
    context: configuration, data, models and folder of the run.
    name: under which the calibration is recorded.
    rows: pairs on which it is measured and calibrated.
    model: the model, its weights unread.
    sampler: M_P^SFT, whose samples set the scale; None: the responses of the rows do.

  Returns:
    The classifier, and facts as of a `reward.RewardModel`; `cut` is the share of the pairs
    that it read shortened.
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
