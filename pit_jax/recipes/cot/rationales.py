"""Short answers, a teacher's rationales, and rationales of a policy, right over wrong."""

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax import config_keys
from pit_jax.data import conversations, preferences, rows
from pit_jax.feedback import named, verifier, writers
from pit_jax.recipes.cot import arms
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback
from pit_jax.tasks import chains
from pit_jax.types import Params

Row = tuple[conversations.Prompt, str]  # a prompt with its end, and what answers it


@dataclasses.dataclass(frozen=True)
class Taught:
  """Demonstrations of both kinds, and what became of the teacher's rationales."""

  made: tuple[made_rows.MadeRows, ...]
  short: preferences.Fold
  steps: preferences.Fold
  counts: Mapping[str, Any]  # see `taught`

  def fold(self, system: str) -> preferences.Fold:
    """Returns what an arm of fine-tuning imitates."""
    folds = [getattr(self, kind) for kind in arms.IMITATED[system]]
    return preferences.Fold(*(sum((getattr(one, part) for one in folds), ())
                              for part in feedback.PARTS))  # fmt: skip


def prompts(context: contexts.Context, fold: str) -> preferences.Fold:
  """Returns the rows of a fold that stages may learn from, each prompt once."""
  whole = context.rows.fold(fold)
  is_unseen = unseen(context)

  def kept(part):
    distinct = preferences.distinct(part)
    return tuple(row for row in distinct if not is_unseen(row.prompt))

  seen = preferences.Fold(kept(whole.rows), kept(whole.validation))
  if not seen.rows:
    pattern = context.config.cot.unseen
    raise ValueError(f"cot.unseen={pattern!r} is in all prompts of {fold}; use another expression")
  return seen


def unseen(context: contexts.Context) -> Any:
  """Returns prompt → whether no stage learns from such prompts."""
  pattern = context.config.cot.unseen
  return lambda prompt: bool(pattern) and re.search(pattern, conversations.said(prompt)) is not None


def passing(context: contexts.Context) -> verifier.Passing:
  """Returns who says whether answers are right."""
  return verifier.passing(context.config.feedback.raters, context.config.cot.verifier)


def taught(context: contexts.Context) -> Taught:
  """Returns demonstrations of both kinds: short answers, and rationales whose answers are right.

  `counts` says of how many prompts the teacher was `asked`, how many rationales `failed`, were
  `wrong` or `unknown` to the verifier, and were `kept`; and, of the embedded task, which share of
  those kept is `sound`: right in every call.
  """
  c = context.config
  asked = prompts(context, c.sft.fold)
  how = {"most_failed": c.cot.most_failed}
  key = named.build(context, "writers", c.cot.answers)
  short = feedback.completions(context, "short_answers", asked, key, **how)

  answers = {part: dict(short.parts[part]) for part in feedback.PARTS}
  requests = {
    part: {prompt: _request(c.cot.request, prompt, answer) for prompt, answer in known.items()}
    for part, known in answers.items()
  }
  shown = preferences.Fold(*(
    tuple(rows.Preference(request, chosen="", rejected="") for request in requests[part].values())
    for part in feedback.PARTS
  ))  # fmt: skip
  teacher = named.build(context, "writers", c.cot.teacher)
  written = feedback.completions(context, "rationales", shown, teacher, **how)
  steps, counts = _filtered(context, requests, written)
  folds = {"short": {part: short.parts[part] for part in feedback.PARTS}, "steps": steps}
  ends = {"short": c.cot.short_end, "steps": c.cot.steps_end}
  if not steps["rows"]:
    raise ValueError(
      f"none of the {counts['asked']} rationales of {c.cot.teacher} ends with an answer that "
      f"{c.cot.verifier} finds right; read rows/rationales.jsonl below the workdir, and mend the "
      "teacher, cot.request, or the form of right answers; replies are kept, so start in another "
      "workdir"
    )
  demonstrated = {
    kind: preferences.Fold(*(_demonstrations(parts[part], ends[kind]) for part in feedback.PARTS))
    for kind, parts in folds.items()
  }
  return Taught((short.made, written.made), **demonstrated, counts=counts)


def _request(words: str, prompt: conversations.Prompt, answer: str) -> conversations.Prompt:
  """Returns what the teacher is asked, of a conversation in its last turn."""
  if isinstance(prompt, str):
    return words.format(prompt=prompt, answer=answer)
  *earlier, (role, content) = prompt
  return (*earlier, conversations.Turn(role, words.format(prompt=content, answer=answer)))


def _filtered(
  context: contexts.Context,
  requests: Mapping[str, Mapping[conversations.Prompt, conversations.Prompt]],
  written: feedback.Completions,
) -> tuple[dict[str, list[Row]], dict[str, Any]]:
  """Returns the rationales whose answers are right, by part, and counts of all; see `taught`."""
  judged = passing(context)
  kept = {}
  counts = dict.fromkeys(("asked", "kept", "wrong", "failed", "unknown"), 0)
  for part in feedback.PARTS:
    texts = dict(written.parts[part])
    pairs = [(x, texts[request]) for x, request in requests[part].items() if request in texts]
    passed = judged([x for x, _ in pairs], [y for _, y in pairs])
    kept[part] = [pair for pair, is_right in zip(pairs, passed, strict=True) if is_right == 1]
    counts["asked"] += len(requests[part])
    counts["failed"] += len(requests[part]) - len(pairs)
    counts["unknown"] += int(np.isnan(passed).sum())
    counts["kept"] += len(kept[part])
    counts["wrong"] += int((passed == 0).sum())

  told: dict[str, Any] = dict(counts)
  everything = [pair for part in feedback.PARTS for pair in kept[part]]
  if context.config.data.source == config_keys.CHAINS and everything:
    told["sound"] = float(np.mean(chains.sound(*map(list, zip(*everything, strict=True)))))
  return kept, told


def _demonstrations(pairs: Sequence[Row], end: str) -> tuple[rows.Preference, ...]:
  return tuple(rows.Preference(arms.ended(x, end), text, rejected="") for x, text in pairs)


@dataclasses.dataclass(frozen=True)
class Sorted:
  """Pairs of a right and a wrong rationale, and what became of the samples."""

  made: made_rows.MadeRows  # rows {prompt, part, samples, right}
  fold: preferences.Fold
  counts: Mapping[str, int]  # see `sampled`


def sampled(context: contexts.Context, policy: Params) -> Sorted:
  """Returns a policy's rationales to the prompts of DPO, the right over the wrong ones.

  They are sampled once, in WORKDIR/rows/samples.jsonl, each prompt read once for all its samples.
  `counts` says how many `prompts` were asked, how many had `right` samples alone, `wrong` ones
  alone or `both`, of how many the verifier knew nothing (`unknown`), and how many `pairs` came of
  them.
  """
  c = context.config.cot
  asked = prompts(context, context.config.dpo.fold)
  places = [(part, row.prompt) for part in feedback.PARTS for row in getattr(asked, part)]
  questions = [prompt for _, prompt in places]
  made = made_rows.once(context, "rows/samples", lambda: _samples(context, policy, places))
  wanted = [{"prompt": conversations.write(prompt)} for prompt in questions]
  made_rows.check_of(made, wanted, "samples of other prompts")

  by_part = {part: [] for part in feedback.PARTS}
  counts = dict.fromkeys(("prompts", "both", "right", "wrong", "unknown", "pairs"), 0)
  for (part, prompt), row in zip(places, made.rows, strict=True):
    sides = _sides(row)
    counts[_outcome(row, sides)] += 1
    shown = arms.ended(prompt, c.steps_end)
    pairs = list(zip(*sides, strict=False))[: c.pairs]
    by_part[part] += [rows.Preference(shown, *pair) for pair in pairs]
  fold = preferences.Fold(*(tuple(by_part[part]) for part in feedback.PARTS))
  counts |= {"prompts": len(questions), "pairs": len(fold.rows) + len(fold.validation)}
  # One pair that validates gives R_P no scale, which would be found after all arms are trained.
  if not fold.rows or len(fold.validation) < 2:
    raise ValueError(
      f"of {len(questions)} prompts {counts['both']} have right and wrong rationales, which makes "
      f"{len(fold.rows)} pairs to learn from and {len(fold.validation)} to validate; at least 1 "
      "and 2 are needed: use more prompts, more of cot.samples or of data.validation, or problems "
      "that are neither too easy nor too hard"
    )
  return Sorted(made, fold, counts)


def _samples(
  context: contexts.Context, policy: Params, places: Sequence[tuple[str, conversations.Prompt]]
) -> Iterator[dict[str, Any]]:
  """Yields the samples of every prompt, and which are right: 1, 0, or None where nobody knows."""
  c = context.config.cot
  questions = [prompt for _, prompt in places]
  texts = drawn(context, policy, "samples", questions, c.samples)
  repeated = [prompt for prompt in questions for _ in range(c.samples)]
  passed = passing(context)(repeated, [text for several in texts for text in several])
  by_prompt = passed.reshape(-1, c.samples)
  for (part, prompt), several, right in zip(places, texts, by_prompt, strict=True):
    is_right = [None if np.isnan(one) else int(one) for one in right]
    yield {
      "prompt": conversations.write(prompt), "part": part, "samples": several, "right": is_right,
    }  # fmt: skip


def drawn(
  context: contexts.Context,
  policy: Params,
  name: str,
  questions: Sequence[conversations.Prompt],
  samples: int,
) -> list[list[str]]:
  """Returns a policy's rationales to questions, so many of each; the name seeds their noise."""
  c = context.config.cot
  ended = [arms.ended(prompt, c.steps_end) for prompt in questions]
  asked = context.rows.settings.formats["policy"].conversations(ended)
  writer = writers.model(arms.BOTH, context.models.inference, policy)
  written = writer.write(asked, context.key(name), c.temperature, samples=samples)
  return [[text or "" for text in several] for several in written.texts]


def _sides(row: Mapping[str, Any]) -> tuple[list[str], list[str]]:
  """Returns the different right and wrong samples of a row, in their order."""
  sides: tuple[list[str], list[str]] = ([], [])
  for text, is_right in zip(row["samples"], row["right"], strict=True):
    side = None if is_right is None else sides[0 if is_right else 1]
    if side is not None and text not in side:
      side.append(text)
  return sides


def _outcome(row: Mapping[str, Any], sides: tuple[list[str], list[str]]) -> str:
  if all(sides):
    return "both"
  return "right" if sides[0] else "wrong" if sides[1] else "unknown"
