"""Finished runs, as a Python program asks them."""

from __future__ import annotations

import dataclasses
import functools
import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from pit_jax import arguments, parallel
from pit_jax.api import asked, scoring
from pit_jax.data import conversations, questions
from pit_jax.data import principles as data_principles
from pit_jax.exchange import export
from pit_jax.improve import gains, improvement
from pit_jax.rollout import implicit, inference
from pit_jax.storage import places
from pit_jax.types import Params


@dataclasses.dataclass(frozen=True)
class Round:
  """A version that the improver wrote, and what it gains over the one before it.

  Attributes:
    text: the version.
    gap: its gain by the stop rule, in standard deviations of the gap reward; in nats of a reward
      of likelihoods.
  """

  text: str
  gap: float


@dataclasses.dataclass(frozen=True)
class Improved:
  """An answer, and how it came about.

  Attributes:
    text: the answer that the stop rule keeps.
    draft: what the rounds began with.
    rounds: every version made; the last one may be the first without a gain, which is not kept.
    stopped: the round, counted from 1, at which the stop rule ended; None if it never did.
  """

  text: str
  draft: str
  rounds: tuple[Round, ...]
  stopped: int | None

  @property
  def why(self) -> str:
    """Why no more versions were made, as a sentence."""
    if self.stopped is None:
      return f"round {len(self.rounds)} was the last that was asked for"
    gap = self.rounds[self.stopped - 1].gap
    kept = f"round {self.stopped - 1}" if self.stopped > 1 else "the draft"
    return f"round {self.stopped} gains {gap:+.3f}, which is not enough: {kept} is kept"


class Run:
  """A finished run, whose models are read when they are first asked.

  Attributes:
    place: its workdir, or its export.
    models: the names of the models that it has.
  """

  def __init__(
    self,
    place: str,
    folder: pathlib.Path,
    models: Sequence[str],
    mesh: jax.sharding.Mesh,
    batch_size: int,
    stop: Mapping[str, Any],
    bank: data_principles.Bank | None = None,
  ):
    self.place = place
    self.models = tuple(models)
    self._folder = folder
    self._how = {"mesh": mesh, "batch_size": batch_size}  # as models are read
    self._stop = dict(stop)
    self._bank = bank

  def __repr__(self) -> str:
    return f"Run({self.place!r}, models={self.models})"

  def answer(
    self, prompts: Sequence[asked.Prompt], *, temperature: float | int = 1.0, seed: int = 0
  ) -> list[str]:
    """Returns the policy's answers.

    Args:
      prompts: N of them, each a text or messages.
      temperature: divides the logits, at least 0; 0 takes the most likely tokens.
      seed: another seed, other samples.

    Raises:
      ValueError: a prompt cannot be used, the temperature is negative, or the run has no policy.
    """
    arguments.real("temperature", temperature, 0)
    key = jax.random.key(arguments.seed("seed", seed))
    rows = asked.check(self._policy[0], prompts, {})
    return self._answer([one.prompt for one in rows], key, temperature)

  def improve(
    self,
    prompts: Sequence[asked.Prompt],
    drafts: Sequence[str | None] | None = None,
    *,
    principles: Sequence[str] | None = None,
    rounds: int = 3,
    temperature: float | int = 1.0,
    seed: int = 0,
  ) -> list[Improved]:
    """Returns better versions of answers: the improver runs on its own output until the stop rule.

    Args:
      prompts: N of them, each a text or messages.
      drafts: what to improve; the policy writes those that are None, or all.
      principles: by which versions are to be better, such as ["concise", "not:polite"]: names of
        the principles of the run, "not:" before those that are negated. None: the run's own list.
        Of runs that were trained with principles alone.
      rounds: versions to make of each at most, at least 1.
      temperature: divides the logits, at least 0; 0 takes the most likely tokens.
      seed: another seed, other samples.

    Raises:
      ValueError: a prompt or a draft cannot be used, there are not as many drafts as prompts, a
        number is out of its range, a principle is none of the run's, or the run has no improver.
    """
    shown = self.chosen(principles)
    arguments.real("temperature", temperature, 0)
    count = arguments.whole("rounds", rounds, 1)
    key = jax.random.key(arguments.seed("seed", seed))
    texts = {} if drafts is None else asked.texts(draft=drafts)
    rows = asked.check(self.improver.inference, prompts, texts, optional=True)
    return self.improve_questions(rows, key, count, temperature, shown)

  def gap(
    self,
    prompts: Sequence[asked.Prompt],
    responses: Sequence[str],
    references: Sequence[str],
    *,
    principles: Sequence[str] | None = None,
  ) -> np.ndarray:
    """Returns R_PIT(x, response, reference), how much better each response is, Float[N].

    In standard deviations of the gap reward; in nats of a reward of likelihoods. A gap reward model
    has a bias of its own for the place where an answer stands; the mean of both orders,
    (R(x, a, b) − R(x, b, a)) / 2, has none.

    Args:
      prompts: N of them, each a text or messages.
      responses: y, one per prompt.
      references: y_ref, one per prompt.
      principles: by which; see `improve`.

    Raises:
      ValueError: a row cannot be used, the lengths differ, a principle is none of the run's, or the
        run has nothing that rewards a gap.
    """
    models = self._showing(self._gap_reader, self.chosen(principles))
    texts = asked.texts(response=responses, reference=references)
    rows = asked.check(models.inference, prompts, texts)
    if not rows:
      return np.zeros(0, np.float32)
    return models.gaps([one.prompt for one in rows], *texts.values())

  def score(
    self,
    prompts: Sequence[asked.Prompt],
    responses: Sequence[str],
    *,
    principles: Sequence[str] | None = None,
  ) -> np.ndarray:
    """Returns R_P(x, response), the reward model's score, Float[N]; in nats of one of likelihoods.

    Args:
      prompts: N of them, each a text or messages.
      responses: y, one per prompt.
      principles: by which; see `improve`.

    Raises:
      ValueError: a row cannot be used, the lengths differ, a principle is none of the run's, or the
        run has no reward model.
    """
    shown = self.chosen(principles)
    rate = self._rate
    texts = asked.texts(response=responses)
    rows = asked.check(None, prompts, texts)
    if not rows:
      return np.zeros(0, np.float32)
    return rate([one.prompt for one in rows], *texts.values(), shown)

  @functools.cached_property
  def improver(self) -> improvement.Improver:
    """Policy, improver and gap reward with the stop rule; raises a ValueError without them."""
    models = export.load(self._folder, **self._how)
    return dataclasses.replace(models, **self._stop)

  def chosen(
    self, names: str | Sequence[str] | None, named: str = "principles"
  ) -> tuple[data_principles.Shown, ...]:
    """Returns principles of the run by their names; see `improve`.

    Args:
      names: a list of them, or one text with commas; None: the run's own list.
      named: what the list is called where it was given.

    Raises:
      ValueError: one is none of the run's, or its models read no principles.
    """
    return data_principles.chosen(self._bank, names, named, self.place)

  def under(self, shown: Sequence[data_principles.Shown]) -> improvement.Improver:
    """Returns `improver`, which shows principles to improver and gap reward."""
    return self._showing(self.improver, shown)

  def improve_questions(
    self,
    asked: Sequence[questions.Question],
    key: jax.Array,
    rounds: int,
    temperature: float | int,
    shown: Sequence[data_principles.Shown] = (),
  ) -> list[Improved]:
    """Returns what `improve` makes of questions that were checked, with noise from a key."""
    if not asked:
      return []
    # The policy, which writes drafts, is shown no principles.
    columns = ([question.prompt for question in asked], self.drafts(asked, key, temperature))
    how = {"rounds": rounds, "key": key, "temperature": temperature, "until_stopped": True}
    made = improvement.improve(self.under(shown), *columns, **how)
    return [_improved(made, row) for row in range(len(asked))]

  def drafts(
    self, asked: Sequence[questions.Question], key: jax.Array, temperature: float | int
  ) -> list[str]:
    """Returns y_0 of every question; the policy writes what was not given, with round 0's noise."""
    missing = [question.prompt for question in asked if question.response is None]
    written = iter(())
    if missing:
      written = iter(self._answer(missing, jax.random.fold_in(key, 0), temperature))

    return [next(written) if one.response is None else one.response for one in asked]

  def _answer(
    self, prompts: Sequence[conversations.Prompt], key: jax.Array, temperature: float | int
  ) -> list[str]:
    asking, policy = self._policy
    return asking.answer(policy, prompts, key, temperature) if prompts else []

  @functools.cached_property
  def _policy(self) -> tuple[inference.Inference, Params]:
    # An improver brings its policy: it is not read twice.
    if "improver" in self.models:
      return self.improver.inference, self.improver.policy
    policy = self._one("policy")
    return policy.asking, policy.params

  @functools.cached_property
  def _gap_reader(self) -> improvement.Improver:
    """What reads gaps: `improver`, or what rewards alone."""
    if "improver" in self.models:
      return self.improver
    if export.IMPLICIT[0] in self.models:
      rewarding = self._implicit
      return improvement.Improver(rewarding.asking, None, None, rewarding, 0.0)
    found = self._one("gap_reward")
    return improvement.Improver(found.asking, None, None, found.params, 0.0)

  def _showing(
    self, models: improvement.Improver, shown: Sequence[data_principles.Shown]
  ) -> improvement.Improver:
    if self._bank is None:
      return models
    return dataclasses.replace(models, show=functools.partial(self._bank.show_all, shown=shown))

  @functools.cached_property
  def _rate(self) -> scoring.Rate:
    if export.IMPLICIT[0] in self.models:
      return scoring.by_likelihoods(self._implicit, self._bank)
    return scoring.rate(self._folder, self._bank, **self._how)

  @functools.cached_property
  def _implicit(self) -> implicit.Reward:
    # An improver brings what stops it: it is not read twice.
    if "improver" in self.models and isinstance(self.improver.gap_reward, implicit.Reward):
      return self.improver.gap_reward
    return export.load_implicit(self._folder, **self._how)

  def _one(self, name: str) -> export.Exported:
    return export.load_one(self._folder, name, **self._how)


def load(
  place: str | os.PathLike,
  *,
  batch_size: int = 32,
  mesh: Sequence[int] = (-1, 1, 1),
  margin: float | int = 0.0,
  stop_rule: str = improvement.STOP_RULES[0],
) -> Run:
  """Returns a finished run, on the devices of this machine.

  Args:
    place: its workdir, the folder `models` of one, or the gs:// address of either.
    batch_size: rows per compiled call, at least 1; it is rounded up to a multiple of the devices.
    mesh: sizes of data, fsdp and tensor; -1: the rest.
    margin: a version is kept when it gains more than this over the one before it; −inf keeps all.
    stop_rule: what a gain is, one of "both_orders", "draft_zero" and "zero_point"; see
      `improve/gains.py`.

  Raises:
    ValueError: there is no finished run, or an argument is not allowed.
  """
  workdir = arguments.place("place", place, "runs/demo").rstrip("/")
  arguments.whole("batch_size", batch_size, 1)
  arguments.real("margin", margin, -math.inf, may_be_infinite=True)
  gains.check(stop_rule)
  devices = parallel.make_mesh(asked.sizes(mesh))
  parts = parallel.parts(devices)
  # The export of a run names the run as well; every device takes as many rows.
  workdir = workdir.removesuffix(f"/{export.FOLDER}")
  size = -(-batch_size // parts) * parts

  if "://" not in workdir and not pathlib.Path(workdir).is_dir():
    raise ValueError(
      f"there is no folder {workdir} (working directory {os.getcwd()}); give a run's workdir"
    )
  with places.opened(workdir, only=(export.FOLDER,)) as folder:
    models = export.names(folder)
    bank = export.bank(folder)
  stop = {"margin": margin, "stop_rule": stop_rule}
  return Run(os.fspath(place), folder, models, devices, size, stop, bank)


def _improved(made: improvement.Rounds, row: int) -> Improved:
  """Returns what became of one answer."""
  kept = int(made.kept[row])
  stopped = made.ended(row)
  count = stopped or len(made.gaps)
  rounds = tuple(
    Round(made.texts[k][row], float(made.gaps[k - 1][row])) for k in range(1, count + 1)
  )
  return Improved(made.texts[kept][row], made.texts[0][row], rounds, stopped)
