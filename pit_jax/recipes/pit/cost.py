"""What quality costs: rounds of the improver, choosing among as many samples, and Self-Refine."""

import dataclasses
import itertools
from collections.abc import Sequence

import numpy as np

from pit_jax.evaluate import clock
from pit_jax.evaluate import suite as suites
from pit_jax.improve import gains, improvement, self_refine
from pit_jax.recipes.pit import subject
from pit_jax.statistics import candidates

# Who chooses, and so is no judge of the choice.
SELECTORS = {"best_of_n": suites.SELECTOR, "gap_tournament": "R_PIT"}
PAIR = "best_of_2"  # best_of_n with as many samples as one round of the improver takes


def measure(run: subject.Subject) -> dict:
  """Returns tokens and quality of every way to spend k + 1 samples, and the choosers' comparisons.

  n is all samples of a k-round run, n = k + 1: its draft, which is also the first candidate, and
  one version per round.
  """
  few = run.few
  count = len(run.few.questions)
  made = run.made.first(count)
  rounds = len(made.texts) - 1

  with clock.timed(run.seconds, "best_of_n", count):
    drawn = [few.answers(run.policy.rl.params, subject.CANDIDATES + i) for i in range(rounds)]
    for texts in drawn:
      few.selector.score(few.questions, texts)

  samples = [made.texts[0], *drawn]
  chosen = choose(few, samples)
  texts = {"original": made.texts[0], "pit": made.texts[1], "pit_rounds": made.with_stop(rounds)}
  texts |= {name: versions[-1] for name, versions in chosen.items()}
  texts[PAIR] = chosen["best_of_n"][1]
  rows = [*of_rounds(few, made), *of_choices(few, samples, chosen)]

  if run.refined:
    refined = run.refined.first(count)
    texts["self_refine_rounds"] = refined.texts[-1]
    rows += of_refinements(few, refined)

  new = {name: words for name, words in texts.items() if name not in ("original", "pit")}
  systems = {name: {**few.describe(words), "prompts": count} for name, words in new.items()}
  return {"systems": systems, "comparisons": _compare(few, texts), "cost": rows}


def choose(suite: suites.Suite, samples: Sequence[Sequence[str]]) -> dict[str, list]:
  """Returns what each of `SELECTORS` chooses among the first n samples, for n = 1, 2, …, N.

  Args:
    suite: prompts, R_P among the judges, and R_PIT.
    samples: N lists of one answer per prompt.
  """
  numbers = range(len(samples))
  scores = np.stack([suite.selector.score(suite.questions, texts) for texts in samples])

  # The diagonal stays 0: no sample plays against itself.
  gaps = np.zeros((len(samples), *scores.shape))
  for i, j in itertools.permutations(numbers, 2):
    gaps[i, j] = suite.improver.gaps(suite.questions, samples[i], samples[j])

  places = {
    "best_of_n": [candidates.best(scores[: n + 1]) for n in numbers],
    "gap_tournament": [candidates.tournament(gaps[: n + 1, : n + 1]) for n in numbers],
  }
  return {
    name: [[samples[i][row] for row, i in enumerate(place)] for place in by_n]
    for name, by_n in places.items()
  }


def of_rounds(suite: suites.Suite, made: improvement.Rounds) -> list[dict]:
  """Returns cost and quality of rounds 0 … k of the improver, with and without the stop rule.

  With the rule a prompt pays for the versions it keeps and for the one that made it stop, and
  R_PIT reads every version as often as the rule asks it. Each scoring judge has its rows.
  """
  tokens = np.cumsum([suite.lengths(texts) for texts in made.texts], axis=0)
  answers = np.arange(tokens.shape[1])
  # The version at which the rule stops is sampled and paid for, though it is not kept.
  ended = np.minimum(made.kept + 1, len(made.gaps))
  pairs = zip(made.texts[1:], made.texts[:-1], strict=True)
  asked = [gains.reads(suite.improver.stop_rule, *pair) for pair in pairs]
  reads = np.cumsum([0 * answers, *asked], axis=0)
  rows = []

  for k in range(len(made.texts)):
    last = np.minimum(ended, k)
    ruled = _spent(tokens[last, answers], last + 1, reads[last, answers])
    for system, texts, spent in (
      ("pit", made.texts[k], _spent(tokens[k], k + 1)),
      ("pit_stop", made.with_stop(k), ruled),
    ):
      rows += _rows(suite, system, k + 1, texts, made.texts[0], spent)

  return _with_gain(rows)


def of_choices(
  suite: suites.Suite, samples: Sequence[Sequence[str]], chosen: dict[str, list]
) -> list[dict]:
  """Returns cost and quality of choosing among the first n samples, for every n.

  R_P reads every sample, a tournament reads every ordered pair, and one sample needs neither. Each
  scoring judge but the selector has its rows, with `kl_bound`, the most KL that the choice adds to
  the policy's.
  """
  paid = np.cumsum([suite.lengths(texts).mean() for texts in samples])
  rows = []
  for system, versions in chosen.items():
    for n, texts in enumerate(versions, start=1):
      reads = n if system == "best_of_n" else n * (n - 1)
      spent = _spent(paid[n - 1], n, reads if n > 1 else 0)
      judged = _rows(suite, system, n, texts, samples[0], spent)
      rows += [{**row, "kl_bound": candidates.kl_bound(n)} for row in judged]

  return _with_gain(rows)


def of_refinements(suite: suites.Suite, played: self_refine.Refinements) -> list[dict]:
  """Returns cost and quality of rounds 0 … k of Self-Refine, in rows for each scoring judge.

  Feedback is a sample too, and what broke the form was paid for: k rounds have a budget of 2 k + 1.
  """
  drafts = played.texts[0]
  tokens = suite.lengths(drafts)
  samples = np.ones(len(drafts))
  rows = _rows(suite, "self_refine", 1, drafts, drafts, _spent(tokens, samples))

  for k, columns in enumerate(zip(played.feedback, played.written, strict=True), start=1):
    for column in columns:
      tokens = tokens + suite.lengths([text or "" for text in column])
      samples = samples + [text is not None for text in column]

    spent = _spent(tokens, samples)
    rows += _rows(suite, "self_refine", 2 * k + 1, played.texts[k], drafts, spent)

  return _with_gain(rows)


def _spent(tokens, samples, reads=0) -> dict[str, float]:
  """Returns means: tokens, the samples they are of, and what a reward model read to choose."""
  spent = {"tokens": tokens, "samples": samples, "reads": reads}
  return {name: float(np.mean(values)) for name, values in spent.items()}


def _rows(suite, system: str, budget: int, texts, original, spent: dict) -> list[dict]:
  """Returns a row per judge: score and comparison with the original, and what was spent.

  A budget of n samples counts the first draft; the stop rule may leave some of it unspent.
  Where the selector is the only judge that scores, one that compares has to do.
  """
  others = [judge for judge in suite.judges if judge.name != SELECTORS.get(system)]
  rows = []
  for judge in [judge for judge in others if judge.score] or others[:1]:
    columns = (column[: judge.prompts] for column in (suite.questions, texts, original))
    compared = dataclasses.asdict(judge.compare(*columns))
    score = float(judge.score(suite.questions, texts).mean()) if judge.score else None
    row = {"system": system, "budget": budget, "judge": judge.name, "score": score}
    rows.append({**row, **spent, **compared})

  return rows


def _with_gain(rows: list[dict]) -> list[dict]:
  """Adds `gain`: what the score gains over one sample's, per 100 tokens beyond that sample."""
  first = {(row["system"], row["judge"]): row for row in rows if row["budget"] == 1}
  for row in rows:
    one = first[row["system"], row["judge"]]
    further = row["tokens"] - one["tokens"]
    is_known = row["score"] is not None and further
    row["gain"] = 100 * (row["score"] - one["score"]) / further if is_known else None

  return rows


def _compare(suite: suites.Suite, texts) -> list[dict]:
  """Compares what was chosen with one sample, one round, and as many samples spent on rounds."""
  # The stop rule of all rounds is R_PIT's.
  rows = suite.compare("pit_rounds", "pit", texts, without=("R_PIT",))
  for name, selector in {**SELECTORS, PAIR: suites.SELECTOR}.items():
    rows += suite.compare(name, "original", texts, without=(selector,))
    rows += suite.compare("pit", name, texts, without=(selector,))
    if name in SELECTORS:
      rows += suite.compare("pit_rounds", name, texts, without=(selector, "R_PIT"))

  if "self_refine_rounds" in texts:
    rows += suite.compare("self_refine_rounds", "original", texts)
    rows += suite.compare("pit_rounds", "self_refine_rounds", texts, without=("R_PIT",))

  return rows
