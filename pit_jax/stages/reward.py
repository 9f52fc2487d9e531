"""Reward model and gap reward model, trained on pairs and calibrated on a part that validates.

R_P may be a published model instead, of any family: it is calibrated and not trained.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax import hosts
from pit_jax.data import conversations, encode, preferences, prompt_formats, rows, tables
from pit_jax.models import pure
from pit_jax.rollout import classifiers
from pit_jax.run import context as contexts
from pit_jax.run import published_models
from pit_jax.stages import (
  calibration,
  classifier_units,
  objectives,
  pair_columns,
  rl,
  supervised,
  trained,
)
from pit_jax.types import GapPreferences, Params, Preferences, Prompts, Responses

Shown = Callable[[Sequence[rows.Preference]], Sequence[prompt_formats.Conversation]]


@dataclasses.dataclass(frozen=True)
class RewardModel(trained.Trained):
  """A calibrated reward model, and facts such as its accuracy and scale.

  `params` have the gain of the calibration folded into the head, which has no bias; they are None
  of a published model that transformers computes in PyTorch. Of an ensemble they are the mean,
  whose head is the mean of the members' heads. `facts` are accuracy and calibration on the
  validation part; of a gap model also the four gaps of each pair and the zero point; of an ensemble
  the disagreement, the deviation of its members' margins from each other, in nats; of a published
  model, which took no steps, also the share of pairs it saw shortened.
  """

  params: Params | None
  published: classifiers.Classifier | None = None  # reads tokens of its own; None: the run's
  fits: bool = True  # whether other scalar models of the run can start from its trunk
  members: np.ndarray | None = None  # heads of an ensemble, Float[k D], in the model's unit
  pessimism: float = 0.0  # what RL takes off for each deviation of their scores


def run(
  context: contexts.Context,
  name: str,
  fold: preferences.Fold,
  *,
  start: Params,
  job: ml_collections.ConfigDict,
  sampler: Params | None,
  shown: Shown | None = None,
) -> RewardModel:
  """Trains R_P on (x, y_w, y_l), and calibrates it on the validation part.

  Args:
    name: the stage's name.
    fold: the pairs to train on, and those to validate on.
    start: the model whose trunk to start from.
    job: the section of the configuration.
    sampler: the language model whose samples set the scale, M_P^SFT; None: the validation part's
      responses do.
    shown: rows → the conversation that each row's responses follow; None: its prompt, as the policy
      is shown it.

  Raises:
    ValueError: fewer than two pairs validate, or they all have one score.
  """
  if len(fold.validation) < 2:
    raise ValueError(
      f"{name}: {len(fold.validation)} of its pairs validate, and a scale needs 2 or more; use "
      "more rows, or more of data.validation"
    )
  encoding = encode.preferences if shown is None else functools.partial(_following, shown)
  train, validation, known = _encoded(context, name, encoding, fold, job)

  def facts(params):
    scores = _scores(context, validation, _pairs, params)
    return _of_members(scores["chosen"] - scores["rejected"]) | known

  result = _train(context, name, objectives.preference_pairs, start, train, job, facts)
  sample = functools.partial(_sampled, context, validation, _pairs, mean(result.params), sampler)
  return _calibrated(context, name, result, facts, sample, job.pessimism)


def _following(shown: Shown, part: Sequence[rows.Preference], *how: Any) -> tables.Table:
  """Encodes pairs of responses after conversations of other formats than the policy's."""
  sides = ([getattr(row, side) for row in part] for side in ("chosen", "rejected"))
  return encode.pairs(shown(part), *sides, *how)


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
    return scored(context, model)
  return rl.shifted(rl.published_reward(context, model.published, questions), model.facts["shift"])


def scored(context: contexts.Context, model: RewardModel) -> rl.RewardFn:
  """Returns a trained model, R_P or R_PIT, as a reward with mean 0 on samples; see `signal`.

  Of an ensemble it is the mean of the members less their deviation times the pessimism (Coste et
  al. 2024, arXiv 2310.02743, eq. 5, with the deviation in place of the variance).
  """
  shift = model.facts["shift"]
  if model.members is None:
    return rl.shifted(rl.model_reward(context, model.params), shift)
  network = pure.ensemble(context.models.scalar.config, len(model.members))
  params = {**model.params, "head": model.members}
  return rl.ensemble_reward(context, network, params, model.pessimism, shift)


def mean(params: Params) -> Params:
  """Returns the parameters of a scalar model as of one, whose head is the mean of its members'."""
  head = params["head"]
  return params if head.ndim == 1 else {**params, "head": head.mean(axis=0)}


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
  """Returns a scalar model's scores of the validation part, of each pair that it is asked.

  They are Float[N], or of an ensemble Float[N k].
  """
  asking = context.models.inference
  if params["head"].ndim == 2:
    network = pure.ensemble(asking.scalar.config, len(params["head"]))
    asking = dataclasses.replace(asking, scalar=network)
  asked = pairs(validation[:])
  return dict(zip(asked, asking.score_all(params, *asked.values()), strict=True))


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
  train, validation, known = _encoded(context, name, encode.gap_preferences, fold, job)

  def facts(params):
    return _gap_facts(_scores(context, validation, _gap_pairs, params)) | known

  frozen = {"term_weights": jnp.asarray(job.term_weights, jnp.float32)}
  result = _train(context, name, objectives.gap_order, start, train, job, facts, frozen)
  samples = (context, validation, _gap_pairs, mean(result.params), sampler)
  sample = functools.partial(_sampled, *samples)
  return _calibrated(context, name, result, facts, sample, job.pessimism)


def _of_members(margins: np.ndarray) -> dict:
  """Returns what margins, Float[N] or of an ensemble Float[N k], say of a model."""
  if margins.ndim == 1:
    return calibration.pair_facts(margins)
  disagreement = float(margins.std(axis=1).mean())
  return calibration.pair_facts(margins.mean(axis=1)) | {"disagreement": disagreement}


def _gap_facts(gaps: dict[str, np.ndarray]) -> dict:
  """Returns what the four gaps of the validation part, Float[N] each, say of a gap model.

  Those of an ensemble are Float[N k].
  """
  known = _of_members(gaps["wl"] - gaps["lw"])
  gaps = {name: values.reshape(len(values), -1).mean(axis=1) for name, values in gaps.items()}
  # The order that `losses.gap` trains; ww and ll compare equals, and have none between them.
  order = (gaps["wl"] >= gaps["ww"]) & (gaps["wl"] >= gaps["ll"])
  order &= (gaps["ww"] >= gaps["lw"]) & (gaps["ll"] >= gaps["lw"])

  # A response that is compared with itself is no better: where that lies is zero.
  identical = np.concatenate([gaps["ww"], gaps["ll"]])
  return {
    **known,
    "order": order.mean(),
    "zero_point": identical.mean(),
    "gaps": gaps,
  }


def _encoded(
  context: contexts.Context,
  name: str,
  encode_pairs: Callable,
  fold: preferences.Fold,
  job: ml_collections.ConfigDict,
) -> tuple[tables.Table, tables.Table, dict[str, float]]:
  """Returns the pairs to train on, those to validate on, and facts; see `pair_columns.added`."""
  how = (context.rows.settings, context.rows.tokens)
  train, validation = (encode_pairs(part, *how) for part in (fold.rows, fold.validation))
  train, known = pair_columns.added(train, fold.rows, job, context.seed(f"{name} members"))
  return train, validation, known


def _train(
  context, name, objective, start, table, job, facts: Callable, frozen=None
) -> trained.Trained:
  shown = ("accuracy", "margin", "ece", "order", "disagreement")
  model, objective = objectives.learning(context.models.scalar, objective, job)

  def evaluate(params):
    return {f"reward_model/{key}": fact for key, fact in facts(params).items() if key in shown}

  # Only the trunk is taken over: the head of `start` answers another question.
  result = supervised.run(
    context,
    name,
    model,
    objective,
    pure.complete(model, context.key(f"{name} head"), {"trunk": start["trunk"]}),
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
  context, name, result: trained.Trained, facts: Callable, sample: Callable, pessimism: float
) -> RewardModel:
  """Scales a model as `calibration.calibrate` does; the gain is folded into the head."""
  params = result.params
  calibrated = calibration.calibrate(context, name, lambda: facts(params), sample)
  # The model has no bias, so the head alone sets the unit; the shift is added by RL.
  scaled = {**params, "head": params["head"] * calibrated["gain"]}
  is_ensemble = scaled["head"].ndim == 2
  members = np.asarray(hosts.fetch(scaled["head"])) if is_ensemble else None
  # The calibration says what was logged of the step, and more.
  steps = {key: result.facts[key] for key in ("steps", "step")}
  models = {"members": members, "pessimism": pessimism}
  return RewardModel(context.models.waiting(mean(scaled)), calibrated | steps, **models)
