"""Every program of a run, with the abstract arguments that it is compiled for."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import ml_collections

from pit_jax import costs, parallel
from pit_jax.data import padding
from pit_jax.models import pure
from pit_jax.rollout import classifiers, inference
from pit_jax.run import abstract, checks, memory, origin, published_models
from pit_jax.stages import objectives, ppo, rl, supervised
from pit_jax.types import Demonstrations, GapPreferences, Preferences, Prompts, Responses

STOP_IDS, PAD_ID = (1,), 0  # any will do: they change no shape


@dataclasses.dataclass(frozen=True)
class Program:
  """One compiled program of a run.

  Attributes:
    name: what it does.
    function: a jitted function.
    arguments: its abstract arguments.
    roles: role → those of the arguments that are of it; the others are rows and numbers.
    flops: operations of the mathematics, over all devices; see `costs.py`.
    made: role → bytes of each device that the program itself makes for it: weights gathered for
      sampling, keys and values.
    sampled: tokens that are sampled one after the other.
  """

  name: str
  function: Callable
  arguments: tuple
  roles: dict[str, Any]
  flops: float
  made: dict[str, int] = dataclasses.field(default_factory=dict)
  sampled: int = 1


def arrays(config: ml_collections.ConfigDict, devices: list, memory: int | None) -> abstract.Arrays:
  """Returns the arrays of a run on devices that need not exist.

  Args:
    config: of the run.
    devices: those of the mesh.
    memory: bytes of one of them, for a mesh that is chosen by them.

  Raises:
    ValueError: the run cannot be.
  """
  checks.values(config)
  directory, platform = origin.directory(config), devices[0].platform
  vocabulary = config.data.vocabulary if directory is None else None
  shape = origin.shape(config, directory, vocabulary, platform)
  language = pure.language_model(shape)
  mesh = parallel.make_mesh(config.mesh.shape, language, devices, memory, config.mesh.slices)
  reward, _ = published_models.find(config, platform)
  return abstract.Arrays(config, mesh, language, pure.scalar_model(shape), reward)


def imitation(run: abstract.Arrays, prompt: int) -> Program:
  """Returns a step of supervised fine-tuning, on prompts of so many tokens."""
  job, tokens = run.config.sft, run.config.sft.batch_size * (prompt + run.response)
  if job.packing:
    raise ValueError("sft.packing=True is not planned; plan with False, whose rows are longer")
  batch = Demonstrations(
    run.rows(Prompts, job.batch_size, prompt), run.rows(Responses, job.batch_size, run.response)
  )
  return _training(run, "policy", run.language, objectives.imitation, job, batch, tokens)


def preference(run: abstract.Arrays) -> Program:
  """Returns a step of reward modelling."""
  job = run.config.reward
  responses = run.rows(Responses, job.batch_size, run.response)
  batch = Preferences(run.rows(Prompts, job.batch_size, run.prompt), responses, responses)
  tokens = job.batch_size * (run.prompt + 2 * run.response)
  return _training(run, "reward", run.scalar, objectives.preference_pairs, job, batch, tokens)


def gap_order(run: abstract.Arrays) -> Program:
  """Returns a step of gap reward modelling."""
  job, prompt = run.config.gap_reward, run.improver_prompt
  prompts, responses = (
    run.rows(kind, job.batch_size, length)
    for kind, length in ((Prompts, prompt), (Responses, run.response))
  )
  batch = GapPreferences(prompts, prompts, responses, responses)
  tokens = 2 * job.batch_size * (prompt + 2 * run.response)
  weights = {"term_weights": run.array((5,), jnp.float32, None)}
  return _training(run, "reward", run.scalar, objectives.gap_order, job, batch, tokens, weights)


def _training(run, role, model, objective, job, batch, tokens: int, frozen=None) -> Program:
  state, base = run.state(model, job), run.parts(model)[1]
  return Program(
    name="step",
    function=supervised.program(model, objective, job, run.mesh),
    arguments=(state, {"base": base, **(frozen or {})}, batch, run.key, run.number),
    roles={role: (state, base)},
    flops=costs.training(model, run.params(model), tokens).flops,
  )


def sampling(run: abstract.Arrays, prompt: int) -> Program:
  """Returns sampling after prompts of so many tokens."""
  job, params = run.config.rl, run.params(run.language)
  function = inference.sampling(
    run.language,
    run.mesh,
    length=run.response,
    eos_id=STOP_IDS,
    pad_id=PAD_ID,
    is_ragged=run.config.data.length_buckets,
  )
  slots = prompt + run.response - 1
  cache = run.cache(job.batch_size, slots)
  return Program(
    name="sample",
    function=function,
    arguments=(params, run.rows(Prompts, job.batch_size, prompt), run.key, run.number),
    roles={"policy": params},
    flops=2.0 * _multiplied(run, run.language) * job.batch_size * slots,
    made={
      "policy": memory.gathered(run),
      "cache": abstract.device_bytes(cache),
    },
    sampled=run.response - 1,
  )


def scoring(run: abstract.Arrays, prompt: int, model: pure.PureModel) -> Program:
  """Returns the scoring of responses after prompts of so many tokens by a scalar model.

  A published one reads whole conversations in tokens of its own, at most as many as it may.
  """
  job, params = run.config.rl, run.params(model)
  if run.published and model == run.published.scalar:
    length = padding.bucket(run.published.reader.max_length)
    read = run.rows(Responses, job.batch_size, length)
    asked = (read.tokens, read.mask, run.array((job.batch_size,), jnp.int32, "batch"))
    function = classifiers.scoring_of(model, run.mesh)
  else:
    length, function = prompt + run.response, inference.scoring_of(model, run.mesh)
    kinds = ((Prompts, prompt), (Responses, run.response))
    asked = tuple(run.rows(kind, job.batch_size, width) for kind, width in kinds)
  tokens = job.batch_size * length
  return Program(
    name="score",
    function=function,
    arguments=(params, *asked),
    roles={"reward": params},
    flops=2.0 * _multiplied(run, model) * tokens,
  )


def iteration(run: abstract.Arrays, prompt: int) -> Program:
  """Returns an iteration of PPO on responses after prompts of so many tokens."""
  job, rows = run.config.rl, run.config.rl.batch_size
  train = run.actors()
  base = {kind: run.parts(model)[1] for kind, model in _actors(run).items()}
  reference = run.waiting(run.params(run.language))
  state = ppo.State(train=train, kl_coefficient=run.number)
  frozen = {"base": base, "reference": reference}
  asked = (run.rows(Prompts, rows, prompt), run.rows(Responses, rows, run.response))
  given = (run.array((rows, run.response), jnp.float32, "batch", None),)
  given += (run.array((rows,), jnp.float32, "batch"),)
  rates = dict.fromkeys(ppo.KINDS, run.number)
  # Judged once by policy, reference and value model; policy and value learn in every epoch.
  work = {"tokens": rows * (prompt + run.response), "models": 2 * job.epochs, "reads": 3}
  return Program(
    name="iterate",
    function=rl.program(run.language, run.scalar, job, STOP_IDS, run.mesh),
    arguments=(state, frozen, *asked, *given, run.key, rates, run.number),
    roles={
      "policy": (_of(train, "policy"), base["policy"]),
      "value": (_of(train, "value"), base["value"]),
      "reference": reference,
    },
    flops=costs.training(run.language, run.params(run.language), **work).flops,
  )


def _actors(run: abstract.Arrays) -> dict[str, pure.PureModel]:
  return {"policy": run.language, "value": run.scalar}


def _of(state: Any, kind: str) -> Any:
  """Returns what a train state of policy and value model keeps for one of them."""
  return state.params[kind], state.opt_state[kind]


def _multiplied(run: abstract.Arrays, model: pure.PureModel) -> int:
  return costs.multiplied(model.config, run.params(model))
