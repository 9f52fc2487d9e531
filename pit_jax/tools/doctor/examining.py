"""One examination: rows loaded as training loads them, what was found as text, page and file."""

import argparse
import contextlib
import dataclasses
import functools
import json
import logging
import pathlib
import tempfile
from collections.abc import Iterator

import rich.console

from pit_jax import progress
from pit_jax.data import chat, conversations, encode, preferences, sources, template, text
from pit_jax.tools.doctor import examination, rendering

WIDTH = 100  # characters per line, at most


def run(options: argparse.Namespace) -> None:
  """Examines what the options of `commands/doctor.py` name, and tells what was found.

  Raises:
    ValueError: nothing of the source can be used, or a value is not allowed.
  """
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
  for path in (options.html, options.json, options.kept):
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
  sources.check(options.source)  # a tokenizer takes seconds to load
  revised = _revised(options) if options.revise else None
  form, words = _form(options)
  loaded = preferences.load(
    options.source,
    on_bad_row="skip",
    limit=options.rows,
    seed=options.seed,
    is_streamed=options.streaming,
    schema=options.schema,
    columns=options.columns,
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
  return examination.examine(loaded, settings, said, division, _planned(options), revised)


def _planned(options: argparse.Namespace) -> examination.Planned | None:
  """Returns which stages a configuration makes of folds; None where none was named."""
  if not options.is_configured:
    return None
  from pit_jax.recipes import recipe, schedule  # with all of JAX, which takes seconds

  return functools.partial(schedule.stages, options.config, recipe.of(options.config))


def _revised(options: argparse.Namespace) -> examination.Revised:
  """Returns what revises pairs by the runs that options name, which are found to be of use."""
  from pit_jax.tools.doctor import revisions  # with all of JAX, which takes seconds

  revisers = revisions.revisers(options.revise)
  how = {"most": options.revise_rows, "samples": options.revise_samples, "seed": options.seed}

  def told(examined):
    with progress.shown():
      found = revisions.revise(examined.rows, revisers, **how)
    if options.kept:
      revisions.write(options.kept, examined.rows, found)
    return revisions.finding(examined, found)

  return told


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
