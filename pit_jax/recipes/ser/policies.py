"""What the models are good for: the best of n answers of M_P^SFT, or RL that maximises them."""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.recipes.ser import rounds
from pit_jax.run import context as contexts
from pit_jax.stages import reinforced, reward, trained
from pit_jax.statistics import candidates

BEST_OF_N = "best_of_n"
PPO = "ppo"
NONE = "none"
WAYS = (BEST_OF_N, PPO, NONE)
SFT = "policy_sft"
RESAMPLED = "policy_resampled"  # a second draw of it, which has to be as good
OF_SEED = "ppo_seed"
OF_SER = "ppo_ser"
REINFORCED = {OF_SEED: rounds.SEED, OF_SER: rounds.BEST}  # stage of RL → whose model it maximises
CHOSEN = {"best_of_seed": rounds.SEED, "best_of_ser": rounds.BEST, "best_of_all": rounds.WHOLE}
STREAM = 100  # of the first of n samples; see `subject.TRAINED`


def maximising(
  context: contexts.Context, policy: trained.Trained, models: Mapping[str, reward.RewardModel]
) -> dict[str, trained.Trained]:
  """Returns the policies of RL from M_P^SFT, by system; none where another way is chosen."""
  if context.config.ser.policy != PPO:
    return {}
  fold = context.rows.fold(context.config.rl.fold)
  start = policy.params
  return {
    name: reinforced.policy(context, name, fold, models[arm], start)
    for name, arm in REINFORCED.items()
  }


def answered(
  context: contexts.Context,
  suite: suites.Suite,
  policy: trained.Trained,
  models: Mapping[str, reward.RewardModel],
  policies: Mapping[str, trained.Trained],
) -> dict[str, Sequence[str]]:
  """Returns the answers of every system: M_P^SFT twice, and what the models make of it."""
  ser = context.config.ser
  if ser.policy == NONE:
    return {}
  count = ser.samples if ser.policy == BEST_OF_N else 2
  samples = [suite.answers(policy.params, STREAM + number) for number in range(max(count, 2))]
  texts = {SFT: samples[0], RESAMPLED: samples[1]}
  for stream, (name, one) in enumerate(policies.items(), start=subject.OTHERS):
    texts[name] = suite.answers(one.params, stream)

  if ser.policy == BEST_OF_N:
    best = {rounds.REWARD: _highest, rounds.GAP: _winner}[ser.model]
    for name, arm in CHOSEN.items():
      texts[name] = best(context, suite.questions, samples[:count], models[arm])
  return texts


def _highest(context, questions, samples, model) -> list[str]:
  """Returns of each question the sample that R_P scores highest."""
  rate = reward.rating(context, model)
  return _at(candidates.best(np.stack([rate(questions, texts) for texts in samples])), samples)


def _winner(context, questions, samples, model) -> list[str]:
  """Returns of each question the sample that R_PIT has gain most over all others."""
  ask: Callable = functools.partial(context.models.inference.gaps, model.params, questions)
  size = len(samples)
  gaps = np.zeros((size, size, len(questions)))
  for i in range(size):
    for j in range(size):
      if i != j:
        gaps[i, j] = ask(samples[i], samples[j])
  return _at(candidates.tournament(gaps), samples)


def _at(places: np.ndarray, samples: Sequence[Sequence[str]]) -> list[str]:
  return [samples[place][row] for row, place in enumerate(places.tolist())]


def compared(systems: Mapping[str, Sequence[str]]) -> list[tuple[str, str]]:
  """Returns which systems are compared: the evolved model's with the seed's first."""
  if not systems:
    return []
  pairs = [("best_of_ser", "best_of_seed"), ("best_of_all", "best_of_ser"), (OF_SER, OF_SEED)]
  pairs += [(name, SFT) for name in (*CHOSEN, *REINFORCED)]
  return [pair for pair in pairs if {*pair} <= {*systems}] + [(RESAMPLED, SFT)]


def measure(run: subject.Subject) -> dict:
  """Returns the systems that the models of the first draw make of M_P^SFT, under every judge."""
  systems = run.systems
  return {
    "systems": {name: run.suite.describe(texts) for name, texts in systems.items()},
    "comparisons": [row for a, b in run.pairs for row in run.suite.compare(a, b, systems)],
    "reward_models": run.reward_models,
    "about": run.about,
    "controls": run.controls,
  }
