"""Loads preferences from any source, checked, and divides them among the stages of training."""

import bisect
import collections
import dataclasses
import hashlib
import itertools
import json
import logging
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from pit_jax import ranges
from pit_jax.data import clusters, conversations, rows, schemas, scores, sources, values

Preference = rows.Preference
# Parts of a division by name: each fold; <fold>_validation of a fold whose responses are read, to
# watch, measure and calibrate; "judge", a part of the reward fold for a reward model that only
# judges; "held_out" for the final comparison, never trained on, nor used to select anything; and
# "set_aside", prompts that are trained on, by writers that are held out, which nobody uses.
Folds = dict[str, tuple[rows.Preference, ...]]


@dataclasses.dataclass(frozen=True)
class Fold:
  """The rows that a stage works on."""

  rows: tuple[rows.Preference, ...]  # to train on
  validation: tuple[rows.Preference, ...] = ()  # to watch, measure and calibrate what is trained

  @property
  def prompts(self) -> list[conversations.Prompt]:
    """The prompts of the rows, as often as they occur."""
    return [row.prompt for row in self.rows]


JOINED = "+"  # between the names of folds whose rows are taken together
THREE = {"sft": 1.0, "reward": 1.0, "rl": 1.0}  # folds: to imitate, to compare, to reinforce
HELD_OUT = "held_out"
SET_ASIDE = "set_aside"
VALIDATION = "_validation"
# The fold of which an independent judge has a part, and the name of that part.
JUDGED = "reward"
JUDGE = "judge"
FOLD_BY = ("prompt", "cluster")
ON_BAD_ROW = ("error", "skip")
RESERVED = (HELD_OUT, JUDGE, SET_ASIDE)  # names of parts that no fold may have
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Skipped:
  """A row that could not be used."""

  place: str  # file and line, or row
  reason: str  # under which such rows are counted
  message: str  # the reason, and what exactly is wrong


@dataclasses.dataclass(frozen=True)
class PreferenceSet:
  """The usable rows of a source."""

  rows: tuple[Preference, ...]  # what can be trained on, in the source's order
  skipped: dict[str, int]  # how many rows could not be used, by reason
  source: str  # where they came from, as given
  fingerprint: str  # a sha256 (16 hex digits) of the rows' content and order
  # What is to be known of how usable rows were read → of how many.
  notes: dict[str, int] = dataclasses.field(default_factory=dict)
  # The schemas that usable rows were read by → of how many.
  schemas: dict[str, int] = dataclasses.field(default_factory=dict)
  unusable: tuple[Skipped, ...] = ()  # every row that `skipped` counts, in the source's order


@dataclasses.dataclass(frozen=True)
class Division:
  """How preferences are divided into folds, validation and held-out splits: by a hash of prompts.

  A row's part depends on its prompt alone, of a conversation on the user's first message
  (`conversations.opening`): all rows of a prompt are together, and so are all turns of a
  conversation, whatever their order and whichever other rows there are. Folds have their sizes in
  expectation. Raising a fraction moves rows into the part it belongs to and none elsewhere.

  By cluster, prompts that are nearly the same are together too (`clusters.openings`); a row's part
  then depends on which other prompts there are, though not on their order.

  Where writers are held out too, nothing is trained on a response of theirs: a row with one counts
  where its prompt is held out, and is set aside elsewhere. Held-out rows are then of two kinds, see
  `is_by`: prompts and writers both new, and prompts alone.

  The names are those that a configuration's `data` has.
  """

  # The folds there are, and how large each is beside the others.
  folds: Mapping[str, float] = dataclasses.field(default_factory=lambda: dict(THREE))
  held_out: float | int = 0.1  # the fraction of prompts to hold out, in [0, 1)
  # The fraction of each fold whose responses are read to validate on, in [0, 1).
  validation: float | int = 0.1
  judge: float | int = 0.0  # the fraction of the rest of the reward fold that a judge has to itself
  prompts_only: Collection[str] = ("rl",)  # those folds of which nothing but the prompts is read
  held_out_writers: Collection[str] = ()  # whose responses are not trained on
  fold_by: str = "prompt"  # what stays together, "prompt" or "cluster"

  @classmethod
  def of(cls, settings: Any) -> "Division":
    """Returns the division that the attributes of a configuration's `data` ask for."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(cls)}
    return cls(**values | {"folds": sizes_of(settings)})

  def divide(self, preferences: Sequence[Preference]) -> Folds:
    """Returns the parts of some rows, by their names.

    Raises:
      ValueError: a fraction or a size is out of range, a writer or `fold_by` is not known, or a
        part that was asked for has no row.
    """
    fractions = {"held_out": self.held_out, "validation": self.validation, "judge": self.judge}
    for name, fraction in fractions.items():
      if not 0 <= fraction < 1:
        raise ValueError(f"data.{name} is {fraction}; use a fraction of at least 0 and below 1")

    _check_sizes(self.folds, self.judge)
    _check_writers(preferences, self.held_out_writers)
    openings = _openings(preferences, self.fold_by)
    parts = {name: [] for name in part_names(self.folds, self.prompts_only)}

    for row in preferences:
      name = self._part(openings[row.prompt])
      is_set_aside = name != HELD_OUT and is_by(row, self.held_out_writers)
      parts[SET_ASIDE if is_set_aside else name].append(row)

    # Of a part that nobody asked for, its fraction being 0, no row need be there.
    optional = {HELD_OUT: self.held_out, JUDGE: self.judge, SET_ASIDE: 0}
    wanted = [name for name in parts if optional.get(name, self.validation or name in self.folds)]
    if empty := [name for name in wanted if not parts[name]]:
      groups = len(set(openings.values()))
      together = f" in {groups} groups that stay together" if groups < len(openings) else ""
      given = ", ".join(f"data.{name} {fraction}" for name, fraction in fractions.items())
      raise ValueError(
        f"{len(preferences)} rows with {len(openings)} different prompts{together} leave "
        f"{', '.join(empty)} empty ({given}); use more rows or larger fractions"
      )

    return {name: tuple(part) for name, part in parts.items()}

  def _part(self, opening: str) -> str:
    if _uniform(opening, "held out") < self.held_out:
      return HELD_OUT
    ends = list(itertools.accumulate(self.folds.values()))
    place = bisect.bisect_right(ends, ends[-1] * _uniform(opening, "fold"))

    # Rounding may put a number just below 1 at the end of the last fold.
    fold = list(self.folds)[min(place, len(ends) - 1)]
    if fold not in self.prompts_only and _uniform(opening, "validation") < self.validation:
      return f"{fold}{VALIDATION}"
    return JUDGE if fold == JUDGED and _uniform(opening, "judge") < self.judge else fold


def divide(
  preferences: Sequence[Preference],
  held_out: float | int,
  validation: float | int,
  judge: float | int = 0.0,
  **further: Any,
) -> Folds:
  """Returns the parts of some rows by a division of these names, as `Division.divide` does."""
  division = Division(held_out=held_out, validation=validation, judge=judge, **further)
  return division.divide(preferences)


def folds_in(name: str) -> list[str]:
  """Returns the folds that a name means: "sft+reward" is both together."""
  return name.split(JOINED)


def sizes_of(settings: Any) -> dict[str, float]:
  """Returns the folds that a configuration's `data` names, and how large each is beside the others.

  Raises a ValueError where there are other sizes than folds, or a fold twice.
  """
  names = tuple(settings.folds)
  sizes = tuple(settings.fold_sizes) or (1.0,) * len(names)
  if len(sizes) != len(names) or len({*names}) != len(names):
    raise ValueError(
      f"data.folds={names} with data.fold_sizes={sizes}: give each fold once, and a size for each, "
      "or no sizes"
    )

  return dict(zip(names, sizes, strict=True))


def load(
  source: str,
  *,
  on_bad_row: str = "error",
  limit: int | None = None,
  seed: int = 0,
  is_streamed: bool = False,
  schema: str = schemas.AUTO,
  columns: str = "",
  against_scores: str = "keep",
  check_prompt: Callable[[conversations.Prompt], None] | None = None,
) -> PreferenceSet:
  """Loads and checks the preferences of a source.

  Args:
    source: as for `sources.read`.
    on_bad_row: "error" stops at the first row that cannot be used; "skip" leaves such rows out,
      counts them by reason and logs the counts. Rows in order that hold no preference, as ties, are
      left out and counted either way.
    limit: the most usable rows to take, from the beginning; None for all.
    seed, is_streamed, schema, columns: as for `sources.read`; streamed, no rows beyond `limit` are
      fetched.
    against_scores: "drop" leaves out and counts rows whose own scores contradict their label; see
      `scores.disagreement`.
    check_prompt: raises a `values.RowError` for a prompt that the models cannot be shown.

  Raises:
    ValueError: the source is not known, a row cannot be used (naming file and line), or none can.
  """
  read = sources.read(source, limit, seed, is_streamed, schema, columns)
  options = {"limit": limit, "against_scores": against_scores, "check_prompt": check_prompt}
  return gather(source, read, on_bad_row=on_bad_row, **options)


def gather(
  source: str,
  read: Iterable[schemas.Row],
  *,
  on_bad_row: str = "error",
  limit: int | None = None,
  against_scores: str = "keep",
  check_prompt: Callable[[conversations.Prompt], None] | None = None,
) -> PreferenceSet:
  """Checks rows that were read, as `load` does those of a source.

  Args:
    source: what to call them in messages.
    read: the rows; what follows is as for `load`.
    on_bad_row: "error" or "skip".
    limit: the most usable rows to take.
    against_scores: "keep" or "drop".
    check_prompt: refuses prompts that the models cannot be shown.

  Raises:
    ValueError: a row cannot be used, or none can.
  """
  _check_arguments(on_bad_row, against_scores, limit)
  usable = []
  unusable = []
  notes = collections.Counter()
  read_by = collections.Counter()
  first: dict[str, str] = {}

  for place, fields, row_notes, schema in read:
    try:
      if isinstance(fields, values.RowError):
        raise fields
      row = rows.check(fields, place)
      if check_prompt is not None:
        check_prompt(row.prompt)
      if against_scores == "drop":
        scores.check(row)
      usable.append(row)

      notes.update(row_notes)
      read_by[schema] += 1
      first |= {note: place for note in row_notes if note not in first}
    except values.RowError as error:
      if on_bad_row == "error" and not isinstance(error, values.LeftOut):
        raise ValueError(
          f"{place}: {error}. Correct the row, or leave bad rows out with data.on_bad_row=skip"
        ) from error

      unusable.append(Skipped(place, error.reason, str(error)))
      first.setdefault(error.reason, f"{place}: {error}")

    if limit is not None and len(usable) == limit:
      break

  skipped = dict(collections.Counter(row.reason for row in unusable))
  _report(source, len(usable), skipped, notes, first)
  told = (dict(notes), dict(read_by), tuple(unusable))
  return PreferenceSet(tuple(usable), skipped, source, fingerprint(usable), *told)


def _check_arguments(on_bad_row: str, against_scores: str, limit: int | None) -> None:
  if on_bad_row not in ON_BAD_ROW:
    raise ValueError(f'data.on_bad_row is {on_bad_row!r}; use "error" or "skip"')
  if against_scores not in scores.AGAINST:
    raise ValueError(f'data.against_scores is {against_scores!r}; use "keep" or "drop"')
  if limit is not None and limit < 1:
    raise ValueError(f"limit {limit} leaves no rows; use at least 1, or None for all rows")


def _report(
  source: str, usable: int, skipped: dict[str, int], notes: dict[str, int], first: dict[str, str]
) -> None:
  """Logs what was left out, and what is to be known of the rest; a ValueError if there is none."""
  if not usable:  # which ends the command: what would be logged is the error
    reasons = [f"{_count(bad)} such as {first[reason]}" for reason, bad in skipped.items()]
    raise ValueError(f"{source} holds no usable row: {'; '.join(reasons) or 'it is empty'}")

  for reason, bad in skipped.items():
    _LOG.warning("%s: skipped %d rows (%s), the first at %s", source, bad, reason, first[reason])
  for note, count in notes.items():
    _LOG.warning("%s: %s (%d rows, the first at %s)", source, note, count, first[note])


def _count(rows: int) -> str:
  return "1 row" if rows == 1 else f"{rows:,} rows"


def fingerprint(preferences: Sequence[Preference]) -> str:
  """Returns a sha256 (16 hex digits) of the content and the order of preferences."""
  digest = hashlib.sha256()
  for row in preferences:
    content = [row.prompt, row.chosen, row.rejected, row.response, row.margin]
    # Rows without these keep the fingerprint that they have had before these were read.
    new = {name: getattr(row, name) for name in ("label_probability", "pair_weight")}
    content += [known] if (known := {k: v for k, v in new.items() if v is not None}) else []
    digest.update(json.dumps(content).encode() + b"\n")

  return digest.hexdigest()[:16]


def are_folds(names: Any) -> bool:
  """Returns whether a value names folds: each once, and none as another part is called."""
  return (
    ranges.is_list(names)
    and len(names) > 0
    and all(map(ranges.NAME.holds, names))
    and len({*names}) == len(names)
    and not any(name in RESERVED or name.endswith(VALIDATION) for name in names)
  )


def part_names(folds: Mapping[str, float], prompts_only: Collection[str]) -> list[str]:
  """Returns the names of all parts that folds make; see `Folds`."""
  names = []
  for fold in folds:
    names += [fold] if fold in prompts_only else [fold, f"{fold}{VALIDATION}"]
    names += [JUDGE] if fold == JUDGED else []

  return [*names, HELD_OUT, SET_ASIDE]


def _openings(preferences: Sequence[Preference], fold_by: str) -> dict[conversations.Prompt, str]:
  """Returns for every prompt the text by whose hash it is divided."""
  if fold_by not in FOLD_BY:
    raise ValueError(f"data.fold_by is {fold_by!r}; use one of {', '.join(FOLD_BY)}")
  prompts = list({row.prompt: None for row in preferences})
  if fold_by == "cluster":
    return dict(zip(prompts, clusters.openings(prompts), strict=True))

  return {prompt: conversations.opening(prompt) for prompt in prompts}


def distinct(preferences: Sequence[Preference]) -> list[Preference]:
  """Returns one row of each prompt, in the order in which the prompts first come."""
  return list({row.prompt: row for row in preferences}.values())


def is_by(row: Preference, writers: Collection[str]) -> bool:
  """Returns whether one of these writers wrote a response of the row."""
  return not set(writers).isdisjoint(row.writers or ())


def _check_sizes(folds: Mapping[str, float], judge: float | int) -> None:
  if not folds or not all(0 < size < math.inf for size in folds.values()):
    raise ValueError(f"data.folds are {dict(folds)}; give at least one, each with a size above 0")
  if judge and JUDGED not in folds:
    raise ValueError(
      f"data.judge is {judge}, of a fold {JUDGED!r} which is not among {', '.join(folds)}; use 0"
    )


def _check_writers(preferences: Sequence[Preference], writers: Collection[str]) -> None:
  names = {writer for row in preferences for writer in row.writers or ()}
  if unknown := sorted(set(writers) - names):
    raise ValueError(
      f"data.held_out_writers has {', '.join(unknown)}, who wrote no response of these rows; their "
      f"writers are {', '.join(sorted(names)) or 'not said'}"
    )


def _uniform(opening: str, purpose: str) -> float:
  """Returns a number in [0, 1) that depends on a text and a purpose alone."""
  # `person` makes of one text an independent number for each purpose.
  digest = hashlib.blake2b(opening.encode(), digest_size=6, person=purpose.encode()).digest()
  return int.from_bytes(digest) / 256 ** len(digest)
