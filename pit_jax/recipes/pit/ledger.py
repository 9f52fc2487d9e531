"""The ledger of self-improvement: what each round did to the answer to every held-out prompt."""

import itertools
from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pit_jax.data import conversations
from pit_jax.evaluate import seeds
from pit_jax.evaluate import suite as suites
from pit_jax.feedback import judges
from pit_jax.improve import improvement, self_refine
from pit_jax.recipes.pit import subject
from pit_jax.types import Params

OUTCOMES = ("worse", "unchanged", "improved")
VERDICTS = ("win", "tie", "lose")
MEANS = ("gap", "kl", "tokens")  # over those that kept a round
SHOWN = 60  # entries on the page, at most
CHARACTERS = 400_000  # of these entries together, at most
# What the kept answer is to the draft, where no kept round was worse than the one before it.
ENDS = {"worse": "worse than", "unchanged": "as good as", "improved": "better than"}


def measure(run: subject.Subject) -> dict:
  """Returns the ledger's `lines`, its figures, and the lines that the page shows."""
  suite = run.suite
  made = run.made
  ratios = log_ratios(suite, made, run.chain.improver_sft.params)
  lines = entries(suite, made, run.rows, ratios, run.refined)
  return {"ledger": summary(lines), "samples": choose(lines), "lines": lines}


def log_ratios(suite: suites.Suite, made: improvement.Rounds, improver_sft: Params) -> np.ndarray:
  """Returns what each version adds to KL(M_PIT^RL ‖ M_PIT^SFT), in nats, Float[rounds, N].

  log M_PIT^RL(y_k | x, y_{k−1}) − log M_PIT^SFT(y_k | x, y_{k−1}), summed over the tokens of y_k:
  the mean over samples estimates the KL per response; a single one may be negative.
  """
  inference = suite.improver.inference
  questions = list(suite.questions) * len(made.gaps)
  # All rounds in one call, so that batches are full; the rounds come apart again below.
  drafts, versions = (list(itertools.chain(*texts)) for texts in (made.texts[:-1], made.texts[1:]))
  after, before = (
    inference.revision_likelihoods(params, questions, drafts, versions, suite.temperature)
    for params in (suite.improver.improver, improver_sft)
  )

  return (after - before).reshape(made.gaps.shape)


def entries(
  suite: suites.Suite,
  made: improvement.Rounds,
  rows: Sequence,
  ratios: np.ndarray,
  refined: self_refine.Refinements | None = None,
) -> list[dict]:
  """Returns a line per prompt: regressions first, the largest loss before all, then as they come.

  The most believed judge that scores decides what a round did. A prompt is a regression where the
  stop rule kept a round that this judge puts below the one before it, or an answer that it puts
  below the draft.

  Args:
    suite: prompts and judges.
    made: all rounds, those after the stop rule's end included.
    rows: the prompts' rows of data.
    ratios: as `log_ratios` returns them.
    refined: Self-Refine's rounds on the same drafts, where it was played.

  Returns:
    Lines with the prompt, the data's two responses, the `judge`, the `outcome` (of OUTCOMES) of the
    kept answer against the draft and its `change` in score, the rounds `worse_after`, a `finding`
    in words, how many rounds were `kept`, at which one the rule `stopped` (None: at none), all
    `rounds`, of which number 0 is the draft; and `self_refine`, what that did to the draft.
  """
  columns = _columns(suite, made, ratios)
  scores = np.stack(columns["scores"][suite.scorer.name])
  tie = suite.scorer.tie
  lines = []

  for i, question in enumerate(suite.questions):
    steps = [_step(columns, made, k, i) for k in range(len(made.texts))]
    kept = int(made.kept[i])
    line = {"prompt": conversations.write(question), "judge": suite.scorer.name}
    line |= _judged(scores[:, i], kept, tie) | {"kept": kept, "stopped": made.ended(i)}
    line |= {"chosen": rows[i].chosen, "rejected": rows[i].rejected, "rounds": steps}
    lines.append(line | ({"self_refine": self_refine.told(refined, i)} if refined else {}))

  # Sorting is stable: lines of no regression stay in the order of the prompts.
  return sorted(lines, key=lambda line: (0, line["change"]) if _is_regression(line) else (1, 0.0))


def _is_regression(line: Mapping) -> bool:
  return bool(line["worse_after"]) or line["outcome"] == "worse"


def _columns(suite: suites.Suite, made: improvement.Rounds, ratios: np.ndarray) -> dict[str, Any]:
  """Returns lengths, gaps, KL, scores and verdicts of all versions, by judge and round."""
  drafts = made.texts[0]
  gaps = [suite.improver.gains(suite.questions, texts, drafts) for texts in made.texts[2:]]
  return {
    "tokens": [suite.lengths(texts) for texts in made.texts],
    "gap": made.gaps,
    "gap_to_draft": [made.gaps[0], *gaps],
    "kl": ratios,
    "scores": {
      judge.name: [judge.score(suite.questions, texts) for texts in made.texts]
      for judge in suite.scoring
    },
    # R_PIT has the gaps above for its word.
    "verdicts": {
      judge.name: _verdicts(suite, judge, made) for judge in suite.judges if judge.name != "R_PIT"
    },
  }


def _verdicts(suite: suites.Suite, judge: judges.Judge, made: improvement.Rounds) -> list:
  """Returns how each round fares against the one before it, as far as the judge was asked.

  One that scores was asked about all. One that only compares has compared the first round with the
  draft, on its first prompts, and is asked nothing new.
  """
  outcomes = []
  for before, after in itertools.islice(itertools.pairwise(made.texts), None if judge.score else 1):
    columns = (column[: judge.prompts] for column in (suite.questions, after, before))
    outcomes.append(judge.outcomes(judge.verdicts(*columns)))

  return outcomes


def _step(columns: Mapping, made: improvement.Rounds, k: int, i: int) -> dict:
  """Returns version k of answer i with all that is known of it."""
  step = {"k": k, "text": made.texts[k][i], "tokens": int(columns["tokens"][k][i])}
  step["scores"] = {name: float(values[k][i]) for name, values in columns["scores"].items()}
  if not k:
    return step

  # The draft has none of these: they are about the step from version k − 1 to version k.
  step |= {name: float(columns[name][k - 1][i]) for name in ("gap", "gap_to_draft", "kl")}
  asked = {name: rounds[k - 1] for name, rounds in columns["verdicts"].items() if len(rounds) >= k}
  verdicts = {name: outcomes[i] for name, outcomes in asked.items() if len(outcomes) > i}
  return step | {"is_kept": k <= int(made.kept[i]), "verdicts": verdicts}


def _judged(scores: np.ndarray, kept: int, tie: float) -> dict:
  """Returns what the scores of one answer's versions say of the rounds that were kept."""
  change = float(scores[kept] - scores[0])
  # −1, 0 or 1, as places in OUTCOMES from −1 on.
  outcome = OUTCOMES[int(np.sign(change if abs(change) > tie else 0.0)) + 1]
  steps = np.diff(scores[: kept + 1])
  worse_after = [int(k) + 1 for k in np.flatnonzero(steps < -tie)]
  finding = f"{ENDS[outcome]} the draft"

  if worse_after:
    *others, last = map(str, worse_after)
    named = f"rounds {', '.join(others)} and {last}" if others else f"round {last}"
    finding = f"worse after {named}" + ("" if outcome == "worse" else f", {finding} in the end")

  return {"outcome": outcome, "change": change, "worse_after": worse_after, "finding": finding}


def summary(lines: Sequence[Mapping]) -> dict:
  """Returns how many prompts each outcome has, and what each round did to those that kept it."""
  rounds = []
  judge = lines[0]["judge"]
  for k in range(1, len(lines[0]["rounds"])):
    kept = [line["rounds"][k] for line in lines if line["kept"] >= k]
    verdicts = [step["verdicts"][judge] for step in kept]
    row = {"k": k, "kept": len(kept)} | {name: verdicts.count(name) for name in VERDICTS}
    for name in MEANS:
      row[name] = float(np.mean([step[name] for step in kept])) if kept else None
    rounds.append(row)

  outcomes = [line["outcome"] for line in lines]
  return {
    "judge": judge,
    "prompts": len(lines),
    **{name: outcomes.count(name) for name in OUTCOMES},
    "regressions": sum(map(_is_regression, lines)),
    "rounds": rounds,
  }


def choose(lines: Sequence[Mapping]) -> list[Mapping]:
  """Returns the lines that the page shows, in the ledger's order.

  Regressions, unchanged and improved answers have equal shares as far as they go: of regressions
  the largest losses, of the others the first ones, which nobody chose. No more than SHOWN, nor than
  fit into CHARACTERS.
  """
  places = []
  left = CHARACTERS
  for place in itertools.islice(_in_turn(lines), SHOWN):
    texts = (step["text"] for step in lines[place]["rounds"])
    left -= sum(map(len, texts)) + len(lines[place]["prompt"])
    # However long it is, one line is shown.
    if left < 0 and places:
      break
    places.append(place)

  return [lines[place] for place in sorted(places)]


def _in_turn(lines: Sequence[Mapping]) -> Iterator[int]:
  """Yields the places of lines, one of each kind after the other."""
  kinds = ["regression" if _is_regression(line) else line["outcome"] for line in lines]
  of_each = (
    [place for place, kind in enumerate(kinds) if kind == wanted]
    for wanted in ("regression", "unchanged", "improved")
  )
  for places in itertools.zip_longest(*of_each):
    yield from (place for place in places if place is not None)


def pool(ledgers: Mapping[int, Mapping], prompts: Sequence[Hashable]) -> dict:
  """Returns the ledgers' counts over all prompts of all seeds, and whose samples are shown."""
  parts = list(ledgers.values())
  seed, first = next(iter(ledgers.items()))
  rounds = zip(*(part["rounds"] for part in parts), strict=True)
  numbers = ("prompts", *OUTCOMES, "regressions")
  return {
    "judge": first["judge"],
    **{name: sum(part[name] for part in parts) for name in numbers},
    "rounds": [_pooled_round(rows) for rows in rounds],
    "shown": {"seed": seed, "prompts": first["prompts"], "regressions": first["regressions"]},
    "is_repeated": seeds.is_repeated(prompts),
  }


def _pooled_round(rows: Sequence[Mapping]) -> dict:
  """Adds what became of the prompts; means are over all prompts that kept the round."""
  pooled = {"k": rows[0]["k"]}
  pooled |= {key: sum(row[key] for row in rows) for key in ("kept", *VERDICTS)}
  kept = [row for row in rows if row["kept"]]

  for key in MEANS:
    total = sum(row["kept"] * row[key] for row in kept)
    pooled[key] = total / pooled["kept"] if kept else None

  return pooled
