"""What a finished study is asked: what became of exercises, and who answers which kinds right."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from pit_jax.data import conversations
from pit_jax.evaluate import seeds, subject
from pit_jax.feedback import named, router
from pit_jax.recipes.instructors import arms, lessons
from pit_jax.run import context as contexts
from pit_jax.stages import trained

IN, OUT, ALL = "in", "out", "all"  # domains: kinds that the target often fails on, the others
EVERY = "every"  # what the kind of all prompts is called where none are told apart


@dataclasses.dataclass(frozen=True)
class Round:
  """A round of an arm."""

  arm: str
  number: int
  looked_at: arms.Answered  # whose answers the instructor was shown
  lessons: lessons.Lessons


@dataclasses.dataclass(frozen=True)
class Study:
  """All that a run trains, and what it was trained on."""

  policies: dict[str, trained.Trained]  # by system
  rounds: dict[str, Round]  # by stage
  answered: dict[str, arms.Answered]  # of the target, and of another student by the arm's name


def about(context: contexts.Context, study: Study) -> dict[str, str]:
  """Returns what every system is, by its name."""
  c = context.config.instructors
  told = {arms.TARGET: f"fine-tuned on {c.author}" if c.author else "as it was"}
  for arm in arms.of(context.config):
    count = sum(one.arm == arm and one.lessons.requests > 0 for one in study.rounds.values())
    rounds = f"after {count} round{'s' if count != 1 else ''} of {arms.ABOUT[arm]}"
    told[arm] = rounds if count else "as the target: there was no problem to show an instructor"
  return told


def measure_lessons(run: subject.Policies) -> dict:
  """Returns of every round the errors that it began with and what the instructor wrote.

  `right` is the share of the exercises whose worked answers pass the verifier; nothing is chosen by
  it.
  """
  verifier = named.build(run.context, "raters", run.context.config.instructors.verifier)
  rows = []
  for one in run.study.rounds.values():
    row = {"arm": one.arm, "round": one.number, "wrong": one.looked_at.wrong}
    row |= {"requests": one.lessons.requests, "outcomes": one.lessons.outcomes}
    row["outcomes"] |= dict(one.lessons.failures)
    used = one.lessons.of(lessons.TRAINED)
    if used:
      columns = [[made[key] for made in used] for key in ("prompt", "response")]
      passed = verifier.passes(*columns)
      known = passed[~np.isnan(passed)]
      row |= {"right": float(known.mean())} if len(known) else {}
      row["of"] = dict(collections.Counter(kinds_of(run.context, columns[0])))
    rows.append(row)
  return {"lessons": rows}


def kinds_of(context: contexts.Context, questions: Sequence[conversations.Prompt]) -> list[str]:
  """Returns the kind of every question, as `instructors.classify` says."""
  place = context.config.instructors.classify
  if not place:
    return [EVERY] * len(questions)
  return router.classifier({"classify": place})(questions)


def domain(context: contexts.Context, answered: arms.Answered) -> dict[str, str]:
  """Returns kind → IN where the target's answers to the training split are wrong more often than
  over all kinds, else OUT.
  """
  outcomes = collections.defaultdict(list)
  for kind, passed in zip(kinds_of(context, answered.questions), answered.passed, strict=True):
    if not np.isnan(passed):
      outcomes[kind].append(1 - passed)
  return {
    kind: IN if len(outcomes) == 1 or np.mean(wrong) > answered.wrong else OUT
    for kind, wrong in outcomes.items()
  }


def measure_kinds(run: subject.Policies) -> dict:
  """Returns how many answers of every system are right, kind by kind and domain by domain.

  `domains` compares systems on the prompts of a domain, as `comparisons` do on all.
  """
  c = run.context.config.instructors
  judge = next(one for one in run.suite.judges if one.name == c.judge)
  questions = run.suite.questions
  names = kinds_of(run.context, questions)
  domains = domain(run.context, run.study.answered[arms.TARGET])
  sides = [domains.get(name, OUT) for name in names]
  right = {system: judge.score(questions, run.texts[system]) for system in run.models}

  rows = []
  for label, of in (*((name, names) for name in sorted({*names})), (IN, sides), (OUT, sides)):
    places = [place for place, one in enumerate(of) if one == label]
    side = "" if of is sides else domains.get(label, OUT)
    rows += [
      {"system": system, "kind": label, "domain": side, "prompts": len(places),
       "right": float(scores[places].mean())}
      for system, scores in right.items()
      if places
    ]  # fmt: skip

  compared = []
  for side in (IN, OUT):
    places = [place for place, one in enumerate(sides) if one == side]
    if not places:
      continue
    asked = [questions[place] for place in places]
    for a, b in run.compared:
      texts = [[run.texts[system][place] for place in places] for system in (a, b)]
      about = {"a": a, "b": b, "judge": judge.name, "domain": side}
      compared.append(about | vars(judge.compare(asked, *texts)))
  return {"kinds": rows, "domains": compared}


def pool_domains(parts: Mapping[int, Sequence[Mapping]], prompts: Sequence) -> list[dict]:
  """Returns `domains` of several seeds: each comparison over all of them, and that of each seed."""
  pooled = [
    seeds.comparison(same, prompts) | {"domain": same[0]["domain"]}
    for same in zip(*parts.values(), strict=True)
  ]
  return pooled + [row | {"seed": seed} for seed, rows in parts.items() for row in rows]


def pool_lessons(parts: Mapping[int, Sequence[Mapping]], prompts: Sequence) -> list[dict]:
  """Returns `lessons` of several seeds: means, and sums of what became of exercises."""
  del prompts
  by_round = collections.defaultdict(list)
  for rows in parts.values():
    for row in rows:
      by_round[row["arm"], row["round"]].append(row)

  pooled = []
  for (arm, number), rows in by_round.items():
    row = {"arm": arm, "round": number, "seeds": len(rows)}
    for name in ("wrong", "requests", "right"):
      told = [one[name] for one in rows if name in one]
      row |= {name: float(np.mean(told))} if told else {}
    for name in ("outcomes", "of"):
      row[name] = dict(sum((collections.Counter(one.get(name, {})) for one in rows),
                           collections.Counter()))  # fmt: skip
    pooled.append(row)
  return pooled
