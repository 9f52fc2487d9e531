"""What an instructor wrote for a round: asked for once, read, and sorted by what becomes of it."""

import collections
import dataclasses
import functools
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

from pit_jax.data import conversations, preferences, values
from pit_jax.feedback import exercises, writers
from pit_jax.recipes.instructors import arms
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import asking, feedback

# What becomes of exercises, beside the reasons for which a part of a reply is none.
TRAINED = "trained on"
VALIDATES = "validates"
LEFT = "more than were wanted"
REPEATED = "repeated"
HELD_OUT = "a held-out question"
TOO_LONG = "too long"
UNSHOWN = "cannot be shown"


@dataclasses.dataclass(frozen=True)
class Lessons:
  """The exercises of a round."""

  made: Sequence[made_rows.MadeRows]  # replies, and what became of every part of them
  requests: int  # problems that the instructor was shown
  failures: Mapping[str, int]  # why requests have no reply → how many

  @property
  def rows(self) -> list[dict]:
    """Every part of the replies: {prompt, response, request, outcome}."""
    return self.made[1].rows

  @property
  def outcomes(self) -> dict[str, int]:
    """What became of the parts of the replies → of how many."""
    return dict(collections.Counter(row["outcome"] for row in self.rows))

  @property
  def is_enough(self) -> bool:
    """Whether there is something to train on, and something that validates."""
    return bool(self.of(TRAINED) and self.of(VALIDATES))

  @property
  def fold(self) -> preferences.Fold:
    """The exercises as what is imitated."""
    return preferences.Fold(*(
      tuple(preferences.Preference(row["prompt"], row["response"], "") for row in self.of(outcome))
      for outcome in (TRAINED, VALIDATES)
    ))  # fmt: skip

  def of(self, outcome: str) -> list[dict]:
    """Returns the rows of which this became."""
    return [row for row in self.rows if row["outcome"] == outcome]


def asked(
  context: contexts.Context,
  ask: Mapping[str, Callable[[], Sequence[exercises.Request]]],
  instructor: writers.Writer,
) -> dict[str, made_rows.MadeRows]:
  """Returns the replies to the requests of stages, which are asked for in one pass.

  Those of a stage lie in WORKDIR/rows/NAME_replies.jsonl.

  Args:
    context: of the run.
    ask: stage, which also seeds the noise of the instructor → what returns its requests; not called
      where the replies are there.
    instructor: who is asked.

  Raises:
    ValueError: a request shows a held-out question.
  """
  c = context.config.instructors
  shown = context.rows.settings.formats["policy"]
  turns = {}
  for name, make in ask.items():
    if made_rows.is_made(context, f"rows/{name}_replies"):
      continue
    problems = make()
    check_unseen(context, name, problems)
    turns[name] = [
      (conversations.Turn("system", c.role), conversations.Turn("user", exercises.ask(one)))
      for one in problems
    ]
  requests = {
    f"{name}_replies": writers.Request(
      shown.conversations(own), context.key(name), c.writing_temperature
    )
    for name, own in turns.items()
  }
  (written,) = asking.together(context, [(instructor, requests)])

  def told(name):
    replies = written(f"{name}_replies")
    for place, (own, (text,)) in enumerate(zip(turns[name], replies.texts, strict=True)):
      failure = replies.failures.get(place)
      yield {
        "prompt": conversations.messages(own),
        "response": None if failure else text,
        "written_by": instructor.name,
        **({"failure": failure} if failure else {}),
      }

  return {
    name: made_rows.once(context, f"rows/{name}_replies", functools.partial(told, name))
    for name in ask
  }


def written(
  context: contexts.Context,
  name: str,
  replies: made_rows.MadeRows,
  instructor: writers.Writer,
  seen: Collection[str],
) -> Lessons:
  """Returns the exercises of a round.

  Exercises of different requests come in turn, the first of each before the second of any, until
  there are enough; WORKDIR/rows/NAME_exercises.jsonl says what became of each.

  Args:
    context: of the run.
    name: of the round's stage.
    replies: of the instructor; see `asked`.
    instructor: who wrote them.
    seen: questions that an exercise must not repeat, as `normal` has them.

  Raises:
    ValueError: too many requests failed.
  """
  failures = collections.Counter(row["failure"] for row in replies.rows if "failure" in row)
  share = (failures, len(replies.rows), context.config.instructors.most_failed)
  feedback.check_share(context, f"writer {instructor.name}", "requests", *share)
  sort = lambda: _sorted(context, replies.column("response"), seen)  # noqa: E731
  sorted_rows = made_rows.once(context, f"rows/{name}_exercises", sort)
  return Lessons((replies, sorted_rows), len(replies.rows), failures)


def check_enough(name: str, lessons: Lessons, instructor: writers.Writer) -> None:
  """Refuses the exercises of a stage that are too few to train on and to validate.

  Raises:
    ValueError: they are, although something was asked for.
  """
  if not lessons.requests or lessons.is_enough:
    return
  reasons = ", ".join(f"{reason}: {count}" for reason, count in lessons.outcomes.items())
  raise ValueError(
    f"{name}: of what {instructor.name} wrote too little is an exercise to train on ({reasons}); "
    f"read {lessons.made[0].name}.jsonl below the workdir, and word instructors.role so that "
    "replies are lines of “Question: …” and “Answer: …”; replies are kept, so start in another "
    "workdir"
  )


def normal(text: str) -> str:
  """Returns a question as it is compared with others: without case, and spaces alike."""
  return " ".join(text.split()).casefold()


def held_out(context: contexts.Context) -> set[str]:
  """Returns the held-out questions, as `normal` has them."""
  rows = context.rows.folds[preferences.HELD_OUT]
  return {normal(conversations.said(row.prompt)) for row in rows}


def check_unseen(
  context: contexts.Context, name: str, requests: Sequence[exercises.Request]
) -> None:
  """Refuses to show an instructor what is held out.

  Raises:
    ValueError: a request, or what instructors are told they are, holds a held-out question.
  """
  hidden = held_out(context)
  shown = {normal(text) for one in requests for text in (one.question, *one.solved)}
  role = normal(context.config.instructors.role)
  leaked = sorted(hidden & shown) + sorted(text for text in hidden if _says(role, text))
  if leaked:
    raise ValueError(
      f"{name}: the instructor would be shown {len(leaked)} of the {len(hidden)} held-out "
      f"questions, such as {leaked[0][:60]!r}; what is judged must not be taught: take it out of "
      "instructors.role and of the training split"
    )


def _says(text: str, question: str) -> bool:
  """Returns whether a text holds a question as words of its own."""
  return bool(re.search(rf"(?<!\w){re.escape(question)}(?!\w)", text))


def _sorted(
  context: contexts.Context, replies: Sequence[str | None], seen: Collection[str]
) -> Iterator[dict]:
  """Yields every part of the replies with what becomes of it, those of all requests in turn."""
  form = context.config.instructors.form
  parts = [(place, number, one) for place, reply in enumerate(replies) if reply is not None
           for number, one in enumerate(exercises.parse(reply, form))]  # fmt: skip
  parts.sort(key=lambda part: (part[1], part[0]))
  hidden, known = held_out(context), {*seen}
  count, validating = arms.wanted(context.config)
  unfit = _unfit(context, [one for *_, one in parts])
  kept = 0

  for (place, _, one), reason in zip(parts, unfit, strict=True):
    question = normal(one.question)
    if reason:
      outcome = reason
    elif question in hidden:
      outcome = HELD_OUT
    elif question in known:
      outcome = REPEATED
    else:
      # Those that validate come first: what is missing is missing among those that are trained on.
      outcome = VALIDATES if kept < validating else TRAINED
      outcome = outcome if kept < count + validating else LEFT
      kept += 1
      known.add(question)
    yield {"prompt": one.question, "response": one.answer, "request": place, "outcome": outcome}


def _unfit(context: contexts.Context, some: Sequence[exercises.Exercise]) -> list[str]:
  """Returns why each part of a reply can be no row, "" where it can."""
  settings = context.rows.settings
  reasons = [one.failure for one in some]
  places = [place for place, reason in enumerate(reasons) if not reason]
  for place in places:
    try:
      context.models.inference.check_prompt(some[place].question)
    except values.RowError:
      reasons[place] = UNSHOWN
  fit = [place for place in places if not reasons[place]]
  if fit:
    asked = settings.formats["policy"].conversations([some[place].question for place in fit])
    (answers,) = settings.encode_responses([some[place].answer for place in fit])
    # The end of an answer is what it is about; prompts are cut where those of the data are.
    is_cut = answers.is_cut
    if settings.over_long == "drop":
      is_cut = is_cut | settings.encode(asked).is_cut
    for place in (fit[i] for i in is_cut.nonzero()[0]):
      reasons[place] = TOO_LONG
  return reasons
