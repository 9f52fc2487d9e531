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
from collections.abc import Iterator, Sequence

import ml_collections
import rich.console

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))  # configs/, from any folder

from configs import common
from pit_jax import commands, configurations
from pit_jax.data import chat, conversations, encode, preferences, template, text
from pit_jax.tools.doctor import examination, rendering

WIDTH = 100  # characters per line, at most


@commands.command
def main(arguments: Sequence[str]) -> None:
  """Examines what is named, and tells what was found."""
  options = _options(arguments)
  with _quietly():  # what is skipped is the first finding
    found = examine(options)
  if options.html:
    pathlib.Path(options.html).write_text(rendering.page(found), encoding="utf-8")
  if options.json:
    record = json.dumps(rendering.record(found), indent=1, ensure_ascii=False)
    pathlib.Path(options.json).write_text(record + "\n", encoding="utf-8")
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
  from pit_jax.recipes import recipe, schedule  # with all of JAX, which takes seconds

  return functools.partial(schedule.stages, options.config, recipe.of(options.config))


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
  """Learns a tokenizer from what training would: the first fold, or all rows without folds."""
  try:
    fold = division.divide(loaded.rows)
    learnt_from, said = next(part for part in fold.values() if part), "the first fold"
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


def _options(arguments: Sequence[str]) -> argparse.Namespace:
  """Returns the options; where a configuration is named, its values are their defaults."""
  first = commands.Parser(add_help=False)
  first.add_argument("--config")
  first.add_argument("--source")
  named, others = first.parse_known_args(arguments)
  values = [word for word in others if word.startswith(configurations.PREFIX)]
  if values and named.config is None:
    raise ValueError(f"{values[0]}: name the configuration too, as --config=configs/pit.py:small")
  config = configurations.load(named.config) if named.config else common.get_config("small")
  config = config.copy_and_resolve_references()
  configurations.change(config, values)
  if named.source is not None:
    with config.unlocked():  # which base a run starts from may depend on it
      config.data.source = named.source
  parser = _parser(config, named.config is not None)
  options = parser.parse_args([word for word in arguments if word not in values])
  options.config, options.is_configured = config, named.config is not None
  return options


def _parser(config: ml_collections.ConfigDict, is_configured: bool) -> commands.Parser:
  """Returns the parser of the command's own flags, whose defaults are a configuration's values."""
  data, tokenizer, chat_kind, rows = config.data, None, "auto", None
  if is_configured:
    from pit_jax.run import origin  # with all of JAX, which takes seconds

    # A base model brings its tokenizer, and a chat template that the run may take.
    base = origin.directory(config)
    tokenizer, rows = str(base or data.tokenizer) or None, data.rows
    chat_kind = "plain" if data.chat == "auto" and base is None else data.chat
  parser = commands.Parser(__doc__)
  add = parser.add_argument
  source = {"default": data.source} if is_configured else {"required": True}
  add("--source", help="as data.source: jsonl:PATH, hh:PATH, hf:NAME, synthetic, …", **source)
  add("--config", help="configs/<recipe>.py:<size>, whose values are the defaults of what follows")
  add("--schema", default=data.schema, help=f"what the rows call things ({data.schema})")
  add("--rows", type=commands.at_least(1), default=rows, help="the most usable rows to take (all)")
  add("--seed", type=int, default=config.seed, help="which rows the synthetic source makes (0)")
  parser.add_argument("--streaming", action="store_true", help="hf: fetch rows as they are read")
  add("--tokenizer", default=tokenizer, help="a tokenizer's or a model's directory")
  add("--chat", default=chat_kind, help=f"with --tokenizer: {', '.join(chat.KINDS)} ({chat_kind})")
  for name, kind, what in (
    ("vocabulary", commands.at_least(1), "tokens of a tokenizer that is learnt"),
    ("max_prompt_length", commands.at_least(1), "tokens of a prompt, its template included"),
    ("max_response_length", commands.at_least(1), "tokens of a response, its end included"),
    ("held_out", commands.fraction, "fraction of prompts that is held out"),
    ("validation", commands.fraction, "fraction of the imitation and reward folds to validate on"),
    ("judge", commands.fraction, "fraction of the reward fold for a judge of its own"),
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


if __name__ == "__main__":
  main()
