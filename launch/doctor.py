"""Examines preferences before they are trained on.

  python launch/doctor.py --source=jsonl:preferences.jsonl [--html=doctor.html] [--json=doctor.json]
  python launch/doctor.py --source=hh:hh_harmless.jsonl.gz --tokenizer=models/base

Says what is lost to the length limits, which rows are copies or nearly, what leaks between the
folds that training would make, which labels contradict each other or run in circles, how noisy they
are, and what length and position decide. Rows that cannot be used are counted, and the others
examined. Without --tokenizer one is learnt from the rows of the imitation fold, as training does;
with the directory of a base model prompts are shown in its own chat template, where it has one.
The defaults are those of configs/pit.py:small, or of the run that --config describes, as for
launch/train.py (--config=configs/pit.py:tiny, --config.KEY=VALUE); then it says too how many steps
each stage takes.
"""

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import sys
import tempfile
from collections.abc import Iterator

import ml_collections
import rich.console
from absl import flags
from ml_collections import config_flags

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder

from configs import common
from pit_jax.data import chat, conversations, encode, preferences, template, text
from pit_jax.doctor import examination, rendering

WIDTH = 100  # characters per line, at most


def main(arguments: list[str] | None = None) -> None:
  """Runs the command line; `arguments` are those of the process unless given."""
  try:
    options = _options(arguments)
    with _quietly():  # what is skipped is the first finding
      found = examine(options)
    if options.html:
      pathlib.Path(options.html).write_text(rendering.page(found), encoding="utf-8")
    if options.json:
      record = json.dumps(rendering.record(found), indent=1, ensure_ascii=False)
      pathlib.Path(options.json).write_text(record + "\n", encoding="utf-8")
  except (ValueError, OSError) as error:
    raise SystemExit(f"error: {error}") from error
  console = rich.console.Console()
  width = min(console.width, WIDTH) if console.is_terminal else WIDTH
  print(rendering.text(found, width, console.is_terminal), end="")
  for path in (options.html, options.json):
    if path:
      print(f"written: {path}")


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
  """Leaves out warnings."""
  log = logging.getLogger("pit_jax")
  level = log.level
  log.setLevel(logging.ERROR)
  try:
    yield
  finally:
    log.setLevel(level)


def examine(options: argparse.Namespace) -> examination.Examination:
  """Loads the rows, as training does, and examines them."""
  data = options.config.data
  form, words = _form(options)
  loaded = preferences.load(
    options.source,
    on_bad_row="skip",
    limit=options.rows,
    seed=options.seed,
    is_streamed=options.streaming,
    schema=options.schema,
    against_scores=data.against_scores,
    check_prompt=words and functools.partial(form.check, words),
  )
  division = dataclasses.replace(
    preferences.Division.of(data),
    held_out=options.held_out,
    validation=options.validation,
    judge=options.judge,
    fold_by=options.fold_by,
  )
  said = f"those of {options.tokenizer}, {form.kind} template"
  if words is None:
    words, said = _learnt(loaded, division, options.vocabulary)
  settings = encode.Settings(
    words, form, options.max_prompt_length, options.max_response_length, data.over_long
  )
  return examination.examine(loaded, settings, said, division, _planned(options))


def _planned(options: argparse.Namespace) -> examination.Planned | None:
  """Returns which stages a configuration makes of folds; None where none was named."""
  if not options.is_configured:
    return None
  from pit_jax.recipes import schedule  # with all of JAX, which takes seconds

  return functools.partial(schedule.stages, options.config)


def _form(options: argparse.Namespace) -> tuple[template.Form, text.Tokenizer | None]:
  """Returns how models are asked, and the tokenizer unless it is to be learnt."""
  data = options.config.data
  plain = template.Template(data.policy_template, data.improver_template)
  if not options.tokenizer:
    return plain, None
  words = text.load_tokenizer(options.tokenizer)
  return chat.choose(options.chat, words, plain, data.improver_turn)


def _learnt(
  loaded: preferences.PreferenceSet, division: preferences.Division, vocabulary: int
) -> tuple[text.Tokenizer, str]:
  """Learns a tokenizer from what training would: the imitation fold, or all rows without folds."""
  try:
    fold = division.folds(loaded.rows)
    learnt_from, said = fold.sft, "the imitation fold"
  except ValueError:  # too few rows for folds are a finding, not the end
    learnt_from, said = loaded.rows, "all rows"
  texts = (
    part
    for row in learnt_from
    for part in (conversations.write(row.prompt), row.chosen, row.rejected)
  )
  with tempfile.TemporaryDirectory() as folder:
    words = text.train_tokenizer(texts, vocabulary, folder)
  return words, f"a vocabulary of {words.vocab_size:,}, learnt from {said}"


def _configured(words: list[str]) -> ml_collections.ConfigDict | None:
  """Returns the configuration that --config and --config.KEY=VALUE name; None without any.

  Raises:
    ValueError: there is no such configuration, or key.
  """
  if not words:
    return None
  values = flags.FlagValues()
  command = ["doctor", *words]
  named = config_flags.DEFINE_config_file("config", None, "", flag_values=values, sys_argv=command)
  try:
    values(command)
    return named.value.copy_and_resolve_references()  # a file that cannot be read fails here
  except (flags.Error, AttributeError, KeyError, OSError, ValueError) as error:
    raise ValueError(f"--config: {' '.join(str(error).split())}") from error


def _options(arguments: list[str] | None) -> argparse.Namespace:
  arguments = sys.argv[1:] if arguments is None else arguments
  chosen = [word for word in arguments if word.startswith("--config")]
  configured = _configured(chosen)
  config = (configured or common.get_config("small")).copy_and_resolve_references()
  first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
  first.add_argument("--source", default=config.data.source)
  with config.unlocked():  # which base a run starts from may depend on it
    config.data.source = first.parse_known_args(arguments)[0].source
  parser = _parser(config, configured is not None)
  options = parser.parse_args([word for word in arguments if word not in chosen])
  options.config, options.is_configured = config, configured is not None
  return options


def _parser(config: ml_collections.ConfigDict, is_configured: bool) -> argparse.ArgumentParser:
  """Returns the parser of the command's own flags, whose defaults are a configuration's values."""
  data, tokenizer, chat_kind, rows = config.data, None, "auto", None
  if is_configured:
    from pit_jax.recipes import schedule  # with all of JAX, which takes seconds

    tokenizer, rows = schedule.tokenizer(config) or None, data.rows
    chat_kind = "plain" if data.chat == "auto" and not schedule.has_base(config) else data.chat
  form = argparse.RawDescriptionHelpFormatter
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=form, allow_abbrev=False)
  add = functools.partial(parser.add_argument, metavar="")
  source = {"default": data.source} if is_configured else {"required": True}
  add("--source", help="as data.source: jsonl:PATH, hh:PATH, hf:NAME, synthetic, …", **source)
  add("--schema", default=data.schema, help=f"what the rows call things ({data.schema})")
  add("--rows", type=_positive, default=rows, help="the most usable rows to take (all)")
  add("--seed", type=int, default=config.seed, help="which rows the synthetic source makes (0)")
  parser.add_argument("--streaming", action="store_true", help="hf: fetch rows as they are read")
  add("--tokenizer", default=tokenizer, help="a tokenizer's or a model's directory")
  add("--chat", default=chat_kind, help=f"with --tokenizer: {', '.join(chat.KINDS)} ({chat_kind})")
  for name, kind, what in (
    ("vocabulary", _positive, "tokens of a tokenizer that is learnt"),
    ("max_prompt_length", _positive, "tokens of a prompt, its template included"),
    ("max_response_length", _positive, "tokens of a response, its end included"),
    ("held_out", _fraction, "fraction of prompts that is held out"),
    ("validation", _fraction, "fraction of the imitation and reward folds to validate on"),
    ("judge", _fraction, "fraction of the reward fold for a judge of its own"),
  ):
    add(f"--{name}", type=kind, default=data[name], help=f"{what} ({data[name]})")
  add(
    "--fold_by",
    choices=preferences.FOLD_BY,
    default=data.fold_by,
    help=f"what one fold holds together: {', '.join(preferences.FOLD_BY)} ({data.fold_by})",
  )
  add("--html", help="file for the page")
  add("--json", help="file for the figures, and the places of all rows concerned")
  return parser


def _positive(said: str) -> int:
  value = int(said)
  if value < 1:
    raise argparse.ArgumentTypeError(f"{said} is not allowed; use at least 1")
  return value


def _fraction(said: str) -> float:
  value = float(said)
  if not 0 <= value < 1:
    raise argparse.ArgumentTypeError(f"{said} is not allowed; use at least 0 and below 1")
  return value


if __name__ == "__main__":
  main()
