"""Drafts that are shown with a critique: PIT with language feedback, one more source of references.

What a critic says of a draft, the better answer apart, stands beside it in the improver's prompt,
and in half of the rows that the improver imitates before.
The gap reward sees drafts and versions alone, as it does of any other source.
"""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence

import ml_collections

from pit_jax import ranges
from pit_jax.data import conversations, critiques, encode, preferences, prompt_formats
from pit_jax.feedback import ceilings, named
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import criticism, sft

SOURCE = "policy+critique"
ALLOWED = {**criticism.ALLOWED, "critic": ranges.TEXT, "uncriticised": ranges.SWITCH}


def is_used(config: ml_collections.ConfigDict) -> bool:
  """Returns whether some stage of the curriculum has drafts with critiques among its references."""
  return any(SOURCE in stage.references for stage in config.curriculum)


def problems(config: ml_collections.ConfigDict) -> Iterator[str]:
  """Yields why nobody can criticise the drafts that are to be shown with critiques."""
  yield from criticism.problems(config)
  there = config.get("feedback", {}).get("writers", {})
  if (is_used(config) or config.critic) and config.critic not in there:
    names = ", ".join(there) or "none"
    why = f" with references {SOURCE!r}" if is_used(config) else ""
    yield f"critic={config.critic!r}{why}; use a name of feedback.writers, which has {names}"
  if config.uncriticised and not is_used(config):
    yield (
      f"uncriticised=True, and no stage of the curriculum has references {SOURCE!r}: pit itself is "
      "shown no critique; leave it out, or name these references"
    )
  if not [name for name in critiques.Form(config.critique.template).parts if name != "answer"]:
    yield (
      f"critique.template={config.critique.template!r} shows nothing beside a draft; give it "
      "weaknesses, a score or changes"
    )


def asks(config: ml_collections.ConfigDict, rows: ceilings.Rows) -> list[ceilings.Asked]:
  """Returns what the critic is asked; see `recipe.Recipe.asks`."""
  if not is_used(config):
    return []
  imitated, improved = (ceilings.prompts(rows, config[name].fold) for name in ("sft", "rl"))
  count = imitated // 2 + improved + rows[preferences.HELD_OUT]  # of imitation every second row
  return [ceilings.Asked("writers", config.critic, count)]


def asked(
  context: contexts.Context,
  name: str,
  prompts: Sequence[conversations.Prompt],
  drafts: Sequence[str],
) -> tuple[list[str], made_rows.MadeRows]:
  """Returns what the run's critic says of each draft, "" where that is of no use, and its rows.

  They lie in WORKDIR/rows/NAME.jsonl, and are asked for once; more of no use than an even half of
  them are refused.
  """
  parts = {"rows": list(zip(prompts, drafts, strict=True)), "validation": []}
  said, made = _said(context, name, parts, "M_P^RL")
  return said["rows"], made


def lessons(
  context: contexts.Context, fold: preferences.Fold
) -> tuple[dict[str, sft.Lessons], made_rows.MadeRows]:
  """Returns what M_PIT^SFT learns, (x, y_l) → y_w, every second row with what is said of y_l.

  RL then begins at a model to which critiques are nothing new. What is said lies in
  WORKDIR/rows/sft_critiques.jsonl.
  """
  folds = {"rows": fold.rows, "validation": fold.validation}
  parts = {part: [(row.prompt, row.rejected) for row in rows[1::2]] for part, rows in folds.items()}
  said, made = _said(context, "sft_critiques", parts, "dataset.rejected")
  found = {}
  for part, rows in folds.items():
    between = [text for one in said[part] for text in ("", one)]
    told = [*between, ""][: len(rows)]
    columns = [[getattr(row, name) for row in rows] for name in ("prompt", "rejected")]
    asked_for = shown(context.rows.settings, *columns, told)
    found[part] = [(one, row.chosen) for one, row in zip(asked_for, rows, strict=True)]
  return found, made


def _said(
  context: contexts.Context, name: str, parts: Mapping[str, criticism.Drafts], written_by: str
) -> tuple[dict[str, list[str]], made_rows.MadeRows]:
  """Returns what the critic says of drafts, part by part; see `asked`."""
  c = context.config
  form = critiques.form_of(c.critique)
  critic = named.build(context, "writers", c.critic)
  how = {"written_by": written_by, "temperature": c.temperature, "most_failed": 0.5}
  found = criticism.criticised(context, name, parts, critic, form, **how)
  told = form.of(*(part for part in critiques.PARTS if part != "answer"))
  said = {
    part: [told.write(row.critique) if row.is_useful else "" for row in rows]
    for part, rows in found.parts.items()
  }
  return said, found.made


def shown(
  settings: encode.Settings,
  prompts: Sequence[conversations.Prompt],
  drafts: Sequence[str],
  said: Sequence[str],
) -> list[prompt_formats.Conversation]:
  """Returns the improver's prompts of drafts, each with what is said of it unless that is ""."""
  improver = settings.formats["improver"]
  with_critique = _format(improver)
  # In a chat the request stands in the turn of what is said.
  request = improver.turns[-1].content if improver.turns else ""
  asked_for = []
  for prompt, draft, feedback in zip(prompts, drafts, said, strict=True):
    if feedback:
      text = f"{feedback}\n\n{request}" if request else feedback
      asked_for.append(prompt_formats.Conversation(prompt, with_critique, (draft, text)))
    else:
      asked_for.append(prompt_formats.Conversation(prompt, improver, (draft,)))
  return asked_for


@functools.cache
def _format(improver: prompt_formats.Format) -> prompt_formats.Format:
  """Returns the improver's format with a critique after the draft."""
  texts = (*improver.texts, "critique")
  turns = (*improver.turns[:-1], prompt_formats.Text("user", "critique")) if improver.turns else ()
  plain = improver.plain.replace("{reference}", "{reference}\nFeedback: {critique}")
  name = "criticised_improver"
  return dataclasses.replace(improver, name=name, texts=texts, plain=plain, turns=turns)
