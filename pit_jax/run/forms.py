"""The prompt or chat template of a run, and its tokenizer."""

import itertools
import pathlib
from collections.abc import Iterable

import ml_collections

from pit_jax import hosts
from pit_jax.data import chat, conversations, preferences, template, text
from pit_jax.run import published_models
from pit_jax.storage import places


def tokenizer(
  words: Iterable[str], vocabulary: int, directory: pathlib.Path, new: bool
) -> text.Tokenizer:
  """Returns the tokenizer in a directory, learnt from the words when there is none or it is new."""
  if hosts.agree(new or not (directory / "tokenizer.json").exists()):
    if hosts.is_first():
      text.train_tokenizer(words, vocabulary, directory)
    places.share(directory)

  return text.load_tokenizer(directory)


def choose(
  config: ml_collections.ConfigDict, base_directory: pathlib.Path | None
) -> tuple[template.Form, text.Tokenizer | None]:
  """Returns the prompt or chat template, and its tokenizer unless that is to be learnt here.

  Raises:
    ValueError: a chat template is asked for and there is none.
  """
  c = config.data
  directory = base_directory or c.tokenizer
  plain = template.Template(policy=c.policy_template, improver=c.improver_template)

  if directory:
    # A tokenizer alone brings no model that was trained on its chat template.
    kind = "plain" if c.chat == "auto" and base_directory is None else c.chat
    return chat.choose(kind, text.load_tokenizer(directory), plain, c.improver_turn)

  if c.chat not in ("auto", "plain"):
    raise ValueError(
      f'data.chat is "{c.chat}", but a tokenizer that is learnt here has no chat template and no '
      'tokens for one; give a base model that has them as model.base, or use data.chat="plain"'
    )

  return plain, None


def check(
  form: template.Form,
  words: text.Tokenizer | None,
  reward: published_models.Published | None,
  prompt: conversations.Prompt,
) -> None:
  """Raises a `values.RowError` for a prompt that the run's models or a published one cannot read.

  A tokenizer that is still to be learnt goes with the plain form, which shows every prompt.
  """
  if words:
    form.check(words, prompt)
  if reward:
    reward.reader.check(prompt)


def learnt(
  config: ml_collections.ConfigDict, folds: preferences.Folds, workdir: pathlib.Path, new: bool
) -> text.Tokenizer:
  """Returns the run's own tokenizer, learnt from the first fold that it trains on.

  It is kept in the workdir, and read from there unless the workdir is new: claimed by no run.
  """
  fold = next(part for part in folds.values() if part)
  rows = ((conversations.write(row.prompt), row.chosen, row.rejected) for row in fold)
  words = itertools.chain.from_iterable(rows)
  return tokenizer(words, config.data.vocabulary, workdir / "tokenizer", new)
