"""Every program of a run, with the abstract arguments that it is compiled for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from pit_jax import costs
from pit_jax.data import padding
from pit_jax.losses import preference as preference_losses
from pit_jax.models import pure
from pit_jax.rollout import classifiers, programs
from pit_jax.run import abstract, kinds, memory
from pit_jax.stages import dpo, objectives, pair_columns, ppo, rl, supervised
from pit_jax.training import optimizers
from pit_jax.types import Demonstrations, GapPreferences, Packed, Preferences, Prompts, Responses

Values = tuple[
  tuple[str, Any], ...
]  # of a stage's own, for those of its section; see `kinds.Stage`

# Any ids will do: they change no shape.
STOP_IDS = (1,)
PAD_ID = 0


@dataclasses.dataclass(frozen=True)
class Program:
  """One compiled program of a run: a jitted function and its abstract arguments."""

  name: str  # what it does
  function: Callable
  arguments: tuple
  roles: dict[str, Any]  # role → arguments that are of it; the others are rows and numbers
  flops: float  # of the mathematics, over all devices; see `costs.py`
  # Role → bytes of each device that the program itself makes for it: weights gathered for sampling,
  # keys and values.
  made: dict[str, int] = dataclasses.field(default_factory=dict)
  sampled: int = 1  # tokens that are sampled one after the other


def imitation(run: abstract.Arrays, section: str, prompt: int, values: Values = ()) -> Program:
  """Returns a step of supervised fine-tuning, on prompts of so many tokens or on packed rows."""
  job = kinds.changed(run.config[section], values)
  length = prompt + run.response
  batch: Demonstrations | Packed
  if job.packing:
    length = job.packed_length or length
    shape = (job.batch_size, length)
    ids, bits = (run.array(shape, dtype, "batch", None) for dtype in (jnp.int32, jnp.bool_))
    batch = Packed(tokens=ids, mask=bits, ends=ids, is_response=bits)
  else:
    parts = ((Prompts, prompt), (Responses, run.response))
    batch = Demonstrations(*(run.rows(kind, job.batch_size, size) for kind, size in parts))
  tokens = job.batch_size * length
  return _training(run, "policy", run.language, objectives.imitation, job, batch, tokens)


def preference(run: abstract.Arrays, section: str, values: Values = ()) -> Program:
  """Returns a step of reward modelling."""
  job = kinds.changed(run.config[section], values)
  responses = run.rows(Responses, job.batch_size, run.response)
  batch = Preferences(run.rows(Prompts, job.batch_size, run.prompt), responses, responses)

  # The prompt is read once, and both responses after it.
  tokens = job.batch_size * (run.prompt + 2 * run.response)
  model, objective = objectives.learning(run.scalar, objectives.preference_pairs, job)
  batch = batch.replace(columns=_columns(run, job))
  return _training(run, "reward", model, objective, job, batch, tokens)


def policy_pairs(
  run: abstract.Arrays,
  section: str,
  prompt: int,
  loss: preference_losses.Loss,
  values: Values = (),
) -> Program:
  """Returns a step of preference optimisation by a loss, on prompts of so many tokens."""
  job = kinds.changed(run.config[section], values)
  responses = run.rows(Responses, job.batch_size, run.response)
  number = run.array((job.batch_size,), jnp.float32, "batch")
  options = dpo.options_of(job)
  is_referred = preference_losses.has_reference(loss, options)
  columns = {f"reference_{side}": number for side in dpo.SIDES if is_referred}
  prompts = run.rows(Prompts, job.batch_size, prompt)
  batch = Preferences(prompts, responses, responses, columns)

  # The prompt is read once, and both responses after it.
  tokens = job.batch_size * (prompt + 2 * run.response)
  # For its KL an unpaired loss has policy and reference read as many again.
  reads = 0 if loss.is_paired else 2
  frozen = {} if loss.is_paired else {"reference": run.params(run.language)}
  objective = objectives.policy_pairs(loss, options)
  return _training(run, "policy", run.language, objective, job, batch, tokens, frozen, reads=reads)


def gap_order(run: abstract.Arrays, section: str, values: Values = ()) -> Program:
  """Returns a step of gap reward modelling."""
  job = kinds.changed(run.config[section], values)
  prompt = run.improver_prompt
  prompts = run.rows(Prompts, job.batch_size, prompt)
  responses = run.rows(Responses, job.batch_size, run.response)
  batch = GapPreferences(prompts, prompts, responses, responses)

  # Two prompts per pair, each with both responses after it.
  tokens = 2 * job.batch_size * (prompt + 2 * run.response)
  weights = {"term_weights": run.array((5,), jnp.float32, None)}
  model, objective = objectives.learning(run.scalar, objectives.gap_order, job)
  batch = batch.replace(columns=_columns(run, job))
  return _training(run, "reward", model, objective, job, batch, tokens, weights)


def _columns(run: abstract.Arrays, job) -> dict[str, Any]:
  """Returns the numbers per pair that the loss of a reward model reads."""
  number = run.array((job.batch_size,), jnp.float32, "batch")
  return dict.fromkeys(pair_columns.names(job), number)


def _training(
  run: abstract.Arrays,
  role: str,
  model: pure.PureModel,
  objective,
  job,
  batch,
  tokens,
  frozen=(),
  reads: int = 0,
) -> Program:
  """Returns a step of a supervised job, whose model reads so many tokens of a batch.

  Such models read them so many times besides, and learn nothing from that.
  """
  state = run.state(model, job)
  base = run.parts(model)[1]
  return Program(
    name="step",
    function=supervised.program(model, objective, job, run.mesh),
    arguments=(state, {"base": base, **dict(frozen)}, batch, run.key, run.number),
    roles={role: (state, base)},
    flops=costs.training(model, run.params(model), tokens, reads=reads).flops,
  )


def sampling(run: abstract.Arrays, section: str, prompt: int, samples: int = 1) -> Program:
  """Returns sampling of so many responses after each of the prompts of so many tokens."""
  job = run.config[section]
  params = run.params(run.language)
  function = programs.sampling(
    run.language,
    run.mesh,
    length=run.response,
    eos_id=STOP_IDS,
    pad_id=PAD_ID,
    is_ragged=run.config.data.length_buckets,
    samples=samples,
  )

  prompts = job.batch_size // samples
  # The last token sampled is read by nobody, and has no keys and values.
  cache = run.cache(job.batch_size, prompt + run.response - 1)
  tokens = prompts * prompt + job.batch_size * (run.response - 1)
  return Program(
    name="sample",
    function=function,
    arguments=(params, run.rows(Prompts, prompts, prompt), run.key, run.number),
    roles={"policy": params},
    flops=2.0 * costs.multiplied(run.language.config, params) * tokens,
    made={"policy": memory.gathered(run), "cache": abstract.device_bytes(cache)},
    sampled=run.response - 1,
  )


def scoring(run: abstract.Arrays, section: str, prompt: int, model: pure.PureModel) -> Program:
  """Returns the scoring of responses after prompts of so many tokens by a scalar model.

  A published one reads whole conversations in tokens of its own, at most as many as it may.
  """
  job = run.config[section]
  params = run.params(model)
  if run.published and model == run.published.scalar:
    length = padding.bucket(run.published.reader.max_length)
    read = run.rows(Responses, job.batch_size, length)
    texts = (read.tokens, read.mask, run.array((job.batch_size,), jnp.int32, "batch"))
    function = classifiers.scoring_of(model, run.mesh)
  else:
    length = prompt + run.response
    function = programs.scoring_of(model, run.mesh)
    prompts = run.rows(Prompts, job.batch_size, prompt)
    texts = (prompts, run.rows(Responses, job.batch_size, run.response))

  return Program(
    name="score",
    function=function,
    arguments=(params, *texts),
    roles={"reward": params},
    flops=2.0 * costs.multiplied(model.config, params) * job.batch_size * length,
  )


def iteration(run: abstract.Arrays, section: str, prompt: int, values: Values = ()) -> Program:
  """Returns an iteration of RL on responses after prompts of so many tokens."""
  job = kinds.changed(run.config[section], values)
  rows = job.batch_size
  train = run.actors(job)
  learners = optimizers.kinds(job.estimator)
  networks = {"policy": run.language, "value": run.scalar}
  base = {kind: run.parts(networks[kind])[1] for kind in learners}
  reference = run.waiting(run.params(run.language))
  state = ppo.State(train=train, kl_coefficient=run.number)
  frozen = {"base": base, "reference": reference}

  texts = (run.rows(Prompts, rows, prompt), run.rows(Responses, rows, run.response))
  # The sampler's log-probabilities, and the rewards.
  numbers = (run.array((rows, run.response), jnp.float32, "batch", None),) * 2
  rates = dict.fromkeys(ppo.KINDS, run.number)

  # Judged once by policy, reference and value model; policy and value learn in every epoch.
  models = len(learners) * job.epochs
  reads = 1 + len(learners)
  work = {"tokens": rows * (prompt + run.response), "models": models, "reads": reads}
  roles = {kind: (train.params[kind], train.opt_state[kind], base[kind]) for kind in learners}
  return Program(
    name="iterate",
    function=rl.program(run.language, run.scalar, job, STOP_IDS, run.mesh),
    arguments=(state, frozen, *texts, *numbers, run.key, rates, run.number),
    roles=roles | {"reference": reference},
    flops=costs.training(run.language, run.params(run.language), **work).flops,
  )
