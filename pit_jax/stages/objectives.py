"""Networks and losses put together: loss_fn(params, frozen, batch, rng) for each kind of model."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from pit_jax.losses import gap, preference
from pit_jax.losses import tokens as token_losses
from pit_jax.models import pure
from pit_jax.rollout import scoring
from pit_jax.types import Demonstrations, GapPreferences, Packed, Params, Preferences

Pair = tuple[Float[Array, " B"], Float[Array, " B"]]  # of chosen and of rejected responses


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


def preference_pairs(model: pure.PureModel) -> Callable:
  """Returns the Bradley–Terry loss of a reward model; the batch is a `Preferences`."""

  def loss_fn(params, frozen, batch: Preferences, rng):
    chosen, rejected = pair_scores(model, params, batch)
    margins, weights = _numbers(batch)
    loss, metrics = preference.bradley_terry_loss(chosen, rejected, margins, weights)
    return loss, metrics | {"weight": weights.sum()}

  return loss_fn


def gap_order(model: pure.PureModel) -> Callable:
  """Returns the five-term loss of a gap reward model; the batch is a `GapPreferences`.

  `frozen["term_weights"]`, Float[5], weighs the terms in the order of `losses.gap.TERMS`.
  """

  def loss_fn(params, frozen, batch: GapPreferences, rng):
    gaps = four_gaps(model, params, batch)
    margins, weights = _numbers(batch)
    loss, metrics = gap.gap_loss(*gaps, frozen["term_weights"], margins, weights)
    return loss, metrics | {"weight": weights.sum()}

  return loss_fn


@functools.cache
def policy_pairs(
  loss: preference.Loss, options: preference.Options
) -> Callable[[pure.PureModel], Callable]:
  """Returns the objective of preference optimisation: model → loss; the batch is a `Preferences`.

  Where the loss has a reference, the batch's columns `reference_chosen` and `reference_rejected`
  are that model's log-probability of each response; an unpaired loss asks it for others too, and
  finds its parameters as `frozen["reference"]`. The same arguments give the same objective, which
  is hence compiled once.

  loss = `preference.dpo_loss` + α · mean_i −log π(y_w | x) / |y_w|, where the options want a sum
  without / |y_w|   (the second term: Pang et al. 2024, arXiv 2404.19733, eq. 1; it holds up the
  probability of what was chosen, which DPO lowers. With ORPO and α = 1 it is that paper's other
  half.)
  """

  def objective(model):
    def loss_fn(params, frozen, batch: Preferences, rng):
      logprobs = pair_logprobs(model, params, batch)
      counts = [jnp.sum(side.mask, axis=1) for side in (batch.chosen, batch.rejected)]
      references = (0.0, 0.0)
      if preference.has_reference(loss, options):
        references = (batch.columns["reference_chosen"], batch.columns["reference_rejected"])
      chosen, rejected = (logprobs[i] - references[i] for i in range(2))

      more = {}
      if options.importance_correction:
        more["corrections"] = jnp.exp(rejected)
      if not loss.is_paired:
        more["kl"] = mismatched_kl(model, params, frozen["reference"], batch)

      _, weights = _numbers(batch)
      scores = (loss.score(chosen, counts[0]), loss.score(rejected, counts[1]))
      total, metrics = preference.dpo_loss(
        *scores, loss=loss, options=options, weights=weights, **more
      )

      imitated = -logprobs[0]
      if options.sft_reduction == "mean":
        imitated = preference.per_token(imitated, counts[0])
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
  """Returns the log-probability of each chosen and each rejected response, in nats.

  They pass in one forward, in which the prompt is read once.
  """
  rows = (batch.prompts, batch.chosen, batch.rejected)
  chosen, rejected = scoring.shared_logprobs(model, params, *rows)
  return chosen.sum(axis=1), rejected.sum(axis=1)


def pair_scores(model: pure.PureModel, params: Params, batch: Preferences) -> Pair:
  """Returns the rewards of the chosen and of the rejected responses, in one forward pass."""
  return scoring.sequence_scores(model, params, batch.prompts, batch.chosen, batch.rejected)


def four_gaps(
  model: pure.PureModel, params: Params, batch: GapPreferences
) -> tuple[Float[Array, " B"], ...]:
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


def _numbers(batch: Preferences | GapPreferences):
  """Returns margins and weights of pairs, which are 0 and 1 where the batch has none."""
  rows = batch.chosen.mask.shape[0]
  return batch.columns.get("margin", 0.0), batch.columns.get("weight", jnp.ones(rows))


def _stack(*records):
  return jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *records)
