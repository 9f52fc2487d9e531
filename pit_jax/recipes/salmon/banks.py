"""The principles of a run: its bank, who judges by them, and the lists of its policies."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import ml_collections

from pit_jax import ranges
from pit_jax.data import preferences, principles
from pit_jax.evaluate import subject
from pit_jax.feedback import ceilings, factories
from pit_jax.run import context as contexts
from pit_jax.run import made_rows, origin
from pit_jax.tasks import synthetic

SALMON = "salmon"  # the system of the run's own list; those of others are salmon_NAME


def _is_list(value: Any) -> bool:
  """Returns whether a value is a pair of a policy's name and its list of principles."""
  if not ranges.is_list(value) or len(value) != 2:
    return False
  return ranges.NAME.holds(value[0]) and isinstance(value[1], str)


# What a reward model is: a head on the last state, or likelihoods; see `implicit`.
SCALAR, IMPLICIT = "scalar", "implicit"
ALLOWED = {
  "salmon.form": ranges.one_of(SCALAR, IMPLICIT),
  "salmon.bank": ranges.SAID,
  "salmon.template": ranges.SAID,
  "salmon.joint": ranges.TEXT,
  "salmon.response": ranges.SAID,
  "salmon.judge": ranges.SAID,
  "salmon.writer": ranges.TEXT,
  "salmon.instructed": ranges.COUNT_OR_NONE,
  "salmon.temperature": ranges.POSITIVE,
  "salmon.most_failed": ranges.SHARE,
  "salmon.passes": ranges.COUNT,
  "salmon.stop": ranges.Range(
    "more than 0 and at most 1", lambda x: ranges.POSITIVE.holds(x) and x <= 1
  ),
  "salmon.flip": ranges.SHARE,
  "salmon.negated": ranges.SHARE,
  "salmon.principles": ranges.TEXT,
  "salmon.others": ranges.list_of(
    "pairs of a name and a list of principles", ranges.Range("such a pair", _is_list)
  ),
  "salmon.drawn": ranges.COUNT,
  "salmon.controls": ranges.SWITCH,
  "salmon.improver": ranges.SWITCH,
  "salmon.pairs": ranges.COUNT,
}


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what writer and judge are asked; see `recipe.Recipe.asks`."""
  c = config.salmon
  demonstrated = ceilings.prompts(rows, config.sft.fold) * (1 + c.instructed)
  pairs = ceilings.prompts(rows, config.reward.fold) + min(rows[preferences.HELD_OUT], c.pairs)
  return [
    ceilings.Asked("writers", c.writer, demonstrated),
    ceilings.Asked("raters", c.judge, pairs * len(read(config).principles), 2),
  ]


def read(config: ml_collections.ConfigDict) -> principles.Bank:
  """Returns the bank that a configuration names, shipped or in a file.

  Raises:
    ValueError: there is none, or something of it is wrong.
  """
  c = config.salmon
  bank = principles.read(str(origin.BANKS.get(c.bank, c.bank)), c.template, c.joint)
  return dataclasses.replace(bank, default=c.principles, response=c.response)


def of_run(context: contexts.Context) -> tuple[principles.Bank, contexts.Context]:
  """Returns the bank of a run, which is kept with its rows, and the context that depends on it.

  Raises:
    ValueError: the run began with other principles.
  """
  bank = read(context.config)
  made = made_rows.once(context, "rows/principles", lambda: [bank.described()])
  if principles.restored(made.rows[0]) != bank:
    raise ValueError(
      f"salmon.bank={context.config.salmon.bank} holds other principles than the run began with; "
      "restore the file, or use another --workdir"
    )
  return bank, made_rows.depending(context, made)


def lists(config: ml_collections.ConfigDict) -> dict[str, str]:
  """Returns the list of principles of each policy, by its system."""
  c = config.salmon
  return {SALMON: c.principles} | {f"{SALMON}_{name}": listed for name, listed in c.others}


def shown(bank: principles.Bank, listed: str) -> tuple[principles.Shown, ...]:
  """Returns the principles of a list; of "" none: they are drawn by weight."""
  return bank.chosen(listed) if listed else ()


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with bank, lists, judge and writer, and who lacks to judge answers."""
  wrong = [*_forms(config.salmon)]
  yield from wrong
  if not wrong:  # what follows reads the bank
    yield from _lists(config.salmon, read(config))
    yield from _judged(config, read(config))
  if config.reward.model:
    yield f'reward.model={config.reward.model!r}: this recipe trains its reward model; use ""'
  if config.reward.get("pessimism", 0.0):
    yield (
      f"reward.pessimism={config.reward.pessimism}: under principles the mean of the heads is the "
      "reward; use 0"
    )
  if config.salmon.form == IMPLICIT:
    yield from _implicit(config)
  if not judged_by_own(config):
    yield from subject.unjudged(config)


def _forms(c: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what is wrong with how principles are shown, else with the bank."""
  checks = {"template": principles.check_template, "response": principles.check_response}
  for key, check in checks.items():
    try:
      check(c[key])
    except ValueError as error:
      yield f"salmon.{key}={error}"
      return
  try:
    principles.read(str(origin.BANKS.get(c.bank, c.bank)))
  except ValueError as error:
    yield f"salmon.bank={c.bank!r}: {error}"


def _lists(c: ml_collections.ConfigDict, bank: principles.Bank) -> Iterator[str]:
  """Yields what is wrong with the lists of policies."""
  for key, listed in (("principles", c.principles), *(("others", each) for _, each in c.others)):
    try:
      shown(bank, listed)
    except ValueError as error:
      yield f"salmon.{key} names {listed!r}: {error}"
  names = [name for name, _ in c.others]
  if not ranges.are_different(names):
    yield f"salmon.others names {names}; name each policy once"


def _judged(config: ml_collections.ConfigDict, bank: principles.Bank) -> Iterator[str]:
  """Yields what is wrong with judge and writer."""
  c = config.salmon
  parts = config.get("feedback", {})
  yield from _named("judge", c.judge, "raters", parts)
  if c.writer:
    yield from _named("writer", c.writer, "writers", parts)
  rater = parts.get("raters", {}).get(c.judge, {})
  if rater and rater.get("kind") not in factories.BY_PRINCIPLE:
    yield (
      f"salmon.judge={c.judge!r} is of kind {rater.get('kind')!r}, which compares by no principle; "
      f"use a rater of kind {' or '.join(factories.BY_PRINCIPLE)}"
    )
  if rater and rater.get("kind") == factories.READER:
    yield from _unread(bank.principles)


def _implicit(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields what a reward of likelihoods does not go with."""
  if config.salmon.response != principles.Bank.response:
    yield (
      f"salmon.response={config.salmon.response!r}: likelihoods are those of a response after a "
      f'prompt with principles; use {principles.Bank.response}, or salmon.form="{SCALAR}"'
    )
  if judged_by_own(config):
    yield (
      f'salmon.form="{IMPLICIT}": reward_plain is to judge answers, and needs a head; use '
      f'"{SCALAR}", or salmon.controls=False with another judge'
    )


def judged_by_own(config: ml_collections.ConfigDict) -> bool:
  """Returns whether a reward model of the run scores answers that nobody else does."""
  return config.data.source != "synthetic" and config.salmon.controls


def _named(key: str, name: str, part: str, parts: Any) -> Iterator[str]:
  there = parts.get(part, {})
  if name not in there:
    names = ", ".join(there) or "none"
    yield f"salmon.{key}={name!r}; use a name of feedback.{part}, which has {names}"


def _unread(several: Sequence[principles.Principle]) -> Iterator[str]:
  """Yields the principles that the embedded task has no check for."""
  checks = [*synthetic.WEIGHTS]
  for one in several:
    if one.name not in checks:
      yield (
        f"salmon.judge reads checks of the embedded task, {', '.join(checks)}, and none is called "
        f"{one.name}; use another judge, or such principles"
      )
