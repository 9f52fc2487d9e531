"""Corrections: answers of a policy, less what they repeat, as a teacher puts them right."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

from pit_jax.data import conversations, critiques, preferences, rows
from pit_jax.feedback import named, sentence_scores, writers
from pit_jax.recipes.irft import demonstrations
from pit_jax.run import context as contexts
from pit_jax.run import made_rows
from pit_jax.stages import feedback
from pit_jax.tasks import sentences
from pit_jax.types import Params

_FORM = critiques.Form("{answer}")  # of a reply: the corrected answer alone


@dataclasses.dataclass(frozen=True)
class Corrected:
  """What a teacher corrected, as what is imitated."""

  made: tuple[made_rows.MadeRows, ...]  # the answers, and the corrections
  fold: preferences.Fold
  counts: Mapping[str, int]  # answers; `repeated`, that repeated something; `changed`; `failed`
  failures: Mapping[str, int]  # why those have no correction → how many


def of(
  context: contexts.Context, name: str, policy: Params, *, more: int = 0, half: int = 0
) -> Corrected:
  """Returns corrections of a policy's answers to the prompts of `correct`.

  They lie in WORKDIR/rows/NAME_answers.jsonl and NAME_corrections.jsonl. An answer may be right as
  it is; a reply that copies the request is no correction.

  Args:
    context: of the run.
    name: of the stage that imitates them; also seeds the answers.
    policy: whose answers are corrected.
    more: answers to training prompts beside one for each; prompts are answered several times.
    half: 1 or 2, of the training prompts; 0: all of them.
  """
  c = context.config
  whole = demonstrations.prompts(context, c.correct.fold)
  middle = (len(whole.rows) + 1) // 2
  own = {0: whole.rows, 1: whole.rows[:middle], 2: whole.rows[middle:]}[half]
  fold = preferences.Fold(own, whole.validation)
  answers = _answered(context, name, fold, policy, more)

  corrector = named.build(context, "writers", c.ares.corrector)
  prompts = {conversations.write(row.prompt): row.prompt for row in (*own, *whole.validation)}
  shown = {part: [] for part in feedback.PARTS}
  copies = {}  # request → what of it is no correction by itself
  for row in answers.rows:
    listed = sentences.said(row["distinct"]) or [row["distinct"]]
    request = sentence_scores.request(c.ares.correct_request, row["prompt"], listed)
    shown[row["part"]].append(rows.Preference(request, chosen="", rejected=""))
    copies[request] = (prompts[row["prompt"]], sentence_scores.numbered(listed))
  asked = preferences.Fold(*(tuple(shown[part]) for part in feedback.PARTS))
  most = c.ares.most_failed

  def unfit(request, text):
    wordings = [request, *sentence_scores.wordings(c.ares.correct_request)]
    return _FORM.read(text, copies[request], wordings)[1]

  written = feedback.completions(
    context, f"{name}_corrections", asked, corrector, most_failed=most, unfit=unfit
  )

  parts = {part: [] for part in feedback.PARTS}
  counts = {"answers": len(answers.rows), "repeated": 0, "changed": 0, "failed": 0}
  for row, text in zip(answers.rows, written.made.column("response"), strict=True):
    counts["repeated"] += row["distinct"] != row["answer"]
    counts["failed"] += text is None
    if text is not None:
      counts["changed"] += text.strip() != row["distinct"]
      prompt = prompts[row["prompt"]]
      parts[row["part"]].append(rows.Preference(prompt, chosen=text, rejected=""))
  corrected = preferences.Fold(*(tuple(parts[part]) for part in feedback.PARTS))
  return Corrected((answers, written.made), corrected, counts, written.failures)


def _answered(
  context: contexts.Context, name: str, fold: preferences.Fold, policy: Params, more: int
) -> made_rows.MadeRows:
  """Returns a policy's answers, as they are and without what they repeat: `answer`, `distinct`."""

  def make() -> Iterator[dict[str, Any]]:
    student = writers.model(name, context.models.inference, policy)
    form = context.rows.settings.formats["policy"]
    for part in feedback.PARTS:
      own = [row.prompt for row in getattr(fold, part)]
      count = len(own) + (more if part == "rows" else 0)
      each = -(-count // max(len(own), 1))
      asked = form.conversations(own)
      key = context.key(f"{name} {part}")
      written = student.write(asked, key, context.config.rl.temperature, samples=max(each, 1))
      # The first answers to all prompts, then the second ones: cut where there are enough.
      order = [(sample, place) for sample in range(each) for place in range(len(own))][:count]
      for sample, place in order:
        answer = (written.texts[place][sample] or "").strip()
        yield {
          "prompt": conversations.write(own[place]),
          "part": part,
          "answer": answer,
          "distinct": sentences.distinct(answer),
        }

  return made_rows.once(context, f"rows/{name}_answers", make)
