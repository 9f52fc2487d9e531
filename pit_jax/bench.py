"""How fast this machine generates and trains: tokens per second of each part, beside a peer's.

Ours and the peer's calls alternate within one process, so that both meet the same machine; what is
compared are medians.
"""

import contextlib
import dataclasses
import functools
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax.models import pure
from pit_jax.rollout import decode, scoring
from pit_jax.stages import objectives, ppo
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations, GapPreferences, Params, Preferences, Prompts, Responses

NO_TOKEN = -1  # an end of sequence that no model can say: every row takes all its steps
ADAM = {"clip_norm": 1.0, "epsilon": 1e-8}


@dataclasses.dataclass(frozen=True)
class Case:
  """One thing to measure.

  Attributes:
    name: what it does.
    tokens: real tokens that one call generates, or reads in training.
    start: returns the function that does it once and waits for it. What that function holds, an
      optimiser's moments for one, goes with it.
  """

  name: str
  tokens: int
  start: Callable[[], Callable[[], Any]]


@dataclasses.dataclass(frozen=True)
class Sizes:
  """How much each case does.

  Attributes:
    batches: sequences generated at once, one case each.
    prompt: tokens of every prompt.
    response: tokens of every response, and new tokens generated.
    rows: sequences (or pairs) of a training step.
  """

  batches: Sequence[int] = (1, 8, 32)
  prompt: int = 64
  response: int = 64
  rows: int = 8


def cases(
  language: pure.PureModel, scalar: pure.PureModel, params: Params, sizes: Sizes
) -> list[Case]:
  """Returns what is measured of our own.

  Args:
    language: the language model.
    scalar: the scalar model of the same trunk.
    params: the language model's parameters.
    sizes: how much each case does.
  """
  found = [_decoding(language, params, sizes, batch) for batch in sizes.batches]
  scores = pure.complete(scalar, jax.random.key(0), {"trunk": params["trunk"]})
  make = functools.partial(_records, language.config.vocabulary, sizes)
  length = sizes.prompt + sizes.response
  imitation = Demonstrations(prompts=make(Prompts, 0), responses=make(Responses, 1))
  found.append(
    _training("sft", objectives.imitation(language), params, imitation, {}, sizes.rows * length)
  )
  pair = Preferences(make(Prompts, 0), make(Responses, 1), make(Responses, 2))
  tokens = sizes.rows * (length + sizes.response)
  found.append(_training("reward", objectives.preference_pairs(scalar), scores, pair, {}, tokens))
  shown = GapPreferences(make(Prompts, 0), make(Prompts, 3), make(Responses, 1), make(Responses, 2))
  frozen = {"term_weights": jnp.ones(5)}
  found.append(
    _training("gap reward", objectives.gap_order(scalar), scores, shown, frozen, 2 * tokens)
  )
  return [*found, _ppo(language, scalar, params, scores, sizes)]


def _records(vocabulary: int, sizes: Sizes, kind: type, seed: int) -> Prompts | Responses:
  length = sizes.prompt if kind is Prompts else sizes.response
  tokens = np.random.default_rng(seed).integers(0, vocabulary, (sizes.rows, length))
  return kind(tokens=jnp.asarray(tokens, jnp.int32), mask=jnp.ones(tokens.shape, bool))


def _decoding(model: pure.PureModel, params: Params, sizes: Sizes, batch: int) -> Case:
  prompts = _records(model.config.vocabulary, dataclasses.replace(sizes, rows=batch), Prompts, 0)
  sample = jax.jit(
    functools.partial(decode.sample, model, length=sizes.response, eos_id=NO_TOKEN, pad_id=0)
  )

  def run():
    return jax.block_until_ready(sample(params, prompts, jax.random.key(0), jnp.float32(0)))

  return Case(f"generate, batch {batch}", batch * sizes.response, lambda: run)


def _training(name: str, loss_fn: Callable, params: Params, batch, frozen, tokens: int) -> Case:
  optimizer = training_step.adam(**ADAM)
  loss = pure.on_trained(loss_fn)
  step = jax.jit(training_step.make_train_step(loss, optimizer), donate_argnums=0)

  def start():
    state = training_step.init_state(jax.tree.map(jnp.copy, params), optimizer)

    def run():
      nonlocal state
      state, metrics = step(
        state, frozen | {"base": {}}, batch, jax.random.key(0), jnp.float32(1e-6)
      )
      return jax.block_until_ready(metrics)

    return run

  return Case(name, tokens, start)


def _ppo(language, scalar, params: Params, scores: Params, sizes: Sizes) -> Case:
  """One iteration: sample, score, judge, and one pass of updates over all rows."""
  settings = ppo.Settings(
    epochs=1, minibatches=1, clip=0.2, value_clip=0.5, value_coefficient=0.1,
    entropy_coefficient=0.0, loss_kl_coefficient=0.0, discount=1.0, trace=0.95, target_kl=0.0,
    missing_eos_penalty=0.0, whiten_rewards=False, kl_target=0.0, kl_horizon=1e4, temperature=1.0,
  )  # fmt: skip
  optimizer = ppo.optimizer(clip_norm=1.0, epsilon=1e-5, value_scale=1.0)
  iterate = jax.jit(
    ppo.make_iteration(language, scalar, optimizer, settings, NO_TOKEN), donate_argnums=0
  )
  sample = jax.jit(
    functools.partial(decode.sample, language, length=sizes.response, eos_id=NO_TOKEN, pad_id=0)
  )
  rate = jax.jit(lambda *asked: scoring.sequence_scores(scalar, *asked)[0])
  prompts = _records(language.config.vocabulary, sizes, Prompts, 0)
  frozen = {"base": {}, "reference": params, "policy_weight": jnp.float32(1)}

  def start():
    both = jax.tree.map(jnp.copy, {"policy": params, "value": scores})
    train = training_step.init_state(both, optimizer)
    state = ppo.State(train=train, kl_coefficient=jnp.float32(0.1))

    def run():
      nonlocal state
      key, policy = jax.random.key(0), state.train.params["policy"]
      responses, logprobs = sample(policy, prompts, key, jnp.float32(1))
      given = (prompts, responses, logprobs, rate(scores, prompts, responses))
      state, metrics = iterate(state, frozen, *given, key, jnp.float32(1e-6))
      return jax.block_until_ready(metrics)

    return run

  return Case("ppo iteration", sizes.rows * (sizes.prompt + sizes.response), start)


def peers(directory: str, sizes: Sizes) -> dict[str, Case]:
  """Returns the same work through transformers and a plain torch loop, by the case's name.

  Args:
    directory: the model, as transformers reads it; float32.
    sizes: as for `cases`.
  """
  import torch
  import transformers

  model = transformers.AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
  length, found = sizes.prompt + sizes.response, {}

  def tokens(rows, count):
    drawn = np.random.default_rng(0).integers(0, model.config.vocab_size, (rows, count))
    return torch.tensor(drawn, dtype=torch.long)

  def generate(ids):
    lengths = {"max_new_tokens": sizes.response, "min_new_tokens": sizes.response}
    with torch.no_grad():
      model.eval().generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, **lengths)

  def train(optimizer, ids, labels):
    optimizer.zero_grad()
    model.train()(input_ids=ids, labels=labels).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()

  def start_training():
    ids = tokens(sizes.rows, length)
    labels = torch.where(torch.arange(length) < sizes.prompt, -100, ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    return functools.partial(train, optimizer, ids, labels)

  for batch in sizes.batches:
    ids = tokens(batch, sizes.prompt)
    name = f"generate, batch {batch}"
    start = functools.partial(functools.partial, generate, ids)
    found[name] = Case(name, batch * sizes.response, start)
  return found | {"sft": Case("sft", sizes.rows * length, start_training)}


def measure(
  ours: Sequence[Case], theirs: dict[str, Case], repeats: int, trace: str | None = None
) -> list[dict[str, Any]]:
  """Times every case, its peer in between, and returns a row for each.

  Args:
    ours: what to measure.
    theirs: case's name → the peer's case.
    repeats: measured calls; one more before them compiles.
    trace: folder for an XProf trace of the measured calls; None is none.

  Returns:
    Rows with name, tokens_per_second, seconds (median), spread (largest over smallest), and with a
    peer peer_tokens_per_second and ratio.
  """
  rows = []
  for case in ours:
    pair = [case, *([theirs[case.name]] if case.name in theirs else [])]
    runs = [one.start() for one in pair]
    seconds: list[list[float]] = [[] for _ in pair]
    for run in runs:
      run()
    with _tracing(trace):
      for _ in range(repeats):
        for run, times in zip(runs, seconds, strict=True):
          began = time.perf_counter()
          run()
          times.append(time.perf_counter() - began)
    rows.append(_row(case, *seconds))
  return rows


def _row(case: Case, ours: list[float], theirs: list[float] | None = None) -> dict[str, Any]:
  median = statistics.median(ours)
  row = {
    "name": case.name,
    "tokens_per_second": case.tokens / median,
    "seconds": median,
    "spread": max(ours) / min(ours),
  }
  if theirs is not None:
    peer = statistics.median(theirs)
    row |= {"peer_tokens_per_second": case.tokens / peer, "ratio": peer / median}
  return row


@contextlib.contextmanager
def _tracing(folder: str | None) -> Iterator[None]:
  if folder is None:
    yield
    return
  with jax.profiler.trace(folder):
    yield


def peak_bytes() -> int:
  """Returns the most memory used so far, of the first device if it tells, else of the host."""
  known = jax.local_devices()[0].memory_stats() or {}
  if "peak_bytes_in_use" in known:
    return known["peak_bytes_in_use"]
  used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return used if sys.platform == "darwin" else used * 1024
