"""Reinforcement learning of policy or improver: sample, reward, learn, in a host-side loop."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np

from pit_jax import hosts, layout, parallel
from pit_jax.data import batches, conversations, tables
from pit_jax.models import pure
from pit_jax.rollout import classifiers
from pit_jax.rollout import rewards as token_rewards
from pit_jax.run import context as contexts
from pit_jax.stages import frontier, ppo, speed, supervised, trained
from pit_jax.training import optimizers, timing
from pit_jax.training import step as training_step
from pit_jax.types import Params, Prompts, Responses


class Known(NamedTuple):
  """A reward, and what else is known of each response and only to be logged."""

  reward: jax.Array
  more: Mapping[str, jax.Array]  # name → Float[B]


# (rows, prompts, responses) → Float[B R], a reward per token, or Float[B], which stands at the last
# one; higher is better. A response with a NaN among its own is dropped: nothing is learnt from it.
# Rows are the prompts' places, Int[B], among the texts that the stage's prompts were encoded from.
RewardFn = Callable[[np.ndarray, Prompts, Responses], jax.Array | Known]
# Name → weight and reward. What is maximised is the weighted sum.
Rewards = Mapping[str, tuple[float, RewardFn]]
# (completed iterations, rows, responses, name → each response's reward) → what else to log of an
# iteration.
ExtraMetrics = Callable[[int, np.ndarray, Responses, dict[str, jax.Array]], dict[str, Any]]
SAMPLES_SHOWN = 4
WARM_UP = ("value",)  # of ppo.KINDS, what learns while the policy waits
EXPERIENCE = ("prompts", "responses", "sampled_logprobs", "rewards", "key")  # given to an iteration


@dataclasses.dataclass(frozen=True)
class Learner(trained.Trained):
  """A policy, and all that its optimisation is carried on with: value model, moments, and β.

  `params` are the policy's, all of them, and the facts those of the stage that left it.
  """

  # Its parameters are {"policy", "value"}, what is trained of each, or the policy alone.
  train: training_step.TrainState
  base: Params  # what is frozen of each
  kl_coefficient: float  # β as the controller left it, in units of score per nat


def model_reward(context: contexts.Context, params: Params) -> RewardFn:
  """Returns the reward of a scalar model; for a gap model the prompts show the reference.

  Whichever stop id ended a response, the model reads the end that it learnt.
  """
  scorer = context.models.inference.sample_scorer
  return lambda _, prompts, responses: scorer(layout.to_devices(params), prompts, responses)


def shifted(score: RewardFn, shift: float) -> RewardFn:
  """Returns a reward plus a constant, in its unit; see stages/calibration.py."""
  return lambda *asked: score(*asked) + shift


def ensemble_reward(
  context: contexts.Context, network: pure.PureModel, params: Params, pessimism: float, shift: float
) -> RewardFn:
  """Returns the mean of an ensemble's scores less their deviation, and the deviation to be logged.

  Args:
    network: of all members.
    params: with their heads.
    pessimism: by what the deviation (of the population of members) is multiplied.
    shift: what is added to every score.
  """
  scorer = dataclasses.replace(context.models.inference, scalar=network).sample_scorer

  def score(_, prompts, responses):
    scores = scorer(layout.to_devices(params), prompts, responses)
    disagreement = scores.std(axis=1)
    reward = scores.mean(axis=1) - pessimism * disagreement + shift
    return Known(reward, {"disagreement": disagreement})

  return score


def published_reward(
  context: contexts.Context,
  classifier: classifiers.Classifier,
  questions: Sequence[conversations.Prompt],
) -> RewardFn:
  """Returns the reward of a published model.

  What was sampled becomes words, which the model reads after x in tokens and a form of its own. A
  response cut at the length limit hence ends there like any other; `missing_eos_penalty` is what
  the cut costs.

  Questions are the texts of the stage's prompts.
  """

  def score(rows, _, responses):
    answers = context.models.inference.words(hosts.fetch(responses))
    sampled_questions = [questions[row] for row in rows]
    scores = classifier.batched(len(rows)).rate(sampled_questions, answers)
    return parallel.put_batch(scores, context.mesh)

  return score


def run(
  context: contexts.Context,
  name: str,
  prompts: tables.Table,
  rewards: Rewards,
  *,
  start: Learner,
  reference: Params,
  steps: int,
  job: ml_collections.ConfigDict,
  begun: int = 0,
  planned: int | None = None,
  watch: frontier.Watch | None = None,
  extra_metrics: ExtraMetrics = lambda *_: {},
  drafts: Responses | None = None,
) -> Learner:
  """Maximises E[reward] − β KL(policy ‖ reference) by policy gradients.

  Whether that is PPO with a value model or one of the estimators without says `job.estimator`.

  An optimisation may be of several stages, which have one schedule, one value warm-up and one
  horizon of the KL controller: those of all planned iterations together.

  Args:
    name: the stage's name; also seeds its prompts' order and its noise.
    prompts: every prompt of the stage (types.Prompts); for the improver they show the reference
      response. Batches are random and of one width: by length they would differ in what they are
      about from step to step, and the longest of many random prompts is as long as any.
    rewards: what rewards a batch of responses; see `Rewards`.
    start: where to start, from `begin` or from an earlier stage with the same job; it is used up,
      its parameters too.
    reference: the language model whose distance is penalised.
    steps: PPO iterations of this stage.
    job: the config's `rl` section; see `configs/common.py`.
    begun: PPO iterations of the optimisation before this stage.
    planned: of the whole optimisation; None: this stage is all there is.
    watch: keeps samples on held-out prompts now and then; nothing is learnt from them.
    extra_metrics: see `ExtraMetrics`; rows are as `RewardFn` gets them.
    drafts: what the response to each of the texts is likely to repeat, on the host; sampling is the
      faster for it, and of the same distribution. None: nothing.

  Returns:
    What the next stage can start from; of one that none follows, `trained.ended` keeps the policy.
  """
  order = batches.Batches(prompts, job.batch_size // job.samples, context.seed(name))
  key = context.key(name)
  whole = pure.join(start.train.params, start.base)
  speed_of = speed.reinforcement(_models(context, job), whole, job, context.mesh)
  phases = timing.Phases(speed_of)  # generate, score, train
  c = context.config
  frozen = {"base": start.base, "reference": reference}
  learn = _learning(context, job, begun, planned or steps)

  def rollout(state, index):
    context.models.trim()  # lengths that are new were compiled for
    host_prompts = order[index]
    # A prompt is read once for all its samples; rewards and updates want a row per response.
    distinct_prompts, batch_prompts = parallel.put_batch(
      (host_prompts, _repeated(host_prompts, job.samples)), context.mesh
    )
    policy = _whole(state.train, start.base)

    # Even numbers are for sampling and odd ones for learning: no noise is used twice.
    noise = jax.random.fold_in(key, 2 * index)
    texts = prompts.contents.index[order.rows_of(index)]
    repeated = drafts and parallel.put_batch(batches.take(drafts, texts), context.mesh)
    arguments = (policy, distinct_prompts, noise, jnp.float32(job.temperature), job.samples)
    arguments += (repeated,)
    sampled = phases.time("generate", context.models.inference.sample_batch, *arguments)
    responses, logprobs = sampled.responses, sampled.logprobs

    # Encoding may have dropped rows; rewards look their texts up among all of them.
    places = _repeated(texts, job.samples)
    total, scores = phases.time("score", _rewarded, rewards, places, batch_prompts, responses)
    known = {"rollout/tokens_per_forward": responses.mask.sum() / sampled.passes.sum()}
    responses, logprobs, total = token_rewards.without_unknown(responses, logprobs, total)
    return places, scores, known, (batch_prompts, responses, logprobs, total)

  def advance(state, index):
    noise = jax.random.fold_in(key, 2 * index + 1)
    places, scores, known, experience = rollout(state, index)
    state, metrics = phases.time("train", learn, index, state, frozen, *experience, noise)
    metrics |= {f"objective/rewards/{reward}": jnp.nanmean(scores[reward]) for reward in scores}
    episode = (index + 1) * job.batch_size  # a response
    metrics |= known | {"episode": episode, "epoch": episode / job.samples / len(prompts)}
    metrics |= extra_metrics(index, places, experience[1], scores)

    return state, metrics, dict(zip(EXPERIENCE, (*experience, noise), strict=True))

  def keep(state, step):
    return watch.keep(name, _whole(state.train, start.base), step)

  beta = jnp.float32(start.kl_coefficient)
  # Where later iterations leave it: at another place the second one would be compiled anew.
  beta = jax.device_put(beta, parallel.replicated(context.mesh))
  state = context.fit(
    name,
    advance,
    ppo.State(start.train, beta),
    steps=steps,
    log_every=c.log_every_rl,
    save_every=c.save_every_rl,
    evaluate=keep if watch else None,
    evaluate_every=watch.every if watch else 0,
    samples=lambda state, step: _rows(context, *rollout(state, step)[-1]) if step == steps else (),
    phases=phases,
  )

  facts = trained.measured(context, name, steps=steps, step=steps)
  beta = float(hosts.fetch(state.kl_coefficient))
  return Learner(_whole(state.train, start.base), facts, state.train, start.base, beta)


def _repeated(asked: Any, samples: int) -> Any:
  """Returns rows on the host, each as often as it has responses."""
  return jax.tree.map(lambda x: np.repeat(x, samples, axis=0), asked)


def _rewarded(
  rewards: Rewards, places: np.ndarray, prompts: Prompts, responses: Responses
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the weighted sum per token, and each reward per response; see `rewards.weighted`.

  What is known beside a reward stands under its name and the reward's.
  """
  by_name, known = {}, {}
  for name, (_, score) in rewards.items():
    given = score(places, prompts, responses)
    if isinstance(given, Known):
      known |= {f"{name}_{more}": values for more, values in given.more.items()}
      given = given.reward
    by_name[name] = given

  weights = {name: weight for name, (weight, _) in rewards.items()}
  total, scores = token_rewards.weighted(by_name, weights, responses.mask)
  return total, scores | known


def begin(
  context: contexts.Context,
  start: Params,
  job: ml_collections.ConfigDict,
  kl_coefficient: float | None = None,
) -> Learner:
  """Returns policy and value model before the first iteration, on the mesh.

  Args:
    start: {"policy", "value"}, the language model and the value model to start from; that of an
      estimator which wants none is not read.
    job: the config's `rl` section.
    kl_coefficient: β of the first iteration; None: the job's.
  """
  context.models.release()
  models = _models(context, job)
  # Only what is trained gets moments of Adam, so the frozen part stays out of the state.
  parts = {kind: pure.split(model, start[kind]) for kind, model in models.items()}
  learning, base = ({kind: part[i] for kind, part in parts.items()} for i in (0, 1))
  axes = {kind: pure.split(model, model.axes)[0] for kind, model in models.items()}
  train = supervised.place(learning, axes, optimizers.reinforcement(job), context.mesh)

  beta = job.kl_coefficient if kl_coefficient is None else kl_coefficient
  return Learner(_whole(train, base), {}, train, base, beta)


def _learning(
  context: contexts.Context, job: ml_collections.ConfigDict, begun: int, planned: int
) -> Callable:
  """Returns learn(index, state, frozen, *rollout, key) → (state, metrics) of an iteration."""
  stop_ids = context.rows.settings.tokenizer.stop_ids
  fixed = (context.models.language, context.models.scalar, job, stop_ids, context.mesh)
  kinds = optimizers.kinds(job.estimator)
  warmup = optimizers.value_warmup(job)

  # Nothing is compiled before it is called: without a warm-up only the second one ever is.
  programs = {learning: program(*fixed, learning) for learning in (WARM_UP, kinds)}
  rates = optimizers.schedule(job, planned)
  horizon = jnp.float32(optimizers.horizon(job, planned))

  def learn(index, state, *asked):
    learning_rates = rates(begun + index)
    learning = WARM_UP if begun + index < warmup else kinds
    state, metrics = programs[learning](state, *asked, learning_rates, horizon)
    logged = {"learning_rate": learning_rates["policy"]}

    if "value" in kinds:
      # The optimiser multiplies by value_scale itself; what is logged is the rate that acts.
      logged["value/learning_rate"] = job.value_scale * learning_rates["value"]

    return state, metrics | logged

  return learn


def program(
  policy: pure.PureModel,
  value: pure.PureModel,
  job: ml_collections.ConfigDict,
  stop_ids: tuple[int, ...],
  mesh: jax.sharding.Mesh,
  learning: tuple[str, ...] | None = None,
) -> Callable:
  """Returns the compiled iteration of a job; see `ppo.make_iteration`."""
  names = [field.name for field in dataclasses.fields(ppo.Settings)]
  settings = ppo.Settings(**{name: job[name] for name in names})
  optimizer = optimizers.reinforcement(job)
  kinds = optimizers.kinds(job.estimator)
  return _compiled(policy, value, optimizer, settings, stop_ids, mesh, learning, kinds)


def _whole(train: training_step.TrainState, base: Params) -> Params:
  """Returns the policy's parameters, what is frozen of them included."""
  return pure.join(train.params, base)["policy"]


def _models(context: contexts.Context, job: ml_collections.ConfigDict) -> dict[str, pure.PureModel]:
  own = {"policy": context.models.language, "value": context.models.scalar}
  return {kind: own[kind] for kind in optimizers.kinds(job.estimator)}


def _rows(
  context: contexts.Context, prompts: Prompts, responses: Responses, _, rewards: jax.Array
) -> list[dict]:
  """Returns a few responses in words, for people to read."""
  prompts, responses, rewards = jax.tree.map(
    lambda x: x[:SAMPLES_SHOWN], hosts.fetch((prompts, responses, rewards))
  )

  # Prompts are decoded as responses are: both are ids and a mask.
  questions = context.models.inference.words(Responses(tokens=prompts.tokens, mask=prompts.mask))
  scores = rewards.sum(axis=1).tolist()
  rows = zip(questions, context.models.inference.words(responses), scores, strict=True)
  return [{"prompt": x, "response": y, "score": score} for x, y, score in rows]


# To jit every function made anew is another program; so stages of one job share theirs.
@functools.cache
def _compiled(policy, value, optimizer, settings: ppo.Settings, stop_ids, mesh, learning, kinds):
  iterate = ppo.make_iteration(policy, value, optimizer, settings, stop_ids, learning)
  models = {kind: {"policy": policy, "value": value}[kind] for kind in kinds}
  state = ppo.State(supervised.homes(models, optimizer, mesh), parallel.replicated(mesh))
  return jax.jit(layout.on(mesh, iterate), donate_argnums=0, out_shardings=(state, None))
