"""The rounds of one draw of labels: score the pool, keep what is sure, relabel it, train again."""

import dataclasses
import functools
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
import numpy as np

from pit_jax import progress
from pit_jax.data import encode, preferences, tables
from pit_jax.data import rows as data_rows
from pit_jax.models import pure
from pit_jax.recipes.ser import draws, selector
from pit_jax.rollout import inference
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import head, reward
from pit_jax.types import GapPreferences, Params, Preferences

REWARD = "reward"  # R_P, which scores answers
GAP = "gap"  # R_PIT, which scores how much better one is than another
SECTIONS = {REWARD: "reward", GAP: "gap_reward"}
HEAD = "head"
WHOLE_MODEL = "all"
TRAINED = (WHOLE_MODEL, HEAD)  # what of a model learns from labels
SEED = "seed"
LONGER = "seed_longer"
BEST = "ser"
ORACLE = "ser_oracle"
RANDOM = "ser_random"
WHOLE = "all_labels"


@dataclasses.dataclass(frozen=True)
class Pairs:
  """Pairs in words and in tokens, where there are any of them: cutting makes some equal."""

  rows: Sequence[preferences.Preference]
  table: tables.Table
  # Of every pair of the table what heads read, Float[N C D]; None where trunks learn, too.
  features: np.ndarray | None = None

  @functools.cached_property
  def at(self) -> dict[int, int]:
    """Place among the rows → place in the table, of those that are there."""
    return {int(place): at for at, place in enumerate(self.table.contents.index)}


@dataclasses.dataclass(frozen=True)
class Given:
  """What the rounds of all draws share."""

  pairs: Pairs  # of the fold, by whose places all goes
  start: Params  # the model whose trunk each reward model begins with
  sampler: Params | None  # as for `reward.run`


@dataclasses.dataclass(frozen=True)
class Round:
  """What a round found in the pool."""

  number: int  # from 1 on
  pool: np.ndarray  # Int[N], the places of its pairs in the fold
  chosen: np.ndarray  # Float[N], scores of the responses that the lost labels prefer, in nats
  rejected: np.ndarray  # Float[N], those of the others
  kept: np.ndarray  # Int[N], 1 where the model prefers `chosen`, −1 `rejected`, 0 not kept

  @property
  def count(self) -> int:
    """How many pairs are kept."""
    return int(np.abs(self.kept).sum())


@dataclasses.dataclass(frozen=True)
class Evolved:
  """A draw of labels with all that was trained on it."""

  draw: draws.Draw
  models: Mapping[str, reward.RewardModel]  # by arm
  rounds: Sequence[Round]  # a last one of which little was kept trained nothing
  last: int  # the last round that trained a model; 0 where none did
  best: int  # the round whose model is `ser`; 0 is the seed's
  ended: str  # why there was no further round


def arm(number: int) -> str:
  """Returns the arm that a round ends in."""
  return f"ser_{number}" if number else SEED


def stage(draw: int, name: str) -> str:
  """Returns the stage that trains an arm of a draw."""
  return f"draw_{draw}_{name}"


def job_of(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Returns the section by which reward models are trained."""
  return config[SECTIONS[config.ser.model]]


def encoded(
  context: contexts.Context, rows: Sequence[preferences.Preference], start: Params
) -> Pairs:
  """Returns pairs as models read them that begin with a trunk."""
  encode_pairs = {REWARD: encode.preferences, GAP: encode.gap_preferences}
  how = (context.rows.settings, context.rows.tokens)
  table = encode_pairs[context.config.ser.model](rows, *how)
  if context.config.ser.trained == WHOLE_MODEL:
    return Pairs(rows, table)

  # An ensemble whose members are the units of the last hidden state scores that state.
  asking = context.models.inference
  width = asking.scalar.config.width
  asking = dataclasses.replace(asking, scalar=pure.ensemble(asking.scalar.config, width))
  params = {"trunk": start["trunk"], "head": np.eye(width, dtype=np.float32), "bias": np.float32(0)}
  with context.timed("self-labelling"):
    return Pairs(rows, table, np.stack(_asked(asking, params, table[:], is_whole=True), axis=1))


def _asked(
  asking: inference.Inference,
  params: Params,
  pairs: Preferences | GapPreferences,
  *,
  is_whole: bool = False,
) -> list[np.ndarray]:
  """Returns scores of chosen and rejected, or gaps: wl and lw, or where it is whole all four."""
  if isinstance(pairs, Preferences):
    both = (pairs.chosen, pairs.rejected)
    return asking.score_all(params, *((pairs.prompts, one) for one in both))
  # The first letter names the response, the second the reference that the prompt shows.
  asked = [(pairs.given_rejected, pairs.chosen), (pairs.given_chosen, pairs.rejected)]
  if is_whole:
    same = [(pairs.given_chosen, pairs.chosen), (pairs.given_rejected, pairs.rejected)]
    asked = [asked[0], *same, asked[1]]
  return asking.score_all(params, *asked)


def scores(
  context: contexts.Context, model: reward.RewardModel, pairs: Pairs, places: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
  """Returns a model's scores of chosen and rejected of pairs at some places, in nats, Float[N].

  A gap model's are those of each response where the other one is its reference.
  """
  where = np.array([pairs.at[place] for place in places], int)
  if pairs.features is None:
    both = _asked(context.models.inference, model.params, pairs.table[where])
  else:
    found = pairs.features[where] @ np.asarray(model.params["head"])
    both = [found[:, 0], found[:, -1]]

  # Without the gain that calibration put into the head, differences are in nats again.
  chosen, rejected = (np.asarray(one, float) / model.facts["gain"] for one in both)
  return chosen, rejected


def fit(
  context: contexts.Context,
  given: Given,
  draw: draws.Draw,
  name: str,
  labels: Mapping[int, preferences.Preference],
  rounds: int = 1,
) -> reward.RewardModel:
  """Trains a reward model on labelled pairs, from the trunk that all share, or the head alone.

  Args:
    context: of the run.
    given: what all draws share.
    draw: whose labels validate it.
    name: of the stage.
    labels: the pairs by place, as they are labelled.
    rounds: for the steps of so many rounds.
  """
  job = job_of(context.config).copy_and_resolve_references()
  job.steps *= rounds
  pairs = given.pairs
  if pairs.features is not None:
    known = [place for place in labels if place in pairs.at]
    learnt = [pairs.at[place] for place in known]
    signs = [1 if labels[place].chosen == pairs.rows[place].chosen else -1 for place in known]
    validating = [pairs.at[place] for place in draw.validation if place in pairs.at]
    how = (pairs.features, learnt, signs, validating, job)
    return head.learn(context, name, given.start["trunk"], *how)

  validation = tuple(pairs.rows[place] for place in draw.validation)
  run = {REWARD: reward.run, GAP: reward.gap}[context.config.ser.model]
  fold = preferences.Fold(tuple(labels.values()), validation)
  return run(context, name, fold, start=given.start, job=job, sampler=given.sampler)


def evolve(context: contexts.Context, given: Given, draw: draws.Draw) -> Evolved:
  """Trains all arms of a draw; what is finished is read back."""
  ser = context.config.ser
  seed = {place: given.pairs.rows[place] for place in draw.training}
  models = [fit(context, given, draw, stage(draw.number, SEED), seed)]
  pool = np.array([place for place in draw.pool if place in given.pairs.at], int)
  labels: dict[int, preferences.Preference] = {}  # by place, of all rounds
  rounds: list[Round] = []
  ended = f"there were all rounds, {ser.rounds}"

  for number in range(1, ser.rounds + 1):
    found, context = _scored(context, given, draw, number, models[-1], pool)
    rounds.append(found)
    if selector.are_few(found.count, len(pool), ser.least_new):
      count = f"{found.count:,}" if found.count else "none"
      ended = f"round {number} keeps {count} of {len(pool):,} pairs"
      break

    own, context = _relabelled(context, given, draw, found)
    labels |= own
    pool = pool[found.kept == 0]
    named = stage(draw.number, arm(number))
    models.append(fit(context, given, draw, named, seed | labels))
    if told := _over(models, number, len(pool), len(draw.validation)):
      ended = told
      break

  progress.say(f"draw {draw.number}: {ended}")
  best = selector.best_round([model.facts["accuracy"] for model in models])
  last = len(models) - 1
  # Where rounds ended early, later ones are as the last one left them.
  by_arm = {arm(number): models[min(number, last)] for number in range(ser.rounds + 1)}
  by_arm |= {BEST: models[best]} | _controls(context, given, draw, labels, models)
  return Evolved(draw, by_arm, rounds, last, best, ended)


def _over(models: Sequence[reward.RewardModel], number: int, left: int, validation: int) -> str:
  """Returns why a round was the last, if it was; "" else."""
  *before, accuracy = (model.facts["accuracy"] for model in models)
  if selector.has_fallen(accuracy, max(before), validation):
    return (
      f"round {number} is right on {accuracy:.1%} of {validation} labels, {max(before):.1%} were"
    )
  return "" if left else f"round {number} keeps everything that was left"


def _scored(
  context: contexts.Context,
  given: Given,
  draw: draws.Draw,
  number: int,
  model: reward.RewardModel,
  pool: np.ndarray,
) -> tuple[Round, contexts.Context]:
  """Returns what a model keeps of a pool, and the context of stages that depend on it."""
  ser = context.config.ser

  def make() -> Iterator[dict[str, Any]]:
    with context.timed("self-labelling"):
      both = scores(context, model, given.pairs, pool.tolist())
    for place, *pair in zip(pool.tolist(), *map(np.ndarray.tolist, both), strict=True):
      yield {"row": place, **dict(zip(data_rows.SIDES, pair, strict=True))}

  made = made_rows.once(context, f"rows/{stage(draw.number, arm(number))}_scores", make)
  both = tuple(np.array(made.column(side), float) for side in data_rows.SIDES)
  if ser.model == GAP:
    kept = selector.preferred_by_gap(both[0] - both[1], ser.difference)
  else:
    both = selector.centred(*both)
    thresholds = {name: ser[name] for name in ("status", "upper", "lower", "difference")}
    kept = selector.preferred(*both, **thresholds)
  return Round(number, pool, *both, kept), made_rows.depending(context, made)


def _relabelled(
  context: contexts.Context, given: Given, draw: draws.Draw, found: Round
) -> tuple[dict[int, preferences.Preference], contexts.Context]:
  """Returns the kept pairs as the model labels them, by place, and the context they lead to."""
  labelled_by = stage(draw.number, arm(found.number - 1))

  def make() -> Iterator[dict[str, Any]]:
    sides = zip(
      found.pool.tolist(), found.kept.tolist(), found.chosen - found.rejected, strict=True
    )
    for place, sign, difference in sides:
      if sign:
        said = data_rows.written(turned(given.pairs.rows[place], sign))
        yield {"row": place, **said, "difference": abs(difference), "labelled_by": labelled_by}

  made = made_rows.once(context, f"rows/{stage(draw.number, arm(found.number))}_labels", make)
  labels = {row["row"]: data_rows.check(row, f"{made.name} {row['row']}") for row in made.rows}
  return labels, made_rows.depending(context, made)


def turned(row: preferences.Preference, sign: int) -> preferences.Preference:
  """Returns a pair with `chosen` as the preferred response (1), or `rejected` (−1).

  Nothing else stays of its own label: its numbers, the position and scores go.
  """
  unknown = dict.fromkeys((*data_rows.NUMBERS, "position", "scores"))
  row = dataclasses.replace(row, **unknown)
  if sign > 0:
    return row
  writers = row.writers and row.writers[::-1]
  return dataclasses.replace(row, chosen=row.rejected, rejected=row.chosen, writers=writers)


def _controls(
  context: contexts.Context,
  given: Given,
  draw: draws.Draw,
  labels: Mapping[int, preferences.Preference],
  models: Sequence[reward.RewardModel],
) -> dict[str, reward.RewardModel]:
  """Returns the seed's model of as many steps, and those of other labels on the same pairs."""
  if not labels:  # no round, so that nothing differs
    return dict.fromkeys((LONGER, ORACLE, RANDOM), models[0])
  seed = {place: given.pairs.rows[place] for place in draw.training}
  lost = {place: given.pairs.rows[place] for place in labels}
  coin = random.Random(context.seed(stage(draw.number, RANDOM)))
  tossed = {place: turned(row, coin.choice((1, -1))) for place, row in lost.items()}

  def trained(name, labels, rounds=1):
    return fit(context, given, draw, stage(draw.number, name), labels, rounds)

  return {
    LONGER: trained(LONGER, seed, len(models)),
    ORACLE: trained(ORACLE, seed | lost),
    RANDOM: trained(RANDOM, seed | tossed),
  }
