"""Original and improver over sampling temperatures, and each at its best one."""

import dataclasses
from collections.abc import Mapping, Sequence

from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.types import Params

CHOOSER = "R_P"  # of the best temperatures
Texts = Mapping[float, Mapping[str, Sequence[str]]]  # temperature → {"original", "pit"} → texts


def measure(run: subject.Subject) -> dict:
  """Returns the curve over temperatures and the comparison of best with best."""
  values = run.context.config.evaluation.temperatures
  sampled = {run.suite.temperature: {"original": run.original, "pit": run.made.texts[1]}}
  rows, texts = curve(run.few, run.policy.rl, values, subject.TEMPERATURES, sampled)
  return {"temperature": rows, "comparisons": best_against_best(run.few, rows, texts)}


def curve(
  suite: suites.Suite,
  policy: Params,
  values: Sequence[float],
  stream: int,
  sampled: Texts,
) -> tuple[list[dict], dict[float, dict[str, Sequence[str]]]]:
  """Returns original and pit sampled at the same temperatures, and their texts.

  Every row has the scores of every scoring judge; pit's rows also how it fares against original.

  Args:
    suite: prompts, judges, and the improver.
    policy: who writes the originals.
    values: temperatures.
    stream: of the noise; each temperature takes two.
    sampled: what needs no sampling again, of which the first belong to this suite's questions.
  """
  rows, texts = [], {}
  for index, t in enumerate(values):
    if t in sampled:
      original, pit = (sampled[t][name][: len(suite.questions)] for name in ("original", "pit"))
    else:
      original = suite.answers(policy, stream + 2 * index, t)
      pit = suite.improved(suite.improver.improver, original, stream + 2 * index + 1, t)
    texts[t] = {"original": original, "pit": pit}
    rows += [
      {"t": t, "system": system, "score": suite.score(words), **suite.scores(words)}
      for system, words in texts[t].items()
    ]
    rows[-1] |= dataclasses.asdict(suite.scorer.compare(suite.questions, pit, original))
  return rows, texts


def best_against_best(suite: suites.Suite, rows: list[dict], texts: Texts) -> list[dict]:
  """Compares pit with original, each at the temperature that R_P likes best.

  The gold score chooses nothing, not even a temperature: it would favour whoever it chose for. For
  the same reason R_P is no judge of what it chose; where there is no other judge but R_PIT, its row
  stays, and `chosen_by` marks it.
  """
  best = {
    system: max(
      (row for row in rows if row["system"] == system), key=lambda row: row[f"score_{CHOOSER}"]
    )
    for system in ("pit", "original")
  }
  chosen = {name: texts[best[name]["t"]][name] for name in best}
  is_alone = {judge.name for judge in suite.judges} <= {CHOOSER, "R_PIT"}
  compared = suite.compare("pit", "original", chosen, without=() if is_alone else (CHOOSER,))
  about = {f"temperature_{name}": best[name]["t"] for name in best}
  about |= {"temperature": "best", "chosen_by": CHOOSER}
  return [row | about for row in compared]
