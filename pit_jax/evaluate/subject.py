"""A finished run as experiments see it: prompts, judges, and what every system answered."""

import abc
import dataclasses
import functools
import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import ml_collections
import numpy as np

from pit_jax import config_keys
from pit_jax.data import preferences, values
from pit_jax.data import rows as data_rows
from pit_jax.evaluate import clock, suite
from pit_jax.feedback import judges, language_models, named
from pit_jax.improve import improvement
from pit_jax.run import context as contexts
from pit_jax.stages import classifier_units, reward, trained
from pit_jax.types import Params

LOG = logging.getLogger(__name__)
INDEPENDENT = "R_judge"
PUBLISHED = "R_public"

# Streams of noise: one number per draw, so that another experiment changes none. Recipes have
# streams of their own, from 100 on.
TRAINED = 1
RESAMPLED = 2
OTHERS = 3
FRONTIER = 600


@dataclasses.dataclass(frozen=True)
class Chain:
  """Stages of RL along which samples were kept; see `stages.frontier`."""

  stages: Sequence[tuple[str, int]]  # name and iterations of each, in order
  start: str  # what the report calls the model that they began with
  # (suite, drafts) → what that model answers; drafts are None of a policy.
  first: Callable[[suite.Suite, Sequence[str] | None], list[str]]
  proxy: str  # what the report calls the reward that they maximised
  score: Callable[..., np.ndarray]  # (questions, answers, drafts) → that reward of each, Float[N]


@dataclasses.dataclass(frozen=True)
class Subject(abc.ABC):
  """A finished run, and what its systems answered to the held-out prompts.

  Answers are sampled when an experiment first needs them, and once; the streams make them the same
  in whatever order, and whichever, experiments run. What a recipe's systems are says its own class.
  """

  context: contexts.Context  # configuration, data, models and folder of the run
  suite: suite.Suite  # prompts, judges and noise
  # How long systems took to sample, per prompt; see `clock.timed`.
  seconds: dict[str, float] = dataclasses.field(default_factory=dict, kw_only=True)

  # What a run has none of where its class says nothing else.
  ablated: ClassVar[Mapping[str, Sequence[str]]] = {}  # the answers of every ablation, by name
  ablation_pairs: ClassVar[Sequence[tuple[str, str]]] = ()  # compared with which systems
  controls: ClassVar[Sequence[str]] = ()  # second draws of another system, as good as it
  about: ClassVar[Mapping[str, str]] = {}  # what systems are that only the configuration names
  absent: ClassVar[Mapping[str, str]] = {}  # the baselines that nobody can play here, and why
  reward_models: ClassVar[Mapping[str, dict]] = {}  # what is known of each
  chains: ClassVar[Mapping[str, Chain]] = {}  # those along which samples were kept

  @property
  @abc.abstractmethod
  def systems(self) -> Mapping[str, Sequence[str]]:
    """The answers of every trained system but the ablations, by name."""

  @property
  @abc.abstractmethod
  def pairs(self) -> list[tuple[str, str]]:
    """Which systems are compared with which; ablations apart."""

  @property
  def few(self) -> suite.Suite:
    """The suite on the first prompts, for what is costly."""
    return self.suite.first(self.context.config.evaluation.temperature_prompts)

  @property
  def validating(self) -> suite.Suite:
    """The suite on as few prompts of `validation_rows`, to choose by."""
    rows = preferences.distinct(validation_rows(self.context))
    most = self.context.config.evaluation.temperature_prompts
    return dataclasses.replace(self.suite, questions=[row.prompt for row in rows[:most]])

  @property
  def rows(self) -> Sequence[data_rows.Preference]:
    """The held-out rows that are evaluated, each prompt once."""
    return held_out(self.context)

  @functools.cached_property
  def texts(self) -> dict[str, Sequence[str]]:
    """The data's responses and the answers of every system but the ablations, by name."""
    data = {name: [getattr(row, name) for row in self.rows] for name in ("chosen", "rejected")}
    return {**data, **self.systems}

  @property
  def headline(self) -> tuple[str, str]:
    """The comparison that the run is about.

    Raises:
      ValueError: it is none of the pairs.
    """
    pair = self.context.recipe.headline
    if pair not in self.pairs:
      compared = ", ".join(f"{a} with {b}" for a, b in self.pairs)
      raise ValueError(
        f"the headline of recipe {self.context.recipe.name} compares {pair[0]} with {pair[1]}, and "
        f"its systems are compared as {compared}; name one of these, and repeat the command: what "
        "was trained is read back"
      )
    return pair


@dataclasses.dataclass(frozen=True)
class Policies(Subject):
  """A run whose systems are language models that answer by themselves."""

  models: Mapping[str, Params]  # of each system, that which the run is about first
  compared: Sequence[tuple[str, str]]  # `chosen` and `rejected` are the data's responses
  control: str  # what a second draw of the first system is called, which has to be as good as it
  reward_models: Mapping[str, dict] = dataclasses.field(default_factory=dict, kw_only=True)
  chains: Mapping[str, Chain] = dataclasses.field(default_factory=dict, kw_only=True)
  about: Mapping[str, str] = dataclasses.field(default_factory=dict, kw_only=True)
  study: Any = dataclasses.field(default=None, kw_only=True)  # what the recipe's `train` returned

  @functools.cached_property
  def systems(self) -> Mapping[str, Sequence[str]]:
    """The answers of every model, and a second draw of the first one's."""
    (first, policy), *others = self.models.items()
    with clock.timed(self.seconds, first, len(self.suite.questions)):
      texts = {first: self.suite.answers(policy, TRAINED)}
    texts[self.control] = self.suite.answers(policy, RESAMPLED)
    for stream, (name, params) in enumerate(others, start=OTHERS):
      texts[name] = self.suite.answers(params, stream)

    return texts

  @property
  def pairs(self) -> list[tuple[str, str]]:
    """Which systems are compared with which."""
    return [*self.compared, (self.control, next(iter(self.models)))]

  @property
  def controls(self) -> list[str]:
    """The second draw of the first system."""
    return [self.control]


def held_out(context: contexts.Context) -> Sequence[data_rows.Preference]:
  """Returns the held-out rows that are evaluated, each prompt once.

  A published judge has to be able to show a prompt; others are left out, and logged.
  """
  rows = preferences.distinct(context.rows.folds["held_out"])
  seen = [row for row in rows if context.models.judge is None or _shows(context.models.judge, row)]
  if len(seen) < len(rows):
    LOG.warning("the judge cannot show %d of %d prompts", len(rows) - len(seen), len(rows))
  return seen[: context.config.evaluation.prompts]


def validation_rows(context: contexts.Context) -> Sequence[data_rows.Preference]:
  """Returns the validation part of the last fold that has one: rows that trained no model."""
  c = context.config.data
  name = [fold for fold in c.folds if fold not in c.prompts_only][-1]
  return context.rows.folds[f"{name}{preferences.VALIDATION}"]


def _shows(judge: Any, row: data_rows.Preference) -> bool:
  """Returns whether a published model's template takes the conversation."""
  try:
    judge.reader.check(row.prompt)
  except values.RowError:
    return False

  return True


def facts_of(models: Mapping[str, trained.Trained | None]) -> dict[str, dict]:
  """Returns what is known of reward models that there are; gaps apart, and what stages tell."""
  left_out = ("gaps", "steps", "step")
  return {
    name: {key: value for key, value in model.facts.items() if key not in left_out}
    for name, model in models.items()
    if model
  }


def unjudged(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields why nobody can score the answers of a run that trains no reward model, if nobody can.

  It is for the `problems` of such a recipe. A language model compares answers and scores none.
  """
  if not config_keys.is_embedded(config.data.source) and not config.evaluation.reward_model:
    yield (
      f"recipe {config.recipe} trains no reward model, and nobody else scores the answers to "
      f"{config.data.source}; name a judge as evaluation.reward_model=DIRECTORY"
    )


def check_judges(context: contexts.Context) -> None:
  """Refuses judges that cannot score held-out answers, before anything is trained.

  Raises:
    ValueError: a file of right answers has none to some prompt, or a published reward model has a
      single validation row to find its unit on.
  """
  if context.models.judge is not None and len(rows := validation_rows(context)) < 2:
    raise ValueError(
      f"evaluation.reward_model={context.config.evaluation.reward_model} is put into the unit of "
      f"samples for validation rows, of which there {'is one' if rows else 'are none'}; use more "
      "rows, or a larger data.validation"
    )
  raters = context.config.get("feedback", {}).get("raters", {})
  for name in context.config.evaluation.judges:
    if raters[name].kind == "verifier" and named.scores(raters, name):
      questions = [row.prompt for row in held_out(context)]
      named.build(context, "raters", name).score(questions, [""] * len(questions))


def suite_of(
  context: contexts.Context,
  *,
  policy: Params,
  sampler: Params,
  reward_model: reward.RewardModel | None = None,
  judge: reward.RewardModel | None = None,
  gap_reward: reward.RewardModel | None = None,
  improver: Params | None = None,
  labellers: Collection[str] = (),
) -> suite.Suite:
  """Returns what the experiments on a run share.

  Args:
    context: configuration, data, models and folder of the run.
    policy: the language model that the run trained.
    sampler: the one whose samples set the unit of a published judge.
    reward_model: that which trained the policy, if the run has one.
    judge: a reward model that trained nothing.
    gap_reward: that which trained an improver, which it stops.
    labellers: judges whose labels the models were trained on: raters of the section `feedback`, and
      the gold score where one gives it.
  """
  inference = context.models.inference
  # The most believed first: those that trained nothing here, then those that did.
  available = []
  own = [judges.gold()] if config_keys.is_embedded(context.config.data.source) else []
  available += [judge for judge in own if judge.name not in labellers]
  if language_judge := language_models.build(context):
    available.append(language_judge)

  named_judges = [named.build(context, "raters", name) for name in context.config.evaluation.judges]
  available += [judge for judge in named_judges if judge.name not in labellers]

  if published := context.models.judge:
    # Published scores come in any scale: what is a tie is told in the unit of the run's own.
    about = (context, "reward_public", validation_rows(context), published, sampler)
    classifier, _ = classifier_units.calibrated(*about)
    available.append(judges.reward_model(classifier.rate, PUBLISHED))

  if judge:
    available.append(judges.reward_model(reward.rating(context, judge), INDEPENDENT))
  if reward_model:
    available.append(judges.reward_model(reward.rating(context, reward_model)))
  available += [judge for judge in (*own, *named_judges) if judge.name in labellers]
  read = None
  if gap_reward:
    read = judges.remembering(functools.partial(inference.gaps, gap_reward.params))
    available.append(judges.gap_model(read))

  evaluation = context.config.evaluation
  stopping = (gap_reward.params, gap_reward.facts["zero_point"]) if gap_reward else (None, 0.0)
  models = improvement.Improver(
    inference, policy, improver, *stopping, evaluation.margin, evaluation.stop_rule, read
  )

  questions = [row.prompt for row in held_out(context)]
  key = context.key("evaluation")
  trainers = judges.TRAINERS | {*labellers}
  return suite.Suite(models, questions, available, key, context.config.temperature, trainers)
