"""A finished run as its experiments see it: models, judges, and what every system answered."""

import dataclasses
import functools
import logging
from collections.abc import Sequence
from typing import Any

import jax

from pit_jax.data import preferences, values
from pit_jax.data import rows as data_rows
from pit_jax.evaluate import clock, suite
from pit_jax.feedback import judges, language_models
from pit_jax.improve import improvement, self_refine
from pit_jax.run import context as contexts
from pit_jax.stages import classifier_units, reward

LOG = logging.getLogger(__name__)
LONGER, LONGER_PAIR = "rlhf_longer", "rlhf_longer_best_of_2"
INDEPENDENT, PUBLISHED = "R_judge", "R_public"

# Streams of noise: one number per experiment, so that adding one changes no other.
ORIGINAL, RESAMPLED, SFT, IMPROVER_SFT, ABLATIONS, SECOND_SAMPLE = 1, 2, 3, 4, 100, 150
ROUNDS, TEMPERATURES, CANDIDATES, REFINEMENTS = 200, 300, 400, 500
FRONTIER, NEXT_ROUND, CHOICES = 600, 700, 800


@dataclasses.dataclass(frozen=True)
class Subject:
  """A finished run, and what its systems answered to the held-out prompts.

  Answers are sampled when an experiment first needs them, and once; the streams make them the same
  in whatever order, and whichever, experiments run.

  Attributes:
    context: the run's surroundings.
    suite: prompts, judges and noise.
    policy: the models of the policy's chain.
    chain: all models of a run of recipe pit; None where the policy's chain is all there is.
    seconds: how long systems took to sample, per prompt; see `clock.timed`.
  """

  context: contexts.Context
  suite: suite.Suite
  policy: Any
  chain: Any
  seconds: dict[str, float] = dataclasses.field(default_factory=dict)

  @property
  def few(self) -> suite.Suite:
    """The suite on the first prompts, for what is costly."""
    return self.suite.first(self.context.config.evaluation.temperature_prompts)

  @property
  def validating(self) -> suite.Suite:
    """The suite on as few prompts of the reward models' validation part, to choose by."""
    rows = preferences.distinct(self.context.folds["reward_validation"])
    most = self.context.config.evaluation.temperature_prompts
    return dataclasses.replace(self.suite, questions=[row.prompt for row in rows[:most]])

  @property
  def rows(self) -> Sequence[data_rows.Preference]:
    """The held-out rows that are evaluated, each prompt once."""
    return held_out(self.context)

  @functools.cached_property
  def original(self) -> list[str]:
    """What the trained policy answered: the draft of every improver."""
    with clock.timed(self.seconds, "original", len(self.suite.questions)):
      return self.suite.answers(self.policy.rl, ORIGINAL)

  @functools.cached_property
  def made(self) -> improvement.Rounds:
    """All rounds of the improver on `original`."""
    rounds, drafts = self.context.config.evaluation.rounds, self.original
    with clock.timed(self.seconds, "pit", len(drafts)):
      return self.suite.rounds(drafts, rounds, ROUNDS)

  @property
  def absent(self) -> dict[str, str]:
    """The baselines of a run of recipe pit that nobody can play here, and why."""
    c = self.context.config.evaluation.self_refine
    reason = self_refine.absence(self.context.inference, c) if self.chain else ""
    return {"self_refine": reason} if reason else {}

  @functools.cached_property
  def refined(self) -> self_refine.Refinements | None:
    """Self-Refine's rounds on `original`, by the policy, as many as the improver's.

    It is None in a run of recipe rlhf, and where it is `absent`.
    """
    if self.chain is None or self.absent:
      return None
    c, drafts = self.context.config.evaluation, self.original
    with clock.timed(self.seconds, "self_refine", len(drafts)):
      return self_refine.play(
        self.context.inference,
        self.policy.rl,
        self_refine.form_of(c.self_refine),
        self.suite.questions,
        drafts,
        rounds=c.rounds,
        key=jax.random.fold_in(self.suite.key, REFINEMENTS),
        temperature=self.suite.temperature,
      )

  @functools.cached_property
  def systems(self) -> dict[str, list[str]]:
    """The answers of every trained system but the ablations, by name."""
    texts = {
      "original": self.original,
      "policy_resampled": self.suite.answers(self.policy.rl, RESAMPLED),
      "policy_sft": self.suite.answers(self.policy.sft, SFT),
    }
    if self.chain is None:
      return texts
    sft = self.chain.improver_sft
    texts["improver_sft"] = self.suite.improved(sft, self.original, IMPROVER_SFT)
    texts["pit"] = self.made.texts[1]
    if self.refined:
      texts["self_refine"] = self.refined.texts[1]
    return texts

  @functools.cached_property
  def ablated(self) -> dict[str, list[str]]:
    """The answers of every ablation, by name; none where they were not trained.

    Beside the policy whose RL was carried on stands the better of two samples of it, of R_P's
    choice: an answer of an improver takes two samples too, its draft and its own.
    """
    trained = self.chain.ablations if self.chain else {}
    texts = {
      name: self._ablation(name, params, ABLATIONS + index)
      for index, (name, params) in enumerate(trained.items())
    }
    if LONGER in texts:
      second = self.suite.answers(trained[LONGER], SECOND_SAMPLE)
      texts[LONGER_PAIR] = self.suite.best([texts[LONGER], second])
    return texts

  @functools.cached_property
  def texts(self) -> dict[str, list[str]]:
    """The data's responses and the answers of every system but the ablations, by name."""
    data = {name: [getattr(row, name) for row in self.rows] for name in ("chosen", "rejected")}
    return {**data, **self.systems}

  @property
  def pairs(self) -> list[tuple[str, str]]:
    """Which systems are compared with which; ablations apart."""
    if self.chain is None:
      return [("original", "policy_sft"), ("original", "chosen"), ("policy_resampled", "original")]
    pairs = [(name, "original") for name in self.systems if name != "original"]
    pairs += [("original", "policy_sft"), ("original", "chosen")]
    others = [name for name in ("self_refine",) if self.refined]
    return [*pairs, *(("pit", name) for name in ("improver_sft", *others))]

  @property
  def ablation_pairs(self) -> list[tuple[str, str]]:
    """Every ablation against original, and pit against every ablation."""
    return [(name, "original") for name in self.ablated] + [("pit", name) for name in self.ablated]

  @property
  def contrasts(self) -> list[tuple[str, str]]:
    """Those of the pairs that are no other one turned around."""
    later = {pair: place for place, pair in enumerate(self.pairs)}
    return [pair for place, pair in enumerate(self.pairs) if later.get(pair[::-1], place) <= place]

  @property
  def headline(self) -> tuple[str, str]:
    """The comparison that the run is about."""
    return ("pit", "original") if self.chain else ("original", "policy_sft")

  def _ablation(self, name: str, params, stream: int) -> list[str]:
    if name == LONGER:
      return self.suite.answers(params, stream)
    return self.suite.improved(params, self.original, stream)


def of_policy(context: contexts.Context, policy: Any) -> Subject:
  """Returns a run of recipe rlhf."""
  return Subject(context, _suite(context, policy, None, None), policy, None)


def of_improver(context: contexts.Context, models: Any) -> Subject:
  """Returns a run of recipe pit."""
  found = _suite(context, models.policy, models.gap_reward, models.improver)
  return Subject(context, found, models.policy, models)


def of_rewards(context: contexts.Context, models: Any) -> Subject:
  """Returns a run of recipe reward, whose models answer nothing and which has no judges."""
  asking = improvement.Improver(
    inference=context.inference,
    policy=None,
    improver=None,
    gap_reward=models.gap_reward.params,
    zero_point=models.gap_reward.facts["zero_point"],
    margin=context.config.evaluation.margin,
    stop_rule=context.config.evaluation.stop_rule,
  )
  questions = [row.prompt for row in held_out(context)]
  found = suite.Suite(asking, questions, (), context.key("evaluation"), 0.0)
  return Subject(context, found, models, models)


def held_out(context: contexts.Context) -> Sequence[data_rows.Preference]:
  """Returns the held-out rows that are evaluated, each prompt once.

  A published judge has to be able to show a prompt; others are left out, and logged.
  """
  rows = preferences.distinct(context.folds["held_out"])
  seen = [row for row in rows if context.judge is None or _shows(context.judge, row)]
  if len(seen) < len(rows):
    LOG.warning("the judge cannot show %d of %d prompts", len(rows) - len(seen), len(rows))
  return seen[: context.config.evaluation.prompts]


def _shows(judge: Any, row: data_rows.Preference) -> bool:
  """Returns whether a published model's template takes the conversation."""
  try:
    judge.reader.check(row.prompt)
  except values.RowError:
    return False
  return True


def _suite(context, policy, gap_reward, improver) -> suite.Suite:
  inference = context.inference
  available = [judges.gold()] if context.config.data.source == "synthetic" else []
  if asked := language_models.build(context):
    available.append(asked)
  if context.judge:
    # Published scores come in any scale: what is a tie is told in the unit of R_P.
    judge, _ = classifier_units.calibrated(
      context, "reward_public", context.folds["reward_validation"], context.judge, policy.sft
    )
    available.append(judges.reward_model(judge.rate, PUBLISHED))
  if policy.judge:
    available.append(judges.reward_model(reward.rating(context, policy.judge), INDEPENDENT))
  available.append(judges.reward_model(reward.rating(context, policy.reward)))
  read = None
  if gap_reward is not None:
    read = judges.remembering(functools.partial(inference.gaps, gap_reward.params))
    available.append(judges.gap_model(read))
  models = improvement.Improver(
    inference=inference,
    policy=policy.rl,
    improver=improver,
    gap_reward=gap_reward.params if gap_reward else None,
    zero_point=gap_reward.facts["zero_point"] if gap_reward else 0.0,
    margin=context.config.evaluation.margin,
    stop_rule=context.config.evaluation.stop_rule,
    read=read,
  )
  questions = [row.prompt for row in held_out(context)]
  key = context.key("evaluation")
  return suite.Suite(models, questions, available, key, context.config.temperature)
