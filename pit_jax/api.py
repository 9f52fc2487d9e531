"""What a Python program asks of the library: finished runs, training, and preferences of its own.

  run = pit_jax.load("runs/demo")
  run.improve(["Write to Mia."], ["Dear Mia"])[0].text

`pit_jax` itself has these names.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections
import numpy as np

from pit_jax import configurations, parallel
from pit_jax.data import conversations, questions, rows, schemas
from pit_jax.data import preferences as preference_data
from pit_jax.exchange import export
from pit_jax.improve import gains, improvement
from pit_jax.recipes import recipe as recipes
from pit_jax.recipes import running
from pit_jax.rollout import inference
from pit_jax.run import workdirs
from pit_jax.storage import owners, places
from pit_jax.types import Params

# A text, or messages {"role", "content"} of which the last one is the user's.
Prompt = str | Sequence[Mapping[str, str]]
PREFERENCES = "rows/preferences.jsonl"  # below a workdir: what a program gave to train on


@dataclasses.dataclass(frozen=True)
class Round:
  """A version that the improver wrote, and what it gains over the one before it.

  Attributes:
    text: the version.
    gap: its gain by the stop rule, in standard deviations of the gap reward.
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
  ):
    self.place = place
    self.models = tuple(models)
    self._folder = folder
    self._mesh = mesh
    self._batch_size = batch_size
    self._stop = dict(stop)

  def __repr__(self) -> str:
    return f"Run({self.place!r}, models={self.models})"

  def answer(
    self, prompts: Sequence[Prompt], *, temperature: float | int = 1.0, seed: int = 0
  ) -> list[str]:
    """Returns the policy's answers.

    Args:
      prompts: N of them, each a text or messages.
      temperature: divides the logits, at least 0; 0 takes the most likely tokens.
      seed: another seed, other samples.

    Raises:
      ValueError: a prompt cannot be used, the temperature is negative, or the run has no policy.
    """
    asked = _checked(self._policy[0], prompts)
    return self._answer([one.prompt for one in asked], jax.random.key(seed), temperature)

  def improve(
    self,
    prompts: Sequence[Prompt],
    drafts: Sequence[str | None] | None = None,
    *,
    rounds: int = 3,
    temperature: float | int = 1.0,
    seed: int = 0,
  ) -> list[Improved]:
    """Returns better versions of answers: the improver runs on its own output until the stop rule.

    Args:
      prompts: N of them, each a text or messages.
      drafts: what to improve; the policy writes those that are None, or all.
      rounds: versions to make of each at most, at least 1.
      temperature: divides the logits, at least 0; 0 takes the most likely tokens.
      seed: another seed, other samples.

    Raises:
      ValueError: a prompt or a draft cannot be used, there are not as many drafts as prompts, a
        number is out of its range, or the run has no improver.
    """
    if drafts is None:
      drafts = [None] * len(prompts)
    asked = _checked(self.improver.inference, prompts, {"response": drafts}, optional=True)
    return self.improve_questions(asked, jax.random.key(seed), rounds, temperature)

  def gap(
    self, prompts: Sequence[Prompt], responses: Sequence[str], references: Sequence[str]
  ) -> np.ndarray:
    """Returns R_PIT(x, response, reference), how much better each response is, Float[N].

    In standard deviations of the gap reward. It has a bias of its own for the place where an answer
    stands; the mean of both orders, (R(x, a, b) − R(x, b, a)) / 2, has none.

    Args:
      prompts: N of them, each a text or messages.
      responses: y, one per prompt.
      references: y_ref, one per prompt.

    Raises:
      ValueError: a row cannot be used, the lengths differ, or the run has no gap reward model.
    """
    asking, gap_reward = self._gap_reward
    asked = _checked(asking, prompts, {"response": responses, "reference": references})
    return asking.gaps(gap_reward, [one.prompt for one in asked], list(responses), list(references))

  def score(self, prompts: Sequence[Prompt], responses: Sequence[str]) -> np.ndarray:
    """Returns R_P(x, response), the reward model's score, Float[N].

    Args:
      prompts: N of them, each a text or messages.
      responses: y, one per prompt.

    Raises:
      ValueError: a row cannot be used, the lengths differ, or the run has no reward model.
    """
    rate = self._rate
    asked = _checked(None, prompts, {"response": responses})
    return rate([one.prompt for one in asked], list(responses))

  @functools.cached_property
  def improver(self) -> improvement.Improver:
    """Policy, improver and gap reward model with the stop rule; raises a ValueError without one."""
    models = export.load(self._folder, mesh=self._mesh, batch_size=self._batch_size)
    return dataclasses.replace(models, **self._stop)

  def improve_questions(
    self,
    asked: Sequence[questions.Question],
    key: jax.Array,
    rounds: int,
    temperature: float | int,
  ) -> list[Improved]:
    """Returns what `improve` makes of questions that were checked, with noise from a key."""
    if not asked:
      return []
    prompts = [question.prompt for question in asked]
    made = improvement.improve(
      self.improver,
      prompts,
      self.drafts(asked, key, temperature),
      rounds=rounds,
      key=key,
      temperature=temperature,
      until_stopped=True,
    )

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
    if not temperature >= 0:
      raise ValueError(f"temperature={temperature}; use 0 (the most likely tokens) or more")
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
  def _gap_reward(self) -> tuple[inference.Inference, Params]:
    if "improver" in self.models:
      return self.improver.inference, self.improver.gap_reward
    gap_reward = self._one("gap_reward")
    return gap_reward.asking, gap_reward.params

  @functools.cached_property
  def _rate(self) -> Callable[[Sequence[conversations.Prompt], Sequence[str]], np.ndarray]:
    published = export.load_published(self._folder, mesh=self._mesh, batch_size=self._batch_size)
    if published is not None:
      return published.rate
    reward = self._one("reward")
    return functools.partial(reward.asking.rate, reward.params)

  def _one(self, name: str) -> export.Exported:
    return export.load_one(self._folder, name, mesh=self._mesh, batch_size=self._batch_size)


class Preferences:
  """Preference rows in a program's own hands, checked as those of a file are.

  Attributes:
    rows: what can be trained on.
    skipped: reason → how many rows cannot.
  """

  def __init__(
    self, rows: Iterable[Mapping[str, Any]], *, schema: str = schemas.AUTO, source: str = "rows"
  ):
    """Checks rows; those that cannot be used are left out, counted and logged.

    Args:
      rows: a list of mappings, a `datasets.Dataset`, or any other iterable of mappings: `prompt` (a
        text, or messages), `chosen` and `rejected`, or the columns of another published schema.
      schema: the name of the one that all rows have; "auto" goes by the columns.
      source: what to call the rows in messages.

    Raises:
      ValueError: none can be used, or the schema is not known.
    """
    numbered = ((f"{source}, row {i}", fields) for i, fields in enumerate(rows, start=1))
    self._hold(preference_data.gather(source, schemas.convert(numbered, schema), on_bad_row="skip"))

  @classmethod
  def read(
    cls, source: str, *, limit: int | None = None, schema: str = schemas.AUTO
  ) -> Preferences:
    """Returns the rows of a source as `data.source` names it, such as "jsonl:mine.jsonl".

    Args:
      source: a file, a data set of a hub, or the embedded task; see `sources.read`.
      limit: the most usable rows to take, from the beginning; None for all.
      schema: as above.

    Raises:
      ValueError: the source is not known, or none of its rows can be used.
    """
    read = cls.__new__(cls)
    read._hold(preference_data.load(source, on_bad_row="skip", limit=limit, schema=schema))
    return read

  def _hold(self, loaded: preference_data.PreferenceSet) -> None:
    self.rows = loaded.rows
    self.skipped = loaded.skipped

  def __len__(self) -> int:
    return len(self.rows)

  def save(self, path: str | os.PathLike) -> None:
    """Writes the rows as JSON lines, which `data.source=jsonl:PATH` reads; replaces a file."""
    lines = (json.dumps(rows.written(row), ensure_ascii=False) + "\n" for row in self.rows)
    workdirs.write_text(pathlib.Path(path), "".join(lines))


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
  if batch_size < 1:
    raise ValueError(f"batch_size={batch_size}; use 1 or more")
  gains.check(stop_rule)
  devices = parallel.make_mesh(tuple(mesh))
  parts = parallel.parts(devices)
  # The export of a run names the run as well; every device takes as many rows.
  workdir = os.fspath(place).rstrip("/").removesuffix(f"/{export.FOLDER}")
  size = -(-batch_size // parts) * parts

  with places.opened(workdir, only=(export.FOLDER,)) as folder:
    models = export.names(folder)
  stop = {"margin": margin, "stop_rule": stop_rule}
  return Run(os.fspath(place), folder, models, devices, size, stop)


def train(
  config: str | ml_collections.ConfigDict,
  workdir: str | os.PathLike,
  *,
  preferences: Preferences | None = None,
) -> Run | None:
  """Runs a recipe to its end: trains, exports, measures and reports; the same call goes on.

  Args:
    config: the name of a configuration, such as "pit:tiny" or "mine.py:small", or what `get_config`
      returned and a program changed.
    workdir: a folder, or gs://BUCKET/FOLDER: made, or continued.
    preferences: what to train on in place of `data.source`; they are written into the workdir.

  Returns:
    The finished run; None where its recipe exports no models.

  Raises:
    ValueError: the configuration, its data or its models cannot be used, or the workdir belongs to
      another run.
  """
  if isinstance(config, str):
    config = configurations.load(config)
  owners.check_place(workdir)
  recipe = recipes.of(config)

  with places.opened(workdir) as folder, owners.held(folder):
    if preferences is not None:
      config = config.copy_and_resolve_references()
      with config.unlocked():
        config.data.source = f"jsonl:{_kept(preferences, folder)}"
    running.run(config, folder)

  return load(workdir) if recipe.exported is not None else None


def _kept(preferences: Preferences, folder: pathlib.Path) -> pathlib.Path:
  """Returns the file below a workdir that holds the rows; writes it if it is not there."""
  path = (folder / PREFERENCES).resolve()
  if not path.exists():
    preferences.save(path)
    return path

  # A run that goes on has to see the rows that it began with.
  if Preferences.read(f"jsonl:{path}").rows != preferences.rows:
    raise ValueError(
      f"{places.address(folder)} holds a run on other preferences ({PREFERENCES}); give those to "
      "continue it, or another workdir"
    )
  return path


def _checked(
  asking: inference.Inference | None,
  prompts: Sequence[Prompt],
  texts: Mapping[str, Sequence[str | None]] | None = None,
  *,
  optional: bool = False,
) -> list[questions.Question]:
  """Returns the rows of a call as the models take them.

  Args:
    asking: who is asked, whose template has to be able to show the prompts; None: anything can.
    prompts: x.
    texts: name → one text per prompt.
    optional: whether a text may be None.

  Raises:
    ValueError: a row cannot be used; the message names it by its place, counted from 0.
  """
  if isinstance(prompts, str):
    raise ValueError(f"prompts={prompts!r}; give a list of prompts, such as [{prompts!r}]")
  columns = {name: list(column) for name, column in (texts or {}).items()}
  for name, column in columns.items():
    if len(column) != len(prompts):
      raise ValueError(
        f"there are {len(prompts)} prompts and {len(column)} {name}s; give one for each"
      )

  checked = []
  for row, prompt in enumerate(prompts):
    fields = {"prompt": prompt, **{name: column[row] for name, column in columns.items()}}
    question = questions.check(fields, row, asking.check_prompt if asking else None)
    missing = [name for name in columns if not optional and not fields[name]]
    if question.error is None and missing:
      question = dataclasses.replace(question, error=f"the {missing[0]} is empty")
    if question.error is not None:
      raise ValueError(f"row {row}: {question.error}")
    checked.append(question)

  return checked


def _improved(made: improvement.Rounds, row: int) -> Improved:
  """Returns what became of one answer."""
  kept = int(made.kept[row])
  stopped = made.ended(row)
  count = stopped or len(made.gaps)
  rounds = tuple(
    Round(made.texts[k][row], float(made.gaps[k - 1][row])) for k in range(1, count + 1)
  )
  return Improved(made.texts[kept][row], made.texts[0][row], rounds, stopped)
