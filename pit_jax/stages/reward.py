"""Reward model and gap reward model, trained on pairs and calibrated on a part that validates.

R_P may be a published model instead, of any family: it is calibrated and not trained.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax.data import conversations, encode, preferences, tables
from pit_jax.models import pure
from pit_jax.rollout import classifiers
from pit_jax.run import context as contexts
from pit_jax.run import published_models
from pit_jax.stages import calibration, classifier_units, objectives, rl, supervised, trained
from pit_jax.types import GapPreferences, Params, Preferences, Prompts, Responses


@dataclasses.dataclass(frozen=True)
class RewardModel(trained.Trained):
  """A calibrated reward model, and facts such as its accuracy and scale.

  `params` have the gain of the calibration folded into the head, which has no bias; they are None
  of a published model that transformers computes in PyTorch. `facts` are accuracy and calibration
  on the validation part; of a gap model also the four gaps of each pair and the zero point; of a
  published model, which took no steps, also the share of pairs it saw shortened.
  """

  params: Params | None
  published: classifiers.Classifier | None = None  # reads tokens of its own; None: the run's
  fits: bool = True  # whether other scalar models of the run can start from its trunk


def run(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  *,
  start: Params,
  job: ml_collections.ConfigDict,
  sampler: Params | None,
) -> RewardModel:
  """Trains R_P on (x, y_w, y_l), and calibrates it on the validation part.

  Args:
    name: the stage's name.
    fold: the pairs to train on, and those to validate on.
    start: the model whose trunk to start from.
    job: the section of the configuration.
    sampler: the language model whose samples set the scale, M_P^SFT; None: the validation part's
      responses do.
  """
  train, validation = _encoded(context, encode.preferences, fold, job.margin_scale)

  def facts(params):
    scores = _scores(context, validation, _pairs, params)
    return calibration.pair_facts(scores["chosen"] - scores["rejected"])

  result = _train(context, name, objectives.preference_pairs, start, train, job, facts)
  sample = functools.partial(_sampled, context, validation, _pairs, result.params, sampler)
  return _calibrated(context, name, result, facts, sample)


def published(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  model: published_models.Published,
  sampler: Params | None,
) -> RewardModel:
  """Returns a published model that is R_P: calibrated as `run` does, and not trained."""
  classifier, facts = classifier_units.calibrated(context, name, fold.validation, model, sampler)
  fits = model.fits(context.models.scalar.config, context.rows.settings.tokenizer)
  return RewardModel(classifier.params, facts, classifier, fits)


def rating(
  context: contexts.Context, model: RewardModel
) -> Callable[[Sequence[conversations.Prompt], Sequence[str]], np.ndarray]:
  """Returns R_P in words: (questions, answers) → score of each answer, Float[N]."""
  if model.published is None:
    return functools.partial(context.models.inference.rate, model.params)
  return model.published.rate


def signal(
  context: contexts.Context, model: RewardModel, questions: Sequence[conversations.Prompt]
) -> rl.RewardFn:
  """Returns R_P as what the policy's RL maximises: with mean 0 on samples of M_P^SFT."""
  if model.published is None:
    scores = rl.model_reward(context, model.params)
  else:
    scores = rl.published_reward(context, model.published, questions)

  return rl.shifted(scores, model.facts["shift"])


def first_value(context: contexts.Context, model: RewardModel, policy_sft: Params) -> Params:
  """Returns the first value model of the policy: R_P, or where that does not fit M_P^SFT's trunk.

  It counts from the zero of `signal`. The head on that trunk is a fresh one.
  """
  if model.fits:
    return centred(model)
  return pure.complete(
    context.models.scalar, context.key("value head"), {"trunk": policy_sft["trunk"]}
  )


def centred(model: RewardModel) -> Params:
  """Returns reward-model parameters whose scores have mean 0 on samples, as RL wants them."""
  return {**model.params, "bias": np.float32(model.facts["shift"])}


def _pairs(held: Preferences) -> dict[str, tuple[Prompts, Responses]]:
  """Returns what R_P is asked of a batch."""
  return {"chosen": (held.prompts, held.chosen), "rejected": (held.prompts, held.rejected)}


def _gap_pairs(held: GapPreferences) -> dict[str, tuple[Prompts, Responses]]:
  """Returns what R_PIT is asked of a batch, for its four gaps."""
  # The first letter names the response, the second the reference that the prompt shows.
  return {
    "wl": (held.given_rejected, held.chosen),
    "ww": (held.given_chosen, held.chosen),
    "ll": (held.given_rejected, held.rejected),
    "lw": (held.given_chosen, held.rejected),
  }


def _scores(
  context: contexts.Context, validation: tables.Table, pairs: Callable, params: Params
) -> dict[str, np.ndarray]:
  """Returns a scalar model's scores of the validation part, Float[N] of each pair it is asked."""
  asking = context.models.inference
  return {name: asking.score(params, *pair) for name, pair in pairs(validation[:]).items()}


def _sampled(context, validation, pairs, params, sampler, key, temperature) -> np.ndarray:
  """Returns the scores that set a scale: of samples, one per prompt, or of the validation part."""
  if sampler is None:
    return np.concatenate([*_scores(context, validation, pairs, params).values()])
  prompts, _ = next(iter(pairs(validation[:]).values()))
  responses = context.models.inference.respond(sampler, prompts, key, temperature)
  return context.models.inference.score_samples(params, prompts, responses)


def gap(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  *,
  start: Params,
  job: ml_collections.ConfigDict,
  sampler: Params | None,
) -> RewardModel:
  """Trains R_PIT on the five orderings of (x, y_w, y_l), and calibrates it; see `run`.

  The sampler is M_PIT^SFT; without one the gaps of the validation part set the scale.
  """
  train, validation = _encoded(context, encode.gap_preferences, fold, job.margin_scale)

  def facts(params):
    return _gap_facts(_scores(context, validation, _gap_pairs, params))

  frozen = {"term_weights": jnp.asarray(job.term_weights, jnp.float32)}
  result = _train(context, name, objectives.gap_order, start, train, job, facts, frozen)
  sample = functools.partial(_sampled, context, validation, _gap_pairs, result.params, sampler)
  return _calibrated(context, name, result, facts, sample)


def _gap_facts(gaps: dict[str, np.ndarray]) -> dict:
  """Returns what the four gaps of the validation part, Float[N] each, say of a gap model."""
  # The order that `losses.gap` trains; ww and ll compare equals, and have none between them.
  order = (gaps["wl"] >= gaps["ww"]) & (gaps["wl"] >= gaps["ll"])
  order &= (gaps["ww"] >= gaps["lw"]) & (gaps["ll"] >= gaps["lw"])

  # A response that is compared with itself is no better: where that lies is zero.
  identical = np.concatenate([gaps["ww"], gaps["ll"]])
  return {
    **calibration.pair_facts(gaps["wl"] - gaps["lw"]),
    "order": order.mean(),
    "zero_point": identical.mean(),
    "gaps": gaps,
  }


def _encoded(
  context: contexts.Context, encode_pairs: Callable, fold: preferences.Fold, margin_scale: float
) -> tuple[tables.Table, tables.Table]:
  """Returns the pairs to train on, with their margins where these count, and those to validate on.

  Raises:
    ValueError: margins are to count, and no row has one.
  """
  rows = fold.rows
  how = (context.rows.settings, context.rows.tokens)
  train, validation = (encode_pairs(part, *how) for part in (rows, fold.validation))
  if not margin_scale:
    return train, validation

  if all(row.margin is None for row in rows):
    raise ValueError(
      f"margin_scale={margin_scale} and none of {len(rows)} rows of the reward fold has one; use "
      "margin_scale=0, or data with a column `margin`"
    )

  # Encoding may have dropped rows; `index` says of each that is left which one it was.
  margins = np.array([row.margin or 0.0 for row in rows], np.float32)[train.contents.index]
  return train.with_columns(margin=np.float32(margin_scale) * margins), validation


def _train(
  context, name, objective, start, table, job, facts: Callable, frozen=None
) -> trained.Trained:
  shown = ("accuracy", "margin", "ece", "order")

  def evaluate(params):
    return {f"reward_model/{key}": fact for key, fact in facts(params).items() if key in shown}

  # Only the trunk is taken over: the head of `start` answers another question.
  result = supervised.run(
    context,
    name,
    context.models.scalar,
    objective,
    pure.complete(context.models.scalar, context.key(f"{name} head"), {"trunk": start["trunk"]}),
    table,
    job,
    frozen=frozen,
    evaluate=evaluate,
    score=(f"reward_model/{'order' if frozen else 'accuracy'}", "highest"),
  )

  # In differences the bias cancels; all that can have moved it is the rounding of its gradient.
  params = {**result.params, "bias": result.params["bias"] * 0}
  return trained.Trained(params, result.facts)


def _calibrated(
  context, name, result: trained.Trained, facts: Callable, sample: Callable
) -> RewardModel:
  """Scales a model as `calibration.calibrate` does; the gain is folded into the head."""
  params = result.params
  calibrated = calibration.calibrate(context, name, lambda: facts(params), sample)
  # The model has no bias, so the head alone sets the unit; the shift is added by RL.
  scaled = {**params, "head": params["head"] * calibrated["gain"]}
  # The calibration says what was logged of the step, and more.
  steps = {key: result.facts[key] for key in ("steps", "step")}
  return RewardModel(context.models.waiting(scaled), calibrated | steps)
