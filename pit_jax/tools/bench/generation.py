"""What is measured of sampling: prompts of like and unlike lengths, drafts, several samples."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax import costs, parallel
from pit_jax.data import batches
from pit_jax.models import pure
from pit_jax.rollout import continuous, decode, programs
from pit_jax.tools.bench import texts, timing
from pit_jax.types import Params, Prompts

NO_TOKEN = -1  # an end of sequence that no model can say: every row takes all its steps
PER_PROMPT = 8  # responses of the case of several to one prompt
LONG = 4  # how many times as long as others the prompt of that case is
SHARED = f"{PER_PROMPT} samples of one prompt"
MANY = 8  # how many times as many prompts as the mixed case the case of many has
PLACES = 2  # … of which one part in so many of the mixed case's are at work at any time
QUEUED = "generate, many mixed lengths"


@dataclasses.dataclass(frozen=True)
class Sizes:
  """How much each case does."""

  batches: Sequence[int] = (1, 8, 32)  # sequences generated at once, one case each
  prompt: int = 64  # tokens of every prompt
  response: int = 64  # tokens of every response, and new tokens generated
  rows: int = 8  # sequences (or pairs) of a training step
  mixed: int = 64  # sequences of very different lengths, generated at once

  def ragged(self, count: int | None = None) -> tuple[list[int], list[int]]:
    """Returns how many tokens each prompt and each response of so many has; None is `mixed`.

    Logarithms of the lengths are spread evenly: prompts from an eighth to four times `prompt`,
    responses from a sixteenth to four times `response`, paired at random.
    """
    draw = np.random.default_rng(0)
    count = count or self.mixed
    return tuple(
      np.rint(np.geomspace(max(size // part, 1), 4 * size, count)).astype(int)[order].tolist()
      for size, part in ((self.prompt, 8), (self.response, 16))
      for order in [draw.permutation(count)]
    )

  def generations(self) -> list[tuple[str, list[int], list[int]]]:
    """Returns the cases of generation: names, and tokens of each prompt and each response."""
    alike = [
      (f"generate, batch {rows}", [self.prompt] * rows, [self.response] * rows)
      for rows in self.batches
    ]
    return [*alike, ("generate, mixed lengths", *self.ragged())]


def cases(model: pure.PureModel, params: Params, sizes: Sizes) -> list[timing.Case]:
  """Returns what is measured of a language model's sampling, but for texts."""
  alike = [_decoding(model, params, *one) for one in sizes.generations()]
  return [*alike, queued(model, params, sizes), sampling(model, params, sizes),
          _laying_out(model, params)]  # fmt: skip


def _decoding(
  model: pure.PureModel, params: Params, name: str, lengths: Sequence[int], limits: Sequence[int]
) -> timing.Case:
  """Generates so many tokens after prompts of so many, row by row, from weights laid out before."""
  prompts = jax.tree.map(jnp.asarray, left_padded(model.config.vocabulary, lengths))
  sample = sampler(model, max(limits), is_ragged=min(limits) < max(limits))
  inputs = (prompts, jax.random.key(0), jnp.float32(0), jnp.asarray(limits))

  def start():
    read = programs.laid_out(model, mesh_of_one(), params)
    return lambda: jax.block_until_ready(sample(read, *inputs))

  abstract = pure.gathered(model, params, mesh_of_one())
  cost = costs.generation(model.config, abstract, lengths, limits)
  return timing.Case(name, sum(limits), start, cost)


def rewriting(
  model: pure.PureModel, params: Params, rewrites: texts.Rewrites, *, with_drafts: bool = True
) -> timing.Case:
  """Rewrites drafts greedily, as many tokens of each as it has; see `texts.rewrites`.

  Without the drafts each forward gives one token.
  """
  made = jax.tree.map(jnp.asarray, rewrites.batches)
  _, drafts = made[0]
  sample = sampler(model, drafts.tokens.shape[1], is_ragged=len(drafts.tokens) > 1)

  def start():
    read = programs.laid_out(model, mesh_of_one(), params)

    def ask(prompts, drafts):
      asked = (prompts, jax.random.key(0), jnp.float32(0), drafts.mask.sum(axis=1))
      return sample(read, *asked, **({"drafts": drafts} if with_drafts else {}))

    return lambda: jax.block_until_ready([ask(*batch) for batch in made])

  tokens = sum(int(drafts.mask.sum()) for _, drafts in made)
  return timing.Case(rewrites.name, tokens, start)


def queued(
  model: pure.PureModel, params: Params, sizes: Sizes, *, in_batches: bool = False
) -> timing.Case:
  """Generates for many more prompts than are at work at any time, of very different lengths.

  Places are given on as rows end; or prompts of like length come in batches, whose ended rows are
  left behind.
  """
  lengths, limits = sizes.ragged(MANY * sizes.mixed)
  prompts = left_padded(model.config.vocabulary, lengths)
  wanted = np.asarray(limits, np.int32)
  rows = max(sizes.mixed // PLACES, 1)
  how = {"length": max(limits), "eos_id": NO_TOKEN, "pad_id": 0}
  key = jax.random.key(0)

  def start():
    mesh = mesh_of_one()
    read = programs.laid_out(model, mesh, params)
    if not in_batches:
      s = decode.Settings(**how, **programs.ways_on(model, mesh, is_ragged=True))
      asked = (model, mesh, s, read, prompts, key, 0.0)
      return lambda: continuous.sample(*asked, rows=rows, limits=wanted)

    sample = programs.sampling(model, mesh, is_ragged=True, **how)
    ordered = list(batches.in_order((prompts, wanted), rows, by_length=True))
    given = [jax.tree.map(jnp.asarray, batch) for batch, _ in ordered]
    return lambda: jax.block_until_ready(
      [sample(read, asked, key, jnp.float32(0), limit) for asked, limit in given]
    )

  return timing.Case(QUEUED, sum(limits), start)


def sampling(model: pure.PureModel, params: Params, sizes: Sizes, prompts: int = 1) -> timing.Case:
  """Samples PER_PROMPT responses in all to so many long prompts, each of which is read once."""
  asked = left_padded(model.config.vocabulary, [LONG * sizes.prompt] * prompts)
  sample = sampler(model, sizes.response, samples=PER_PROMPT // prompts)
  inputs = (jax.tree.map(jnp.asarray, asked), jax.random.key(0), jnp.float32(1))

  def start():
    read = programs.laid_out(model, mesh_of_one(), params)
    return lambda: jax.block_until_ready(sample(read, *inputs))

  return timing.Case(SHARED, PER_PROMPT * sizes.response, start)


def _laying_out(model: pure.PureModel, params: Params) -> timing.Case:
  """Lays the weights out for sampling, which is done once for all batches that it is asked for."""

  def run():
    return jax.block_until_ready(programs.laid_out(model, mesh_of_one(), params))

  return timing.Case("lay out weights", 1, lambda: run, unit="models")


def mesh_of_one() -> jax.sharding.Mesh:
  return parallel.make_mesh((1, 1, 1), devices=jax.devices()[:1])


def sampler(
  model: pure.PureModel, length: int, is_ragged: bool = False, samples: int = 1
) -> Callable:
  how = {"length": length, "is_ragged": is_ragged, "samples": samples}
  return programs.sampling(model, mesh_of_one(), eos_id=NO_TOKEN, pad_id=0, **how)


def left_padded(vocabulary: int, lengths: Sequence[int]) -> Prompts:
  """Returns random prompts of the given lengths, Int[B P] and Bool[B P]."""
  width = max(lengths)
  tokens = np.random.default_rng(0).integers(0, vocabulary, (len(lengths), width))
  mask = np.arange(width) >= width - np.asarray(lengths)[:, None]
  return Prompts(tokens=tokens.astype(np.int32), mask=mask)
