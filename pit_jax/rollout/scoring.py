"""Scoring of responses: log-probabilities, rewards, values."""

import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from pit_jax import layout
from pit_jax.losses import tokens as token_losses
from pit_jax.models import pure
from pit_jax.types import Packed, Params, PerRow, PerToken, Prompts, Responses

LOGITS = 2**23  # how many exist at a time on a device, about; 32 MiB of them


def join(prompts: Prompts, *responses: Responses) -> tuple[Array, Array]:
  """Returns the tokens and the mask of [prompt | response | …], Int and Bool [B P+R+…]."""
  tokens = jnp.concatenate([prompts.tokens, *(part.tokens for part in responses)], axis=1)
  return tokens, jnp.concatenate([prompts.mask, *(part.mask for part in responses)], axis=1)


def response_logprobs(
  model: pure.PureModel,
  params: Params,
  prompts: Prompts,
  responses: Responses,
  temperature: Float[Array, ""] | float = 1.0,
) -> tuple[PerToken, PerToken]:
  """Returns each response token's log-probability and its distribution's entropy, in nats.

  Both are 0 on padding. The temperature divides the logits, as it does in sampling.
  """
  tokens, mask = join(prompts, responses)
  length = responses.tokens.shape[1]
  # The logits at position t are about token t+1: those of the response start one place before it.
  hidden = model.apply(params, tokens, mask, last=length + 1, method="hidden")[:, :-1]
  logprobs, entropy = _under(model, params, hidden, responses.tokens, temperature)
  return jnp.where(responses.mask, logprobs, 0.0), jnp.where(responses.mask, entropy, 0.0)


def shared_logprobs(
  model: pure.PureModel, params: Params, prompts: Prompts, *responses: Responses
) -> tuple[PerToken, ...]:
  """Returns the log-probability of each token of several responses to a prompt, in nats.

  The prompt is read once, as in `sequence_scores`, so each response has the log-probabilities of
  [prompt | response]. They are 0 on padding. No response is 0 tokens wide.
  """
  tokens, mask = join(prompts, *responses)
  parts: tuple[Prompts | Responses, ...] = (prompts, *responses)
  lengths = tuple(part.tokens.shape[1] for part in parts)
  options = {"segments": lengths, "last": sum(lengths[1:]) + 1, "method": "hidden"}
  hidden = model.apply(params, tokens, mask, **options)

  # The logits at a place are about the next one, and every response follows the prompt's last.
  starts = list(itertools.accumulate(lengths[1:], initial=1))
  before = [
    part
    for start, end in itertools.pairwise(starts)
    for part in (hidden[:, :1], hidden[:, start : end - 1])
  ]
  targets = jnp.concatenate([part.tokens for part in responses], axis=1)
  logprobs, _ = _under(model, params, jnp.concatenate(before, axis=1), targets)
  logprobs = jnp.where(mask[:, lengths[0] :], logprobs, 0.0)
  return tuple(logprobs[:, start - 1 : end - 1] for start, end in itertools.pairwise(starts))


def packed_logprobs(model: pure.PureModel, params: Params, batch: Packed) -> Float[Array, "B T"]:
  """Returns each response token's log-probability within its own demonstration, 0 elsewhere."""
  options = {"segments": batch.ends, "method": "hidden"}
  hidden = model.apply(params, batch.tokens, batch.mask, **options)
  # The logits at a place are about the next one; no response begins a row.
  logprobs, _ = _under(model, params, hidden[:, :-1], batch.tokens[:, 1:])
  return jnp.where(batch.is_response, jnp.pad(logprobs, ((0, 0), (1, 0))), 0.0)


def _under(
  model: pure.PureModel,
  params: Params,
  hidden: Float[Array, "B T D"],
  tokens: Int[Array, "B T"],
  temperature: Float[Array, ""] | float = 1.0,
) -> tuple[Float[Array, "B T"], Float[Array, "B T"]]:
  """Returns each token's log-probability and its distribution's entropy, from hidden states.

  Logits are larger than all else by far: of large vocabularies those of a few places exist at a
  time, and are computed again for the gradient.
  """

  def look(part):
    hidden, tokens = layout.spread(part, "batch")
    logits = model.apply(params, hidden, method="logits") / temperature
    return token_losses.token_logprobs(logits, tokens), token_losses.entropy(logits)

  batch, length = tokens.shape
  rows = -(-batch // layout.parts("batch"))  # of one device
  places = max(LOGITS // (rows * model.config.vocabulary), 1)
  if places >= length:
    return look((hidden, tokens))
  params = pure.with_whole_head(model, params)  # once, and not for every part
  count = -(-length // places)

  # Parts of like size, so that the last one is hardly padding.
  places = -(-length // count)

  def cut(x):
    room = ((0, 0), (0, count * places - length)) + ((0, 0),) * (x.ndim - 2)
    return jnp.pad(x, room).reshape(batch, count, places, *x.shape[2:]).swapaxes(0, 1)

  results = jax.lax.map(jax.checkpoint(look), (cut(hidden), cut(tokens)))
  return jax.tree.map(lambda x: x.swapaxes(0, 1).reshape(batch, -1)[:, :length], results)


def sequence_scores(
  model: pure.PureModel, params: Params, prompts: Prompts, *responses: Responses
) -> tuple[Float[Array, "B *members"], ...]:
  """Returns a scalar model's score at the last real token of each of several responses.

  The prompt is read once, [prompt | response 1 | response 2 | …], and no response sees another
  (Wang & Hegde 2024, arXiv 2410.20305), so each score is that of [prompt | response]. The responses
  may be of any lengths; an empty one gets the score after the prompt.
  """
  tokens, mask = join(prompts, *responses)
  parts: tuple[Prompts | Responses, ...] = (prompts, *responses)
  lengths = tuple(part.tokens.shape[1] for part in parts)
  scores = model.apply(params, tokens, mask, last=sum(lengths[1:]) + 1, segments=lengths)

  # Place 0 is the prompt's last token, and what a response's tokens are counted from.
  starts = itertools.accumulate(lengths[1:-1], initial=0)
  ends = ((start, part.mask.sum(axis=1)) for start, part in zip(starts, responses, strict=True))
  places = jnp.stack([jnp.where(count > 0, start + count, 0) for start, count in ends], axis=1)
  places = places.reshape(*places.shape, *(1,) * (scores.ndim - 2))  # of all members of an ensemble
  return tuple(jnp.moveaxis(jnp.take_along_axis(scores, places, axis=1), 1, 0))


def packed_scores(
  model: pure.PureModel, params: Params, tokens: Int[Array, "B T"], ends: Int[Array, "B T"]
) -> Float[Array, "B T *members"]:
  """Returns a scalar model's score after every token of texts that share rows.

  The ends are those of `attention.causal`, 0 on padding, of which the scores say nothing.
  """
  return model.apply(params, tokens, ends > 0, segments=ends)


def with_trained_end(responses: Responses, stop_ids: Sequence[int]) -> Responses:
  """Returns sampled responses as scalar models learnt to read them: with one and the same end.

  Sampling stops at any of several tokens, and what a scalar model was trained on ended in one. A
  score of another is a guess, of which a policy could make a habit by its last token alone.

  A response cut at the length limit stays as it is, since no end was said: so do the cut ones that
  scalar models are trained on, and `ppo.penalise_missing_eos` says what the cut costs. Of the stop
  ids that of training comes first.
  """
  tokens = responses.tokens
  mask = responses.mask
  has_ended = token_losses.is_last(jnp.asarray(mask)) & jnp.isin(tokens, jnp.asarray(stop_ids))
  return Responses(tokens=jnp.where(has_ended, stop_ids[0], tokens), mask=mask)


def scores_at(
  model: pure.PureModel,
  params: Params,
  tokens: Int[Array, "B T"],
  mask: Bool[Array, "B T"],
  places: Int[Array, " B"],
) -> PerRow:
  """Returns a scalar model's score of whole conversations, each at its own place, 0 to T − 1."""
  scores = model.apply(params, tokens, mask)
  return jnp.take_along_axis(scores, places[:, None], axis=1)[:, 0]


def token_values(
  model: pure.PureModel, params: Params, prompts: Prompts, responses: Responses
) -> PerToken:
  """Returns a scalar model's value of the state before each response token, 0 on padding.

  The end is a state of no token, so which one ended a response changes no value.
  """
  tokens, mask = join(prompts, responses)
  # The state before a token is what stands at the place before it.
  values = model.apply(params, tokens, mask, last=responses.tokens.shape[1] + 1)[:, :-1]
  return jnp.where(responses.mask, values, 0.0)
