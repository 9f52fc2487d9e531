"""Original and improver over sampling temperatures, and each at its best one.

The best ones are chosen on prompts that no figure is about, those that validate the reward models:
the highest of several scores on the same prompts would flatter who was tried at most temperatures.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.evaluate import suite as suites
from pit_jax.recipes.pit import subject
from pit_jax.types import Params

CHOSEN_ON = "reward_validation"  # the fold on which R_P chooses the best temperatures
Texts = Mapping[float, Mapping[str, Sequence[str]]]  # temperature → {"original", "pit"} → texts


def measure(run: subject.Subject) -> dict:
  """Returns the curve over temperatures and the comparison of best with best."""
  values = run.context.config.evaluation.temperatures
  # What was sampled at the temperature of the run serves here too.
  sampled = {run.suite.temperature: {"original": run.original, "pit": run.made.texts[1]}}
  rows, texts = curve(run.few, run.policy.rl.params, values, subject.TEMPERATURES, sampled)
  best = choose(run.validating, run.policy.rl.params, values, subject.CHOICES)
  return {"temperature": rows, "comparisons": best_against_best(run.few, best, texts)}


def curve(
  suite: suites.Suite, policy: Params, values: Sequence[float], stream: int, sampled: Texts
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
  rows = []
  texts = {}
  for index, t in enumerate(values):
    if t in sampled:
      texts[t] = {name: words[: len(suite.questions)] for name, words in sampled[t].items()}
    else:
      texts[t] = _sample(suite, policy, t, stream + 2 * index)

    for system, words in texts[t].items():
      rows.append({"t": t, "system": system, "score": suite.score(words), **suite.scores(words)})

    # The last row is that of pit, which alone is compared.
    versions = (texts[t]["pit"], texts[t]["original"])
    rows[-1] |= dataclasses.asdict(suite.scorer.compare(suite.questions, *versions))

  return rows, texts


def _sample(suite: suites.Suite, policy: Params, t: float, stream: int) -> dict[str, list[str]]:
  """Returns drafts and their versions, of which each have a stream of noise."""
  original = suite.answers(policy, stream, t)
  pit = suite.improved(suite.improver.improver, original, stream + 1, t)
  return {"original": original, "pit": pit}


def choose(
  suite: suites.Suite, policy: Params, values: Sequence[float], stream: int
) -> dict[str, float]:
  """Returns the temperature at which R_P likes a system's answers best, of original and pit.

  The gold score chooses nothing, not even a temperature: it would favour whoever it chose for. The
  suite's prompts are compared nowhere; of equal scores the first is taken. See `curve`.
  """
  scores: dict[str, list[float]] = {"original": [], "pit": []}
  for index, t in enumerate(values):
    for system, texts in _sample(suite, policy, t, stream + 2 * index).items():
      scores[system].append(float(suite.selector.score(suite.questions, texts).mean()))

  return {system: values[int(np.argmax(means))] for system, means in scores.items()}


def best_against_best(suite: suites.Suite, best: Mapping[str, float], texts: Texts) -> list[dict]:
  """Compares pit with original, each at its temperature of `best`, on prompts that chose nothing.

  R_P is no judge of what it chose; where there is no other judge but R_PIT, its row stays, and
  `chosen_by` marks it.
  """
  chosen = {name: texts[t][name] for name, t in best.items()}
  is_alone = {judge.name for judge in suite.judges} <= {suites.SELECTOR, "R_PIT"}
  without = () if is_alone else (suites.SELECTOR,)
  compared = suite.compare("pit", "original", chosen, without=without)
  about = {f"temperature_{name}": t for name, t in best.items()}
  about |= {"temperature": "best", "chosen_by": suites.SELECTOR, "chosen_on": CHOSEN_ON}

  return [row | about for row in compared]
