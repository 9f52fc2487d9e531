"""What is measured of our own: scoring, and one step of every kind of training."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from pit_jax import costs, parallel
from pit_jax.data import encode
from pit_jax.losses import preference
from pit_jax.models import pure
from pit_jax.rollout import inference, programs, scoring
from pit_jax.rollout import rewards as token_rewards
from pit_jax.stages import dpo, objectives, ppo
from pit_jax.tools.bench import generation, texts, timing
from pit_jax.training import optimizers
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations, GapPreferences, Params, Preferences, Prompts, Responses

ADAM = {"clip_norm": 1.0, "epsilon": 1e-8}
# DPO alone, without the term of imitation that a run may add.
DPO = (preference.PAIR_LOSSES["sigmoid"], preference.Options(beta=0.1))
READS = 5  # of every token in a PPO iteration: to sample; by reward, policy, reference, value model


def cases(
  language: pure.PureModel,
  scalar: pure.PureModel,
  params: Params,
  sizes: generation.Sizes,
  *,
  is_alone: bool = False,
) -> list[timing.Case]:
  """Returns what is measured of our own: of a language model, with adapters or without.

  The scalar model has the same trunk. What is frozen of `params`, the language model's, they share.
  A case that `is_alone` in its process trains these parameters themselves, and not a copy of them.
  """
  measured = generation.cases(language, params, sizes)
  scores = pure.complete(scalar, jax.random.key(0), {"trunk": params["trunk"]})
  make = functools.partial(_records, language.config.vocabulary, sizes)
  length = sizes.prompt + sizes.response
  tokens = sizes.rows * (length + sizes.response)
  said = Demonstrations(prompts=make(Prompts, 0), responses=make(Responses, 1))
  pair = Preferences(make(Prompts, 0), make(Responses, 1), make(Responses, 2))
  gaps = GapPreferences(make(Prompts, 0), make(Prompts, 3), make(Responses, 1), make(Responses, 2))
  frozen = {"term_weights": jnp.ones(5)}
  imitation, preferring = (
    make(language) for make in (objectives.imitation, objectives.policy_pairs(*DPO))
  )
  trained = [
    ("sft", language, imitation, params, lambda: said, {}, sizes.rows * length),
    ("reward", scalar, objectives.preference_pairs()(scalar), scores, lambda: pair, {}, tokens),
    (
      "gap reward",
      scalar,
      objectives.gap_order()(scalar),
      scores,
      lambda: gaps,
      frozen,
      2 * tokens,
    ),
    ("dpo", language, preferring, params, lambda: _referenced(language, params, pair), {}, tokens),
  ]

  measured += [_training(*one, is_alone) for one in trained]
  learnt = (params, scores, make(Prompts, 0), sizes.response)
  return [*measured, ppo_iteration("ppo iteration", (language, scalar), *learnt)]


def _records(
  vocabulary: int, sizes: generation.Sizes, kind: type, seed: int
) -> Prompts | Responses:
  length = sizes.prompt if kind is Prompts else sizes.response
  tokens = np.random.default_rng(seed).integers(0, vocabulary, (sizes.rows, length))
  return kind(tokens=jnp.asarray(tokens, jnp.int32), mask=jnp.ones(tokens.shape, bool))


def scoring_pairs(
  models: tuple[pure.PureModel, pure.PureModel],
  params: Params,
  settings: encode.Settings,
  pairs: Preferences,
  members: int = 1,
) -> timing.Case:
  """Scores both responses of pairs, as pairs are labelled by a reward model; see `texts.pairs`.

  More members than 1 are the heads of an ensemble.
  """
  language, scalar = models
  if members > 1:
    scalar = pure.ensemble(scalar.config, members)
  how = (settings, texts.PAIR, texts.SCORED_AT_ONCE, generation.mesh_of_one())
  asking = inference.Inference(language, scalar, *how, by_length=True)
  scores = pure.complete(scalar, jax.random.key(0), {"trunk": params["trunk"]})
  asked = [(pairs.prompts, responses) for responses in (pairs.chosen, pairs.rejected)]
  return timing.Case(
    texts.SCORED if members == 1 else texts.ENSEMBLE,
    len(pairs.chosen.mask),
    lambda: lambda: asking.score_all(scores, *asked),
    unit="pairs",
  )


def _referenced(model: pure.PureModel, params: Params, pair: Preferences) -> Preferences:
  """Returns a pair with the log-probabilities of its reference, which has these parameters."""
  asked = jax.jit(functools.partial(objectives.pair_logprobs, model))(params, pair)
  columns = {f"reference_{side}": column for side, column in zip(dpo.SIDES, asked, strict=True)}
  return pair.replace(columns=columns)


def _training(
  name: str,
  model: pure.PureModel,
  loss_fn: Callable,
  params: Params,
  make_batch: Callable,
  frozen: Params,
  tokens: int,
  is_alone: bool,
) -> timing.Case:
  optimizer = training_step.adam(**ADAM)
  loss = pure.on_trained(loss_fn)
  step = jax.jit(training_step.make_train_step(loss, optimizer), donate_argnums=0)
  trained, base = pure.split(model, params)
  fixed = {"base": base} | frozen

  def first():
    own = trained if is_alone else jax.tree.map(jnp.copy, trained)
    return training_step.init_state(own, optimizer)

  def once(state, batch):
    return step(state, fixed, batch, jax.random.key(0), jnp.float32(1e-6))

  cost = costs.training(model, params, tokens)
  return timing.Case(name, tokens, _going_on(first, once, make_batch), cost)


def _going_on(first: Callable, once: Callable, make_batch: Callable) -> Callable:
  """Returns how runs start, each of which goes on from the state that the one before returned.

  The first one's is a copy: a step donates its state, and all cases share their parameters.
  """

  def start():
    batch = make_batch()  # before a step is given the parameters that it may ask
    # Lies as steps return it, or the second one compiles them again.
    state = jax.device_put(first(), parallel.replicated(generation.mesh_of_one()))

    def run():
      nonlocal state
      state, metrics = once(state, batch)
      return jax.block_until_ready(metrics)

    return run

  return start


def ppo_iteration(
  name: str,
  models: tuple[pure.PureModel, pure.PureModel],
  params: Params,
  scores: Params,
  prompts: Prompts,
  length: int,
  drafts: Responses | None = None,
) -> timing.Case:
  """One iteration of responses of so many tokens: sample, score, judge, and one pass of updates.

  Where there are drafts the responses are sampled from them, as an improver's are.
  """
  language, scalar = models
  settings = ppo.Settings(
    epochs=1, minibatches=1, clip=0.2, value_clip=0.5, value_coefficient=0.1,
    entropy_coefficient=0.0, loss_kl_coefficient=0.0, discount=1.0, trace=0.95, target_kl=0.0,
    missing_eos_penalty=0.0, whiten_rewards=False, kl_target=0.0, temperature=1.0,
  )  # fmt: skip
  optimizer = optimizers.policy_and_value(clip_norm=1.0, epsilon=1e-5, value_scale=1.0)
  iterate = jax.jit(
    ppo.make_iteration(language, scalar, optimizer, settings, generation.NO_TOKEN), donate_argnums=0
  )

  sample = generation.sampler(language, length)
  how = {} if drafts is None else {"drafts": drafts}
  rate = jax.jit(lambda *asked: scoring.sequence_scores(scalar, *asked)[0])
  parts = {"policy": pure.split(language, params), "value": pure.split(scalar, scores)}
  trained, base = ({kind: part[i] for kind, part in parts.items()} for i in (0, 1))
  frozen = {"base": base, "reference": params}

  def first():
    train = training_step.init_state(jax.tree.map(jnp.copy, trained), optimizer)
    return ppo.State(train=train, kl_coefficient=jnp.float32(0.1))

  def once(state, prompts):
    key = jax.random.key(0)
    policy = pure.join(state.train.params, base)["policy"]
    read = programs.laid_out(language, generation.mesh_of_one(), policy)
    sampled = sample(read, prompts, key, jnp.float32(1), **how)
    responses = sampled.responses
    rewards = token_rewards.at_end(rate(scores, prompts, responses), responses.mask)
    experience = (prompts, responses, sampled.logprobs, rewards)
    rates = dict.fromkeys(ppo.KINDS, jnp.float32(1e-6))
    return iterate(state, frozen, *experience, key, rates, jnp.float32(1e4))

  # No end can be said, so that every response has its whole length.
  tokens = int(prompts.mask.sum()) + len(prompts.mask) * length
  cost = costs.training(language, params, tokens, models=2, reads=READS)
  return timing.Case(name, tokens, _going_on(first, once, lambda: prompts), cost)
