"""The alphabet and the batch records every room shares.

Axis letters, the same in type annotations, einsum and prose:

  B sequences   T query time   S key time   P prompt tokens   R response tokens
  D width       N query heads  K key/value heads   H head width   F hidden width
  L layers      V vocabulary

`logprobs[:, t]` is the log-probability *of* token t, in nats. Masks are bool and True where a
token is real. Prompts are left-padded and responses right-padded, so that the real tokens of
[prompt | response] are contiguous; a response's mask includes its end-of-sequence token.
"""

from typing import Any

import jax
import jaxtyping
from flax import struct

PerToken = jaxtyping.Float[jax.Array, "B R"]  # of response tokens
Mask = jaxtyping.Bool[jax.Array, "B R"]  # which response tokens are real
PerRow = jaxtyping.Float[jax.Array, " B"]
Number = jaxtyping.Float[jax.Array, ""] | float | int
Array = Any  # of a record: a JAX array on the devices, a NumPy array on the host
Params = dict[str, Any]  # nested dict of arrays; the only form parameters have outside models/
Metrics = dict[str, jax.Array]  # metric name → scalar
# Name → Float[B], a number per pair: `margin`, by how much the chosen response is to be ahead, in
# nats; `weight`, how much the pair counts, at least 0; `label_probability`, how likely the chosen
# one is better; `offset`, what is known of that without the reward, in nats; `draw_0`, `draw_1` …,
# how often the bootstrap sample of each member of an ensemble has it; `reference_chosen` and
# `reference_rejected`, the log-probability of each response under a reference model, in nats.
Columns = dict[str, Array]


@struct.dataclass
class Prompts:
  """What a model is asked to continue."""

  tokens: Array  # Int[B P], left-padded
  mask: Array  # Bool[B P]


@struct.dataclass
class Responses:
  """What follows a prompt."""

  tokens: Array  # Int[B R], right-padded
  mask: Array  # Bool[B R], the end-of-sequence token included


@struct.dataclass
class Demonstrations:
  """Prompts with the response to imitate (supervised fine-tuning)."""

  prompts: Prompts
  responses: Responses


@struct.dataclass
class Packed:
  """Several demonstrations in each row, none of which sees another (supervised fine-tuning)."""

  tokens: Array  # Int[B T], right-padded
  mask: Array  # Bool[B T]
  ends: Array  # Int[B T], where in its row a token's demonstration ends; 0 on padding
  is_response: Array  # Bool[B T]


@struct.dataclass
class Preferences:
  """Prompts with a preferred and a dispreferred response (reward model)."""

  prompts: Prompts
  chosen: Responses
  rejected: Responses
  columns: Columns = struct.field(default_factory=dict)


@struct.dataclass
class GapPreferences:
  """The same pair seen through the improver's template, once per reference (gap reward model).

  The gap reward r(x, y1, y2) reads y1 as the response to a prompt that shows x and y2.
  """

  given_chosen: Prompts  # x with the chosen response as the reference
  given_rejected: Prompts  # x with the rejected response as the reference
  chosen: Responses
  rejected: Responses
  columns: Columns = struct.field(default_factory=dict)
