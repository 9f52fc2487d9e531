"""Networks and losses put together: loss_fn(params, frozen, batch, rng) for each kind of model."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_collections
from jaxtyping import Array, Float

from pit_jax.losses import gap, preference
from pit_jax.losses import tokens as token_losses
from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.types import Demonstrations, GapPreferences, Packed, Params, Preferences

# Of chosen and of rejected responses; of an ensemble of k members Float[B k] each.
Pair = tuple[Float[Array, "B *members"], Float[Array, "B *members"]]


def imitation(model: pure.PureModel) -> Callable:
  """Returns the loss of supervised fine-tuning; the batch is a `Demonstrations` or a `Packed`."""

  def loss_fn(params, frozen, batch: Demonstrations | Packed, rng):
    if isinstance(batch, Packed):
      logprobs = scoring.packed_logprobs(model, params, batch)
      mask = batch.is_response
    else:
      logprobs, _ = scoring.response_logprobs(model, params, batch.prompts, batch.responses)
      mask = batch.responses.mask

    loss, metrics = token_losses.sft_loss(logprobs, mask)
    return loss, metrics | {"weight": mask.sum().astype(jnp.float32)}

  return loss_fn


@functools.cache
def preference_pairs(
  kept: preference.Regularisation = preference.UNREGULARISED,
) -> Callable[[pure.PureModel], Callable]:
  """Returns the objective of a reward model: model → loss; the batch is a `Preferences`.

  Each member of an ensemble learns by itself, from the pairs of its bootstrap sample.
  """

  def objective(model):
    def loss_fn(params, frozen, batch: Preferences, rng):
      scores = pair_scores(model, _unbiased(params, kept), batch)
      labels = _labels(batch, scores[0])
      loss, metrics = preference.bradley_terry_loss(*_flat(*scores), labels, kept)
      return loss, metrics | {"weight": labels.weights.sum()}

    return loss_fn

  return objective


@functools.cache
def gap_order(
  kept: preference.Regularisation = preference.UNREGULARISED,
) -> Callable[[pure.PureModel], Callable]:
  """Returns the objective of a gap reward model: model → loss; the batch is a `GapPreferences`.

  `frozen["term_weights"]`, Float[5], weighs the terms in the order of `losses.gap.TERMS`.
  """

  def objective(model):
    def loss_fn(params, frozen, batch: GapPreferences, rng):
      gaps = four_gaps(model, _unbiased(params, kept), batch)
      labels = _labels(batch, gaps[0])
      loss, metrics = gap.gap_loss(*_flat(*gaps), frozen["term_weights"], labels, kept)
      return loss, metrics | {"weight": labels.weights.sum()}

    return loss_fn

  return objective


def learning(
  scalar: pure.PureModel,
  objective: Callable[[preference.Regularisation], Callable],
  job: ml_collections.ConfigDict,
) -> tuple[pure.PureModel, Callable]:
  """Returns what a section of a reward model trains, and the objective of it.

  Args:
    scalar: the network of one score.
    objective: `preference_pairs` or `gap_order`.
    job: the section.
  """
  model = scalar if job.members == 1 else pure.ensemble(scalar.config, job.members)
  kept = preference.Regularisation(job.label_smoothing, job.centring, job.get("focal", 0.0))
  return model, objective(kept)


def _unbiased(params: Params, kept: preference.Regularisation) -> Params:
  """Returns parameters that centre their scores themselves: no bias stays with a model."""
  return {**params, "bias": jnp.zeros_like(params["bias"])} if kept.centring else params


def _flat(*scores: Float[Array, "B *members"]) -> list[Float[Array, " rows"]]:
  """Returns scores as of one pair for each pair and member."""
  return [score.reshape(-1) for score in scores]


def _labels(
  batch: Preferences | GapPreferences, scores: Float[Array, "B *members"]
) -> preference.Labels:
  """Returns what the batch's columns know of its labels, for every score; see `types.Columns`."""
  names = {"margin": "margins", "label_probability": "probabilities", "offset": "offsets"}
  known = {names[name]: batch.columns[name] for name in names.keys() & batch.columns.keys()}
  weights = batch.columns.get("weight", jnp.ones(scores.shape[0]))
  if scores.ndim == 1:
    return preference.Labels(weights=weights, **known)

  known = {name: jnp.repeat(column, scores.shape[1]) for name, column in known.items()}
  draws = jnp.stack([batch.columns[draw_of(i)] for i in range(scores.shape[1])], axis=1)
  return preference.Labels(weights=(weights[:, None] * draws).reshape(-1), **known)


def draw_of(member: int) -> str:
  """Returns the column that says how often a member's bootstrap sample has each pair."""
  return f"draw_{member}"


@functools.cache
def policy_pairs(
  loss: preference.Loss, options: preference.Options
) -> Callable[[pure.PureModel], Callable]:
  """Returns the objective of preference optimisation: model → loss; the batch is a `Preferences`.

  Where the loss has a reference, the batch's columns `reference_chosen` and `reference_rejected`
  are that model's log-probability of each response, of tokens weighted as the options say; an
  unpaired loss asks it for others too, and finds its parameters as `frozen["reference"]`. The same
  arguments give the same objective, which is hence compiled once.

  loss = `preference.dpo_loss` + α · mean_i −log π(y_w | x) / |y_w|, where the options want a sum
  without / |y_w|   (the second term: Pang et al. 2024, arXiv 2404.19733, eq. 1; it holds up the
  probability of what was chosen, which DPO lowers. With ORPO and α = 1 it is that paper's other
  half.)
  """

  def objective(model):
    def loss_fn(params, frozen, batch: Preferences, rng):
      sides = (batch.chosen, batch.rejected)
      by_token = pair_token_logprobs(model, params, batch)
      # Without its weights the first of them is what is imitated, and both are logged.
      logprobs = [side.sum(axis=1) for side in by_token]
      masks = [jnp.asarray(side.mask) for side in sides]
      counted = [preference.token_weights(mask, options.token_weights) for mask in masks]
      weighted = [(by_token[i] * counted[i]).sum(axis=1) for i in range(2)]
      counts = [one.sum(axis=1) for one in counted]
      references = (0.0, 0.0)
      if preference.has_reference(loss, options):
        references = (batch.columns["reference_chosen"], batch.columns["reference_rejected"])
      chosen, rejected = (weighted[i] - references[i] for i in range(2))

      more = {}
      if options.importance_correction:
        more["corrections"] = jnp.exp(rejected)
      if not loss.is_paired:
        more["kl"] = mismatched_kl(model, params, frozen["reference"], batch)

      weights = batch.columns.get("weight", jnp.ones(batch.chosen.mask.shape[0]))
      scores = (loss.score(chosen, counts[0]), loss.score(rejected, counts[1]))
      total, metrics = preference.dpo_loss(
        *scores, loss=loss, options=options, weights=weights, **more
      )

      imitated = -logprobs[0]
      if options.sft_reduction == "mean":
        imitated = preference.per_token(imitated, masks[0].sum(axis=1))
      sft_loss = preference.weighted_mean(imitated, weights)
      metrics |= {
        "chosen_logprob": preference.weighted_mean(logprobs[0], weights),
        "rejected_logprob": preference.weighted_mean(logprobs[1], weights),
        "sft_loss": sft_loss,
        "weight": weights.sum(),
      }

      total = total + options.sft_coefficient * sft_loss
      return total, metrics | {"loss": total}

    return loss_fn

  return objective


def mismatched_kl(
  model: pure.PureModel, params: Params, reference: Params, batch: Preferences
) -> Float[Array, ""]:
  """Returns the estimate of KL(π ‖ π_ref) by which KTO judges a response, in nats and at least 0.

  z = max(0, mean_i log π(y_j | x_i) − log π_ref(y_j | x_i)), where y_j are the two responses to the
  prompt before x_i in the batch (Ethayarajh et al. 2024; so TRL's KTOTrainer has it). It has no
  gradient.
  """
  params = jax.lax.stop_gradient(params)
  others = mismatched(batch)
  logprobs = (jnp.concatenate(pair_logprobs(model, tree, others)) for tree in (params, reference))
  return jnp.maximum(jnp.subtract(*logprobs).mean(), 0.0)


def mismatched(batch: Preferences) -> Preferences:
  """Returns each prompt with the responses to the one before it, the first with the last one's."""
  chosen, rejected = jax.tree.map(
    lambda leaf: jnp.roll(leaf, 1, axis=0), (batch.chosen, batch.rejected)
  )
  return batch.replace(chosen=chosen, rejected=rejected)


def pair_logprobs(model: pure.PureModel, params: Params, batch: Preferences) -> Pair:
  """Returns the log-probability of each chosen and each rejected response, in nats."""
  chosen, rejected = pair_token_logprobs(model, params, batch)
  return chosen.sum(axis=1), rejected.sum(axis=1)


def pair_token_logprobs(
  model: pure.PureModel, params: Params, batch: Preferences
) -> tuple[Float[Array, "B R"], Float[Array, "B R"]]:
  """Returns the log-probability of each token of the chosen and of the rejected responses, in nats.

  They pass in one forward, in which the prompt is read once.
  """
  rows = (batch.prompts, batch.chosen, batch.rejected)
  chosen, rejected = scoring.shared_logprobs(model, params, *rows)
  return chosen, rejected


def pair_scores(model: pure.PureModel, params: Params, batch: Preferences) -> Pair:
  """Returns the rewards of the chosen and of the rejected responses, in one forward pass."""
  return scoring.sequence_scores(model, params, batch.prompts, batch.chosen, batch.rejected)


def four_gaps(
  model: pure.PureModel, params: Params, batch: GapPreferences
) -> tuple[Float[Array, "B *members"], ...]:
  """Returns r(w,l), r(w,w), r(l,l) and r(l,w), in one forward pass.

  r(a, b) is the score of response a after a prompt that shows reference b.
  """
  prompts = _stack(batch.given_rejected, batch.given_chosen)
  # Each of the two prompts is read once for both responses after it.
  responses = (_stack(batch.chosen, batch.chosen), _stack(batch.rejected, batch.rejected))
  chosen, rejected = scoring.sequence_scores(model, params, prompts, *responses)
  return (*jnp.split(chosen, 2), *jnp.split(rejected, 2))


def reading(batch: Demonstrations | Packed | Preferences | GapPreferences) -> dict[str, float]:
  """Returns the tokens that the loss of a batch reads, and the share of padding among their places.

  What several responses follow is read once, and a response after each prompt that it follows.
  """
  if isinstance(batch, Packed):
    parts = [batch]
  elif isinstance(batch, Demonstrations):
    parts = [batch.prompts, batch.responses]
  elif isinstance(batch, Preferences):
    parts = [batch.prompts, batch.chosen, batch.rejected]
  else:
    parts = [batch.given_chosen, batch.given_rejected, *2 * [batch.chosen, batch.rejected]]

  read = float(sum(part.mask.sum() for part in parts))
  return {"tokens/read": read, "tokens/padding": 1 - read / sum(part.mask.size for part in parts)}


def _stack(*records):
  return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *records)
