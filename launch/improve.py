"""Improves a file of answers, or one that is typed in.

  python launch/improve.py --workdir=runs/demo --input=in.jsonl --output=out.jsonl
  python launch/improve.py --workdir=runs/demo

A row {prompt, response?}, the prompt a text or a list of messages {role, content}, comes back with

  improved  the answer that the stop rule keeps
  rounds    [{text, gap}]: every version made, with what it gains over the one before it by the
            stop rule; the last one may be the first without a gain
  stopped   the round at which the stop rule ended, null if it never did

Where `response` is absent the policy writes it. A row that cannot be used comes back with `line`
and `error`, and the others go on. Input may be gzipped; an output named .gz is; - is the standard
input or output. The output gets its name when it is complete. Without --input, prompts are typed.
"""

import argparse
import contextlib
import dataclasses
import gzip
import itertools
import json
import math
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax

from pit_jax import commands, lfs, parallel
from pit_jax.data import questions
from pit_jax.exchange import export
from pit_jax.improve import improvement
from pit_jax.storage import places

RESULT = ("improved", "rounds", "stopped")  # fields that an output row has beside its own
FAILURE = ("line", "error")  # or those that one has which could not be used
BATCHES = 8  # per chunk: rows that the stop rule has ended leave room for others of their chunk


@dataclasses.dataclass
class Summary:
  """What became of the rows."""

  rows: int = 0
  improved: int = 0  # at least one version was kept
  stopped: int = 0  # the stop rule ended before the last round
  cut: int = 0  # the models saw the prompt or the answer shortened to their length limits
  errors: int = 0

  def __str__(self) -> str:
    line = f"{self.rows} rows: {self.improved} improved, {self.stopped} stopped by the stop rule"
    cut = f", {self.cut} cut to the length limits" if self.cut else ""
    return f"{line}{cut}, {self.errors} errors"


@commands.command
def main(arguments: Sequence[str]) -> None:
  """Improves a file, or what is typed in."""
  options = _options(arguments)
  if options.input is None:
    converse(load(options, rows=1), options)
  else:
    improve_file(options)


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  parser = commands.Parser(__doc__)
  add = parser.add_argument
  add("--workdir", required=True, help="a finished run of pit: folder, or gs:// address")
  add("--input", help="JSON lines, gzipped or not; - is the standard input")
  add("--output", help="where to write; an older file is replaced; - is the standard output")
  add("--rounds", type=commands.at_least(1), default=3, help="versions to make at most (3)")
  add("--temperature", type=commands.at_least(0.0), default=1.0, help="0: most likely tokens (1.0)")
  margin = "a version is kept when it gains more than this (0.0); -inf keeps every version"
  add("--margin", type=commands.at_least(-math.inf), default=0.0, help=margin)
  rule = "R_PIT in both orders, less the draft's own zero, or less one zero for all (both_orders)"
  add("--stop_rule", choices=improvement.STOP_RULES, default=improvement.STOP_RULES[0], help=rule)
  add("--seed", type=int, default=0, help="another seed, other samples (0)")
  add("--batch_size", type=commands.at_least(1), default=64, help="rows per compiled call (64)")
  add(
    "--mesh",
    type=commands.sizes,
    default=(-1, 1, 1),
    help="data,fsdp,tensor; -1: the rest (-1,1,1)",
  )
  options = parser.parse_args(arguments)
  if (options.input is None) != (options.output is None):
    parser.error("--input and --output go together; give both, or neither to type prompts in")
  return options


def load(options: argparse.Namespace, rows: int) -> improvement.Improver:
  """Loads the models of the run, to be asked about this many rows at once, or a few more."""
  mesh = parallel.make_mesh(options.mesh)
  size = -(-rows // (devices := parallel.parts(mesh))) * devices  # every device takes as many rows
  with places.opened(options.workdir, only=(export.FOLDER,)) as folder:
    models = export.load(folder, mesh=mesh, batch_size=size)
  return dataclasses.replace(models, margin=options.margin, stop_rule=options.stop_rule)


def improve_file(options: argparse.Namespace) -> None:
  """Improves all rows of the input, chunk by chunk, and says what became of them."""
  target = None if options.output == "-" else _target(options.input, options.output)
  summary = Summary()
  with _reading(options.input) as stream:  # before the models are loaded: it may not exist
    models = load(options, options.batch_size)
    with _writing(target) as sink:
      asked = questions.read(stream, models.inference.check_prompt)
      for row in improve_rows(models, asked, options, summary):
        sink.write(_encode(row))
  print(f"{options.output}: {summary}" if target else summary, file=None if target else sys.stderr)


def _reading(name: str) -> contextlib.AbstractContextManager:
  return contextlib.nullcontext(sys.stdin.buffer) if name == "-" else lfs.opened(name)


def _target(source: str, name: str) -> pathlib.Path:
  """Returns where the output goes, or raises a ValueError before any work is done."""
  target = pathlib.Path(name).resolve()  # a link stays a link, its target is replaced
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
  models: improvement.Improver,
  asked: Iterable[questions.Question],
  options: argparse.Namespace,
  summary: Summary,
) -> Iterator[dict[str, Any]]:
  """Yields the output row of every input row, in order; counts into `summary`."""
  asked, root = iter(asked), jax.random.key(options.seed)
  size = BATCHES * models.inference.batch_size
  for index in itertools.count():
    chunk = list(itertools.islice(asked, size))
    if not chunk:
      return
    good = [question for question in chunk if question.error is None]
    made = iter(_improve(models, good, jax.random.fold_in(root, index), options, summary))
    for question in chunk:
      summary.rows += 1
      summary.errors += question.error is not None
      bad = {**_own(question.fields), "line": question.line, "error": question.error}
      yield next(made) if question.error is None else bad
    if sys.stderr.isatty():
      print(f"\r{summary.rows} rows", end="\r", file=sys.stderr, flush=True)


def _improve(
  models: improvement.Improver,
  good: list[questions.Question],
  key: jax.Array,
  options: argparse.Namespace,
  summary: Summary,
) -> list[dict[str, Any]]:
  """Returns the output rows of rows that can be used."""
  if not good:
    return []
  prompts, drafts = [question.prompt for question in good], _drafts(models, good, key, options)
  asked = {"rounds": options.rounds, "temperature": options.temperature, "until_stopped": True}
  made = improvement.improve(models, prompts, drafts, key=key, **asked)
  summary.improved += int((made.kept > 0).sum())
  summary.stopped += int(made.stopped(options.rounds).sum())
  summary.cut += _count_cut(models, prompts, drafts)
  return [_row(question, made, i) for i, question in enumerate(good)]


def _drafts(
  models: improvement.Improver,
  good: list[questions.Question],
  key: jax.Array,
  options: argparse.Namespace,
) -> list[str]:
  """Returns y_0 of every row; the policy writes what was not given, with round 0's noise."""
  missing = [question.prompt for question in good if question.response is None]
  written = iter(())
  if missing:
    noise = jax.random.fold_in(key, 0)
    written = iter(models.inference.answer(models.policy, missing, noise, options.temperature))
  return [next(written) if one.response is None else one.response for one in good]


def _count_cut(models: improvement.Improver, prompts: list, drafts: list[str]) -> int:
  settings = models.inference.settings
  limits = (settings.max_prompt_length, settings.max_response_length)
  asked = settings.formats["improver"].conversations(prompts, drafts)
  return int(settings.template.encode(settings.tokenizer, asked, *limits).is_cut.sum())


def _row(question: questions.Question, made: improvement.Rounds, i: int) -> dict[str, Any]:
  """Returns a row's fields with the answer, y_0 where the policy wrote it, and the rounds."""
  kept, ended = int(made.kept[i]), made.ended(i)
  rounds = [
    {"text": made.texts[k][i], "gap": float(made.gaps[k - 1][i])}
    for k in range(1, (ended or len(made.gaps)) + 1)
  ]
  answer = {} if question.response is not None else {"response": made.texts[0][i]}
  result = {"improved": made.texts[kept][i], "rounds": rounds, "stopped": ended}
  return {**_own(question.fields), **answer, **result}


def _own(fields: dict[str, Any]) -> dict[str, Any]:
  """Returns a row's fields without those that an earlier output put into it; it may be an input."""
  mine = RESULT + (FAILURE if "error" in fields else ())
  return {name: value for name, value in fields.items() if name not in mine}


def converse(models: improvement.Improver, options: argparse.Namespace) -> None:
  """Improves what is typed in until an empty line or the end of the input."""
  print("A prompt, then a draft to improve; without a draft the policy writes it. Enter ends.")
  root = jax.random.key(options.seed)
  for index in itertools.count():
    prompt = _ask("\nprompt> ")
    if not prompt:
      return
    draft = _ask("draft>  ") or None
    question = questions.check({"prompt": prompt, "response": draft}, number=index + 1)
    if question.error is not None:
      print(f"error: {question.error}")
      continue
    _show(models, question, jax.random.fold_in(root, index), options)


def _ask(words: str) -> str:
  """Returns what is typed after some words, "" at the end of the input; piped text needs none."""
  try:
    return input(words if sys.stdin.isatty() else "").strip()
  except (EOFError, KeyboardInterrupt):
    print()
    return ""


def _show(
  models: improvement.Improver,
  question: questions.Question,
  key: jax.Array,
  options: argparse.Namespace,
) -> None:
  """Prints every version as soon as it is made, and where the stop rule ends."""
  (answer,) = _drafts(models, [question], key, options)
  print(f"  0           {answer}")
  for k in range(1, options.rounds + 1):
    (version,), (gap,) = improvement.revise(
      models,
      [question.prompt],
      [answer],
      key=jax.random.fold_in(key, k),
      temperature=options.temperature,
    )
    print(f"  {k}  {gap:+8.3f}  {version}", flush=True)
    if not gap > models.margin:
      print(f"stopped at round {k}: no better than round {k - 1}, which is kept")
      return
    answer = version
  print(f"kept round {options.rounds}, the last")


if __name__ == "__main__":
  main()
