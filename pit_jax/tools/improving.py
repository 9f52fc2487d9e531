"""Improves a file of answers, or one that is typed in, by a finished run."""

import collections
import contextlib
import dataclasses
import gzip
import itertools
import json
import os
import pathlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax

from pit_jax import arguments, lfs
from pit_jax.api import runs
from pit_jax.data import files, principles, questions, readings, schemas, values
from pit_jax.improve import improvement

# Fields that an output row has beside its own.
RESULT = ("improved", "rounds", "stopped", "drafted_by", "is_cut")
FAILURE = ("line", "error")  # or those that one has which could not be used
TABLES = (".csv", ".tsv", ".parquet", ".xlsx")  # suffixes of what an output is not
READ = ("prompt", "response", *schemas.SYSTEM)  # fields of an input row that are read
# How JSON begins, and its first line where it is written on several.
JSON = re.compile(r'\[\s*\{|\{\s*"')
OPENED = ("[", "{", "[{")
BATCHES = 8  # per chunk: rows that the stop rule has ended leave room for others of their chunk


@dataclasses.dataclass(frozen=True)
class Asking:
  """How a run is asked.

  Attributes:
    rounds: versions to make at most, at least 1.
    temperature: divides the logits, at least 0.
    seed: another seed, other samples.
    principles: by which versions are to be better, as "concise,not:polite"; None: the run's own.
  """

  rounds: int = 3
  temperature: float = 1.0
  seed: int = 0
  principles: str | None = None

  def __post_init__(self):
    arguments.seed("seed", self.seed)


@dataclasses.dataclass
class Summary:
  """What became of the rows."""

  rows: int = 0
  improved: int = 0  # at least one version was kept
  stopped: int = 0  # the stop rule ended before the last round
  written: int = 0  # drafts that the policy wrote
  cut: int = 0  # the models saw the prompt or the answer shortened to their length limits
  errors: int = 0
  limits: tuple[int, int] = (0, 0)  # tokens of a prompt and of a response that the models see
  first_cut: int = 0  # line of the first row that was cut
  first_error: str = ""  # line and reason of the first row that could not be used
  # Field that nothing reads → of how many rows whose draft the policy wrote.
  unread: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)

  def __str__(self) -> str:
    line = f"{self.rows} rows: {self.improved} improved, {self.stopped} stopped by the stop rule"
    lines = [f"{line}, {self.errors} errors"]
    if self.written:
      lines.append(self._drafts())
    if self.cut:
      prompt, response = self.limits
      lines.append(
        f"{self.cut} cut to the length limits, {prompt} tokens of a prompt and {response} of a "
        f"response, the first at line {self.first_cut}: 'is_cut' marks them"
      )
    if self.errors:
      lines.append(f"the first error: {self.first_error}")
    return "\n  ".join(lines)

  def _drafts(self) -> str:
    """Says how many drafts were not given, and where they may stand instead."""
    usable = self.rows - self.errors
    where = "no row has" if self.written == usable else "the others have"
    drafts = "1 draft" if self.written == 1 else f"{self.written} drafts"
    said = f"{drafts} written by the policy: {where} a 'response'"
    unread = ", ".join(f"{name} ({rows})" for name, rows in self.unread.items())
    return f"{said}; fields of theirs that are not read: {unread}" if unread else said


def improve_file(source: str, output: str, load: Callable[[], runs.Run], asking: Asking) -> None:
  """Improves all rows of a file, chunk by chunk, and says what became of them.

  Args:
    source: JSON lines, gzipped or not; "-" is the standard input.
    output: where to write; "-" is the standard output.
    load: returns the run, once the input was found and the output can be written.
    asking: how the run is asked.

  Raises:
    ValueError: the output cannot be written, or is the input.
  """
  target = None if output == "-" else _target(source, output)
  summary = Summary()
  with _reading(source) as stream:  # before the models are loaded: it may not exist
    run = load()
    with _writing(target) as sink:
      asked = questions.read(stream, run.improver.inference.check_prompt)
      for row in improve_rows(run, asked, asking, summary):
        sink.write(_encode(row))

  print(f"{output}: {summary}" if target else summary, file=None if target else sys.stderr)


def _reading(name: str) -> contextlib.AbstractContextManager:
  return contextlib.nullcontext(sys.stdin.buffer) if name == "-" else lfs.opened(name)


def _target(source: str, name: str) -> pathlib.Path:
  """Returns where the output goes, or raises a ValueError before any work is done."""
  target = pathlib.Path(name).resolve()  # a link stays a link, its target is replaced
  if files.suffix(target) in TABLES:
    raise ValueError(f"--output={name}: rows are written as JSON lines; name it *.jsonl")
  if target.exists() and not target.is_file():
    raise ValueError(f"--output={name} is not a regular file; use a file's name, or -")
  if not target.parent.is_dir():
    raise ValueError(f"--output={name}: there is no folder {target.parent}; make it first")
  if source != "-" and target.exists() and target.samefile(source):
    raise ValueError(f"--output={name} is the input; use another name, nothing was changed")
  return target


@contextlib.contextmanager
def _writing(target: pathlib.Path | None) -> Iterator[Any]:
  """Opens the output under a temporary name and renames it when all went well."""
  if target is None:
    yield sys.stdout.buffer
    sys.stdout.buffer.flush()
    return
  temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
  try:
    with (gzip.open if target.suffix == ".gz" else open)(temporary, "wb") as sink:
      yield sink
    os.replace(temporary, target)
  finally:
    temporary.unlink(missing_ok=True)


def _encode(row: dict[str, Any]) -> bytes:
  """Returns a line of JSON; text that UTF-8 cannot hold is spelt with escapes, as it came."""
  try:
    return json.dumps(row, ensure_ascii=False).encode() + b"\n"
  except UnicodeEncodeError:
    return json.dumps(row).encode() + b"\n"


def improve_rows(
  run: runs.Run, asked: Iterable[questions.Question], asking: Asking, summary: Summary
) -> Iterator[dict[str, Any]]:
  """Yields the output row of every input row, in order; counts into `summary`."""
  asked = iter(asked)
  shown = run.chosen(asking.principles, "--principles")
  root = jax.random.key(asking.seed)
  size = BATCHES * run.improver.inference.batch_size
  settings = run.improver.inference.settings
  summary.limits = (settings.max_prompt_length, settings.max_response_length)

  for index in itertools.count():
    chunk = list(itertools.islice(asked, size))
    if not chunk:
      return
    good = [question for question in chunk if question.error is None]
    key = jax.random.fold_in(root, index)
    made = run.improve_questions(good, key, asking.rounds, asking.temperature, shown)
    improved = iter(zip(made, _are_cut(run, good, made, shown), strict=True))

    for question in chunk:
      summary.rows += 1
      if question.error is not None:
        summary.errors += 1
        summary.first_error = summary.first_error or f"line {question.line}: {question.error}"
        yield {**_own(question.fields), "line": question.line, "error": question.error}
        continue

      one, is_cut = next(improved)
      _count(summary, question, one, is_cut)
      yield _row(question, one, is_cut)
    if sys.stderr.isatty():
      print(f"\r{summary.rows} rows", end="\r", file=sys.stderr, flush=True)


def _count(
  summary: Summary, question: questions.Question, one: runs.Improved, is_cut: bool
) -> None:
  """Counts a row that was improved, or was not better."""
  summary.improved += one.stopped != 1
  summary.stopped += one.stopped is not None
  summary.cut += is_cut
  if is_cut:
    summary.first_cut = summary.first_cut or question.line

  if question.response is None:
    summary.written += 1
    own = _own(question.fields)
    summary.unread.update(
      name for name, value in own.items() if name not in READ and not values.is_empty(value)
    )


def _are_cut(
  run: runs.Run,
  good: Sequence[questions.Question],
  made: Sequence[runs.Improved],
  shown: Sequence[principles.Shown],
) -> list[bool]:
  """Returns of every row whether the models saw it shortened, in the prompt or in the draft."""
  if not good:
    return []
  models = run.under(shown)
  settings = models.inference.settings
  limits = (settings.max_prompt_length, settings.max_response_length)
  texts = (models.shown([question.prompt for question in good]), [one.draft for one in made])
  asked = settings.formats["improver"].conversations(*texts)
  return settings.template.encode(settings.tokenizer, asked, *limits).is_cut.tolist()


def _row(question: questions.Question, one: runs.Improved, is_cut: bool) -> dict[str, Any]:
  """Returns a row's fields with the answer, y_0 where the policy wrote it, and the rounds."""
  is_given = question.response is not None
  answer = {} if is_given else {"response": one.draft}
  rounds = [dataclasses.asdict(version) for version in one.rounds]
  result = {"improved": one.text, "rounds": rounds, "stopped": one.stopped}
  result |= {"drafted_by": "input" if is_given else "policy", "is_cut": is_cut}
  return {**_own(question.fields), **answer, **result}


def _own(fields: dict[str, Any]) -> dict[str, Any]:
  """Returns a row's fields without those that an earlier output put into it; it may be an input."""
  mine = RESULT + (FAILURE if "error" in fields else ())
  return {name: value for name, value in fields.items() if name not in mine}


def converse(run: runs.Run, asking: Asking) -> None:
  """Improves what is typed in until an empty line or the end of the input."""
  shown = run.chosen(asking.principles, "--principles")  # refused before anything is typed
  print(
    "A prompt, which may be a conversation: its messages {role, content} as a JSON list. Then a "
    "draft to improve; without one the policy writes it. Enter ends.\nShown of a version: its "
    "number, by how much the stop rule finds it better than the one before it, and its text."
  )
  root = jax.random.key(asking.seed)
  for index in itertools.count():
    prompt = _ask_prompt()
    if not prompt:
      return
    draft = _ask("draft>  ") or None
    fields = {"prompt": prompt, "response": draft}
    question = questions.check(fields, index + 1, run.improver.inference.check_prompt)
    if question.error is not None:
      print(f"error: {question.error}")
      continue
    _show(run, question, jax.random.fold_in(root, index), asking, shown)


def _ask_prompt() -> str | list[dict[str, Any]]:
  """Returns the prompt that is typed; a conversation in JSON may be pasted on several lines."""
  text = _ask("\nprompt> ")
  if text in OPENED:
    while readings.messages(text) is None and (line := _ask("")):
      text += f"\n{line}"

  messages = readings.messages(text)
  if messages is not None:
    print(f"read as a conversation, messages: {len(messages)}")
  elif JSON.match(text):
    print("read as a text: it is no JSON list of messages {role, content}")
  return messages or text


def _ask(words: str) -> str:
  """Returns what is typed after some words, "" at the end of the input; piped text needs none."""
  try:
    return input(words if sys.stdin.isatty() else "").strip()
  except (EOFError, KeyboardInterrupt):
    print()
    return ""


def _show(
  run: runs.Run,
  question: questions.Question,
  key: jax.Array,
  asking: Asking,
  shown: Sequence[principles.Shown],
) -> None:
  """Prints every version as soon as it is made, then which one is kept, and why no more follow."""
  models = run.under(shown)
  margin = models.margin
  (answer,) = run.drafts([question], key, asking.temperature)
  print(f"  0           {answer}")
  for k in range(1, asking.rounds + 1):
    (version,), (gap,) = improvement.revise(
      models,
      [question.prompt],
      [answer],
      key=jax.random.fold_in(key, k),
      temperature=asking.temperature,
    )
    print(f"  {k}  {gap:+8.3f}  {version}", flush=True)

    if not gap > margin:
      draft = " (the draft)" if k == 1 else ""
      print(f"kept: version {k - 1}{draft}; version {k} is not better by more than {margin:g}")
      return
    answer = version

  rounds = asking.rounds
  print(f"kept: version {rounds}; --rounds={rounds} are made, each better by more than {margin:g}")
