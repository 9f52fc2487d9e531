"""How a token is drawn from logits: alone, or by keeping or replacing one that is proposed."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

HALF = -0.6931472  # log ½


def draw(
  logits: Float[Array, "N V"],
  temperature: Float[Array, ""],
  keys: Key[Array, " N"],
  top_p: Float[Array, ""] | None = None,
) -> tuple[Int[Array, " N"], Float[Array, " N"]]:
  """Draws a token per row from softmax(logits / temperature) and returns its log-probability.

  With `top_p` the distribution is the `nucleus` of that one, and so is the log-probability. Each
  row has noise of its own key, so what it gets depends on no other row.

  The largest of log-probabilities with Gumbel noise is a draw (Gumbel 1954; Maddison et al. 2014).
  """
  logprobs = _distribution(logits, temperature, top_p)
  token = _most_likely(logits, logprobs, temperature, keys)

  return token, jnp.take_along_axis(logprobs, token[:, None], axis=-1)[:, 0]


def draw_or_keep(
  logits: Float[Array, "B T V"],
  proposals: Int[Array, "B T"],
  temperature: Float[Array, ""],
  keys: Key[Array, "B T"],
  top_p: Float[Array, ""] | None = None,
) -> tuple[Int[Array, "B T"], Float[Array, "B T"], Int[Array, " B"]]:
  """Draws tokens of T positions whose logits hold as long as every proposal before is kept.

  A proposed token is kept with its own probability; else the token is drawn from the rest of the
  distribution, and what follows is void. So each token is of the distribution that `draw` draws
  from (Leviathan et al. 2023, arXiv 2211.17192, theorem 1, where all mass of the proposal is on one
  token). At temperature 0 it is kept where it is the most likely one.

  Args:
    logits: of each position, given the proposals before it.
    proposals: a token for each position; below 0 where there is none.
    temperature: divides the logits; 0 takes the most likely token.
    keys: source of the noise of each position.
    top_p: as for `draw`.

  Returns:
    Tokens, their log-probabilities in nats, and how many proposals are kept, from 0 to T: the token
    after so many is a drawn one, and those after it mean nothing.
  """
  batch, count, size = logits.shape
  logprobs = _distribution(logits, temperature, top_p)
  is_proposal = jnp.arange(size) == proposals[..., None]
  proposed = jnp.where(is_proposal, logprobs, -jnp.inf).max(axis=-1)
  others = jnp.where(is_proposal, -jnp.inf, logprobs)

  is_kept = jax.lax.cond(
    temperature > 0,
    lambda: _is_kept(proposed, jax.nn.logsumexp(others, axis=-1), keys),
    lambda: _first_largest(logits.reshape(-1, size)).reshape(batch, count) == proposals,
  )
  kept = jnp.cumprod(is_kept, axis=1).sum(axis=1)

  # One token of a row is drawn, in the place of its first proposal that is not kept: noise for all
  # of them would cost as much as the model.
  place = jnp.minimum(kept, count - 1)[:, None]
  masked = jnp.where(is_proposal, -jnp.inf, logits)
  last_logits = jnp.take_along_axis(masked, place[..., None], axis=1)[:, 0]
  last_others = jnp.take_along_axis(others, place[..., None], axis=1)[:, 0]
  last_keys = jnp.take_along_axis(keys, place, axis=1)[:, 0]
  drawn = _most_likely(last_logits, last_others, temperature, last_keys)
  is_drawn = jnp.arange(count) == kept[:, None]
  tokens = jnp.where(is_drawn, drawn[:, None], proposals)
  logprob = jnp.take_along_axis(logprobs, jnp.maximum(tokens, 0)[..., None], axis=2)[..., 0]

  return tokens, logprob, kept


def _is_kept(
  kept: Float[Array, "B T"], replaced: Float[Array, "B T"], keys: Key[Array, "B T"]
) -> Bool[Array, "B T"]:
  """Returns whether each proposal is kept, from the logarithms of both probabilities.

  A uniform number is compared with the smaller probability: near 0 it is as fine as that may be,
  and near 1 it is not.
  """
  others = jax.vmap(jax.random.fold_in, (0, None))(keys.reshape(-1), 1)
  exponential = jnp.exp(-_gumbel(others, ())).reshape(kept.shape)
  uniform = jnp.log(-jnp.expm1(-exponential))

  return jnp.where(kept < HALF, uniform < kept, uniform >= replaced)


def nucleus(logprobs: Float[Array, "*B V"], top_p: Float[Array, ""]) -> Float[Array, "*B V"]:
  """Returns the log-probabilities of top-p sampling, −inf of what is cut (Holtzman et al. 2020).

  Kept are the fewest most likely tokens whose probability is at least top_p, at least one, and what
  is as likely as the last of them.

  Args:
    logprobs: log-probabilities of all tokens, in nats.
    top_p: more than 0; 1 or more keeps all.
  """
  descending = -jnp.sort(-logprobs, axis=-1)
  likely = jnp.exp(descending)
  before = jnp.cumsum(likely, axis=-1) - likely
  # The first is always kept: nothing comes before it.
  last = jnp.where(before < top_p, descending, jnp.inf).min(axis=-1, keepdims=True)
  is_kept = (logprobs >= last) | (top_p >= 1)

  return jax.nn.log_softmax(jnp.where(is_kept, logprobs, -jnp.inf), axis=-1)


def _distribution(
  logits: Float[Array, "*B V"], temperature: Float[Array, ""], top_p: Float[Array, ""] | None
) -> Float[Array, "*B V"]:
  """Returns the log-probabilities that are drawn from."""
  # At temperature 0 they are those of temperature 1, not NaN.
  logprobs = jax.nn.log_softmax(logits / jnp.where(temperature > 0, temperature, 1.0))
  return logprobs if top_p is None else nucleus(logprobs, top_p)


def _most_likely(
  logits: Float[Array, "N V"],
  logprobs: Float[Array, "N V"],
  temperature: Float[Array, ""],
  keys: Key[Array, " N"],
) -> Int[Array, " N"]:
  """Returns the token of the largest noisy log-probability; at temperature 0, of the logits."""
  noisy = jax.lax.cond(
    temperature > 0,
    lambda: logprobs + _gumbel(keys, logprobs.shape[1:]),
    lambda: logits,
  )
  return _first_largest(noisy)


def _gumbel(keys: Key[Array, " N"], shape: tuple[int, ...]) -> Float[Array, "N *shape"]:
  """Returns Gumbel noise of each key.

  It is of 46 random bits: float32's 23 alone end at 16.6, and a token of less than about 1e-8 would
  never be drawn, though vocabularies have many of them.
  """
  return jax.vmap(lambda key: jax.random.gumbel(key, shape, jnp.float32, mode="high"))(keys)


def _first_largest(x: Float[Array, "N V"]) -> Int[Array, " N"]:
  """Returns argmax(x, axis=1), in two passes that a CPU can vectorise, which takes a quarter."""
  places = jnp.arange(x.shape[1], dtype=jnp.int32)
  is_largest = x == x.max(axis=1, keepdims=True)
  return jnp.where(is_largest, places, x.shape[1] - 1).min(axis=1)
