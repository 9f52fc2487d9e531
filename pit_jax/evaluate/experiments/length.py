"""Whether length explains who wins: controlled and matched comparisons, and correlations."""

from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.evaluate import subject
from pit_jax.evaluate import suite as suites
from pit_jax.statistics import lengths, metrics


def measure(run: subject.Subject) -> dict:
  """Returns the main comparisons without the effect of length, and what length does to scores."""
  pairs = [*run.pairs, *run.ablation_pairs]
  texts = {**run.texts, **run.ablated}
  return {
    "length": {
      "comparisons": [row for a, b in pairs for row in compare(run.suite, a, b, texts)],
      "correlations": correlate(run.suite, texts),
    }
  }


def compare(suite: suites.Suite, a: str, b: str, texts: Mapping[str, Sequence[str]]) -> list[dict]:
  """Returns a against b under every judge, as it is, controlled for length, and matched in it.

  Rows have the plain `delta` and `ci95`; `controlled` and `matched`, each with its own, the latter
  also with the `n` prompts that both answered at like length, None where there is none; and
  `tokens`, by how much a's answers are longer on average. All are of the `n` prompts that the
  judge judged; one that judged none has no row.
  """
  tokens = [suite.lengths(texts[name]) for name in (a, b)]
  rows = []
  for judge in suite.judges:
    outcomes = suite.outcomes(judge, texts[a], texts[b])
    is_judged = np.isfinite(outcomes)
    if is_judged.any():
      of_judged = (column[is_judged] for column in (outcomes, *tokens))
      rows.append({"a": a, "b": b, "judge": judge.name, **_of(*of_judged)})

  return rows


def _of(outcomes: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict:
  """Returns one comparison, of answers of such lengths."""
  # Outcomes are signs, which compared with 0 have the Δ of the pairs.
  plain = metrics.compare(outcomes, 0 * outcomes)
  matched = outcomes[lengths.is_matched(first, second)]
  alike = metrics.compare(matched, 0 * matched) if matched.size else None
  return {
    "n": plain.n,
    "tokens": float((first - second).mean()),
    "delta": plain.delta,
    "ci95": plain.ci95,
    "controlled": vars(lengths.controlled(outcomes, first, second)),
    "matched": alike and {"n": alike.n, "delta": alike.delta, "ci95": alike.ci95},
  }


def correlate(suite: suites.Suite, texts: Mapping[str, Sequence[str]]) -> list[dict]:
  """Returns each scoring judge's rank correlation of score and length within each system."""
  rows = []
  for name, words in texts.items():
    tokens = suite.lengths(words)
    for judge in suite.scoring:
      estimate = lengths.correlation(judge.score(suite.questions, words), tokens)
      correlation, ci95 = estimate or (None, None)
      rows.append({"system": name, "judge": judge.name, "correlation": correlation, "ci95": ci95})

  return rows
