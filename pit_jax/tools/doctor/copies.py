"""Findings on rows that stand there twice, nearly twice, and on both sides of a fold."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

from pit_jax.data import clusters, marks, preferences, similar
from pit_jax.report import cells
from pit_jax.tools.doctor import cases, findings

NEAR = 10  # characters by which responses that differ in their signs alone differ in length


def duplicates(examined: cases.Cases) -> findings.Finding:
  """Finds rows that are there several times, word for word, and pairs that are hardly one."""
  of_row = np.stack([examined.chosen, examined.rejected], axis=1)
  _, inverse, many = np.unique(of_row, axis=0, return_inverse=True, return_counts=True)
  repeated = [rows for rows in cases.rows_of(inverse.ravel()) if len(rows) > 1]
  surplus = np.concatenate([rows[1:] for rows in repeated] or [np.array([], int)])
  same = [row for row, pair in enumerate(examined.rows) if _differ_in_signs(pair)]
  concerned = sorted({*surplus.tolist(), *same})

  sentence = (
    f"{findings.count(len(surplus), 'row repeats/rows repeat')} an earlier one word for word; "
    f"the two responses of {findings.count(len(same), 'pair')} say the same words."
  )
  groups = [*repeated, *(np.array([row]) for row in same)]

  return findings.weighed(
    "duplicates",
    "Duplicates",
    len(concerned) / len(examined.rows),
    sentence,
    "Keep one of each, unless they are judgements of different people, by which label noise is "
    "estimated: a copy counts twice in every loss.",
    (
      findings.Figure("rows that repeat an earlier one", len(surplus)),
      findings.Figure("most copies of one row", int(many.max())),
      findings.Figure("pairs that differ in case and punctuation only", len(same)),
      findings.Figure("prompts with several rows", int((np.bincount(examined.prompt) > 1).sum())),
    ),
    tuple(
      findings.Example(examined.places(*group[: findings.EXAMPLES]), examined.asked(group[0], 160))
      for group in groups[: findings.EXAMPLES]
    ),
    places=examined.places(*concerned),
    fine="No row is there twice, and no pair says the same words twice.",
  )


def _differ_in_signs(pair) -> bool:
  # Lengths first: words are slow to find, and most pairs need none.
  if abs(len(pair.chosen) - len(pair.rejected)) > NEAR:
    return False
  return similar.words(pair.chosen) == similar.words(pair.rejected)


def near_duplicates(examined: cases.Cases, alike: similar.Groups) -> findings.Finding:
  """Finds different prompts that are nearly the same."""
  groups = [group for group in cases.rows_of(alike.labels) if len(group) > 1]
  many = sum(map(len, groups))
  prompts = len(examined.prompts)
  sentence = (
    f"{findings.count(many, 'prompt is/prompts are')} nearly the same as another one "
    f"({findings.percent(many / prompts)} of the different prompts), in "
    f"{findings.count(len(groups), 'group')}."
  )

  closest = sorted(alike.pairs, key=lambda pair: -pair[2])

  return findings.weighed(
    "near_duplicates",
    "Near-duplicate prompts",
    (many - len(groups)) / prompts,  # one of each group is no copy
    sentence,
    "Keep the best row of each group, or weigh what many near-copies teach.",
    (
      findings.Figure("prompts nearly the same as another", many),
      findings.Figure("groups of them", len(groups)),
      findings.Figure("largest group", max(map(len, groups), default=0)),
    ),
    tuple(_alike(examined, *pair) for pair in closest[: findings.EXAMPLES]),
    places=examined.places(*(examined.first[prompt] for group in groups for prompt in group)),
    fine="No prompt is nearly the same as another one.",
  )


def _alike(examined: cases.Cases, one: int, other: int, similarity: float) -> findings.Example:
  texts = findings.shorten_beside([examined.prompts[prompt] for prompt in (one, other)], 90)
  places = examined.places(*examined.first[[one, other]])
  return findings.Example(places, f"{similarity:.2f}: {texts[0]} | {texts[1]}")


def conversations_of(examined: cases.Cases) -> Int[np.ndarray, " prompts"]:
  """Numbers prompts so that those of one conversation have the same number.

  Two prompts are of one conversation where one goes on with further turns of the other
  (`clusters.continued`), or where both begin with the same question and the same reply to it.
  """
  begun: dict[tuple, int] = {}
  links = clusters.continued(examined.prompts).tolist()
  for number, row in enumerate(examined.first):
    prompt = examined.rows[row].prompt
    turns = marks.turns(prompt) if isinstance(prompt, str) else prompt
    replied = next((end for end, turn in enumerate(turns) if turn[0] == "assistant" and end), None)

    if replied is not None and turns[replied][1]:
      start = tuple(map(tuple, turns[: replied + 1]))
      # The first prompt with a beginning stands for all others that have it.
      links.append((begun.setdefault(start, number), number))

  return similar.linked(len(examined.prompts), np.array(links, int).reshape(-1, 2))


def leakage(
  examined: cases.Cases, alike: similar.Groups, talks: np.ndarray, fold_by: str
) -> findings.Finding:
  """Finds leakage: prompts of held-out and validation parts whose like is in training parts.

  Folds are made from the exact text of a prompt, or of the user's first message: a near-copy may
  land anywhere, and so may a conversation that begins with something else than another's question.
  `fold_by` is that of the division.
  """
  title = "Leakage between folds"
  if examined.part is None:
    sentence = "There are no folds to leak between: training would refuse these rows."
    return findings.Finding("leakage", title, "unknown", sentence)

  table = []
  shares = {}
  leaking = []
  examples = []
  prompts = np.repeat(examined.prompt, 2)
  # A number for each response, whatever it is said to.
  texts, _ = cases.numbered(text for row in examined.rows for text in (row.chosen, row.rejected))

  for name, others in trained_by(examined.names).items():
    measures, trains = (
      np.isin(examined.part, list(map(examined.names.index, names))) for names in ([name], others)
    )
    if not measures.any():
      continue
    near, same = (measures & np.isin(labels, labels[trains]) for labels in (alike.labels, talks))
    for labels, flags in ((alike.labels, near), (talks, same)):
      examples += [
        examined.beside([prompt, np.flatnonzero(trains & (labels == labels[prompt]))[0]])
        for prompt in np.flatnonzero(flags)[: findings.EXAMPLES]
      ]

    answered = prompts[measures[prompts] & np.isin(texts, texts[trains[prompts]])]
    either = near | same
    part = name.replace("_", " ")
    shares[part] = float(either[measures].mean())
    leaking += np.flatnonzero(either).tolist()
    counts = (measures.sum(), near.sum(), same.sum(), either.sum(), len(np.unique(answered)))
    table.append((part, *(f"{count:,}" for count in counts)))

  heads = ("part", "prompts", "near-copies", "conversations", "either", "answers")
  listed = ", ".join(f"{findings.percent(seen)} of {part}" for part, seen in shares.items() if seen)
  return findings.weighed(
    "leakage",
    title,
    max(shares.values(), default=0.0),
    f"Prompts whose like was trained on: {listed}.",
    "Remove one side of each." if fold_by == "cluster" else BY_CLUSTER,
    tuple(
      findings.Figure(f"{part}: prompts seen in training", seen, "share")
      for part, seen in shares.items()
    ),
    tuple(examples[: findings.EXAMPLES]),
    (cells.Table("leakage", "Prompts whose like was trained on", heads, tuple(table), NOTE),),
    places=examined.places(*examined.first[sorted(set(leaking))]),
    fine="No prompt that measures is near one that trains, nor of the same conversation.",
  )


BY_CLUSTER = (
  "Train with data.fold_by=cluster, which keeps prompts that are nearly the same, and the turns of "
  "one conversation, in one fold; --fold_by=cluster examines what that leaves. Else remove one "
  "side of each."
)
NOTE = (
  "Near-copies are prompts nearly the same as one that is trained on, conversations those that "
  "share their beginning with one; answers are prompts with a response that was trained on under "
  "another prompt, which may be a stock phrase."
)


def trained_by(names: Sequence[str]) -> dict[str, list[str]]:
  """Returns each part that measures → the parts that what it measures was trained on.

  A reward model that only judges must not know what the one that rewards was trained on, nor the
  prompts of reinforcement learning. The names are those of `preferences.Folds`.
  """
  twins = {name: f"{name}{preferences.VALIDATION}" for name in names}
  unseen = {preferences.HELD_OUT, preferences.SET_ASIDE, *twins.values()}
  trained = [name for name in names if name not in unseen]
  seen = {preferences.HELD_OUT: trained}
  seen |= {twins[name]: [name] for name in trained if twins[name] in names}

  if preferences.JUDGE in names:
    prompts_only = {name for name in trained if twins[name] not in names} - {preferences.JUDGE}
    rewarding = {preferences.JUDGED, *prompts_only}
    seen[preferences.JUDGE] = [name for name in trained if name in rewarding]

  return seen
