"""Findings on rows that stand there twice, nearly twice, and on both sides of a fold."""

import hashlib
from collections.abc import Sequence

import numpy as np

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
  rows = len(examined.rows)
  concerned = sorted({*surplus.tolist(), *same})

  figures = (
    findings.Figure("rows that repeat an earlier one", len(surplus)),
    findings.Figure("most copies of one row", int(many.max())),
    findings.Figure("pairs that differ in case and punctuation only", len(same)),
    findings.Figure("prompts with several rows", int((np.bincount(examined.prompt) > 1).sum())),
  )

  sentence = (
    f"{findings.count(len(surplus), 'row repeats/rows repeat')} an earlier one word for word; "
    f"the two responses of {findings.count(len(same), 'pair')} say the same words."
  )
  if not concerned:
    sentence = "No row is there twice, and no pair says the same words twice."
  groups = [*repeated, *(np.array([row]) for row in same)]

  return findings.Finding(
    "duplicates",
    "Duplicates",
    findings.severity(len(concerned) / rows),
    sentence,
    "Keep one of each, unless they are judgements of different people, by which label noise is "
    "estimated: a copy counts twice in every loss."
    if concerned
    else "",
    figures,
    tuple(
      findings.Example(
        examined.places(*group[: findings.EXAMPLES]),
        findings.shorten(examined.prompts[examined.prompt[group[0]]]),
      )
      for group in groups[: findings.EXAMPLES]
    ),
    places=examined.places(*concerned),
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

  figures = (
    findings.Figure("prompts nearly the same as another", many),
    findings.Figure("groups of them", len(groups)),
    findings.Figure("largest group", max(map(len, groups), default=0)),
  )
  closest = sorted(alike.pairs, key=lambda pair: -pair[2])

  # One of each group is no copy.
  extra = many - len(groups)
  return findings.Finding(
    "near_duplicates",
    "Near-duplicate prompts",
    findings.severity(extra / prompts),
    sentence if groups else "No prompt is nearly the same as another one.",
    "Keep the best row of each group, or weigh what many near-copies teach." if groups else "",
    figures,
    tuple(_alike(examined, *pair) for pair in closest[: findings.EXAMPLES]),
    places=examined.places(*(examined.first[prompt] for group in groups for prompt in group)),
  )


def _alike(examined: cases.Cases, one: int, other: int, similarity: float) -> findings.Example:
  texts = [findings.shorten(examined.prompts[prompt], 90) for prompt in (one, other)]
  places = examined.places(*examined.first[[one, other]])
  return findings.Example(places, f"{similarity:.2f}: {texts[0]} | {texts[1]}")


def conversations_of(examined: cases.Cases) -> np.ndarray:
  """Numbers prompts so that those of one conversation have the same number.

  Two prompts are of one conversation where one goes on with further turns of the other
  (`clusters.continued`), or where both begin with the same question and the same reply to it.

  Returns:
    Int[prompts].
  """
  begun: dict[bytes, int] = {}
  links = clusters.continued(examined.prompts).tolist()
  for number, row in enumerate(examined.first):
    prompt = examined.rows[row].prompt
    turns = marks.turns(prompt) if isinstance(prompt, str) else prompt
    replied = next((end for end, turn in enumerate(turns) if turn[0] == "assistant" and end), None)

    if replied is not None and turns[replied][1]:
      start = _digest(repr([tuple(turn) for turn in turns[: replied + 1]]))
      # The first prompt with a beginning stands for all others that have it.
      links.append((begun.setdefault(start, number), number))

  return similar.linked(len(examined.prompts), np.array(links, int).reshape(-1, 2))


def _digest(text: str) -> bytes:
  return hashlib.blake2b(text.encode(), digest_size=12).digest()


def leakage(examined: cases.Cases, alike: similar.Groups, talks: np.ndarray) -> findings.Finding:
  """Finds leakage: prompts of held-out and validation parts whose like is in training parts.

  Folds are made from the exact text of a prompt, or of the user's first message: a near-copy may
  land anywhere, and so may a conversation that begins with something else than another's question.
  """
  title = "Leakage between folds"
  if examined.part is None:
    sentence = "There are no folds to leak between: training would refuse these rows."
    return findings.Finding("leakage", title, "unknown", sentence)

  measuring = trained_by(examined.names)
  near = {name: _seen(examined, examined.part, alike.labels, name) for name in measuring}
  same = {name: _seen(examined, examined.part, talks, name) for name in measuring}
  table = []
  shares = {}
  leaking = []

  for name in measuring:
    members = examined.part == examined.names.index(name)
    if not members.any():
      continue
    either = near[name] | same[name]
    shares[name] = float(either[members].mean())
    leaking += np.flatnonzero(either).tolist()
    numbers = (members, near[name], same[name], either, _answered(examined, name))
    counted = [f"{int(flags.sum()):,}" for flags in numbers]

    table.append((name.replace("_", " "), *counted))

  heads = ("part", "prompts", "near-copies", "conversations", "either", "answers")
  return findings.Finding(
    "leakage",
    title,
    findings.gravest([findings.severity(share) for share in shares.values()]),
    _leakage_said(shares),
    "Remove one side of each, or give related prompts the same text: the fold depends on it."
    if leaking
    else "",
    tuple(
      findings.Figure(f"{name.replace('_', ' ')}: prompts seen in training", share, "share")
      for name, share in shares.items()
    ),
    _leakage_examples(examined, alike.labels, talks, near, same),
    (cells.Table("leakage", "Prompts whose like was trained on", heads, tuple(table), NOTE),),
    places=examined.places(*examined.first[sorted(set(leaking))]),
  )


NOTE = (
  "Near-copies are prompts nearly the same as one that is trained on, conversations those that "
  "share their beginning with one; answers are prompts with a response that was trained on under "
  "another prompt, which may be a stock phrase."
)


def trained_by(names: Sequence[str]) -> dict[str, list[str]]:
  """Returns each part that measures → the parts that what it measures was trained on.

  A reward model that only judges must not know what the one that rewards was trained on, nor the
  prompts of reinforcement learning.

  Args:
    names: of the parts of a division; see `preferences.Folds`.
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


def _is_in(examined: cases.Cases, part: np.ndarray, names: Sequence[str]) -> np.ndarray:
  return np.isin(part, [examined.names.index(name) for name in names])


def _seen(examined: cases.Cases, part: np.ndarray, labels: np.ndarray, name: str) -> np.ndarray:
  """Returns which of some things are in a part and share their label with one that trained it."""
  trained = _is_in(examined, part, trained_by(examined.names)[name])
  # A flag for each label, since comparing all prompts with all would be quadratic.
  has_trained = np.zeros(labels.max() + 1, bool)
  has_trained[labels[trained]] = True
  return _is_in(examined, part, [name]) & has_trained[labels]


def _answered(examined: cases.Cases, name: str) -> np.ndarray:
  """Returns which prompts of a part have a response that stands in what trained it."""
  numbers: dict[bytes, int] = {}
  responses = (text for row in examined.rows for text in (row.chosen, row.rejected))
  texts = np.array([numbers.setdefault(_digest(text), len(numbers)) for text in responses])
  prompts = np.repeat(examined.prompt, 2)
  is_answered = np.zeros(len(examined.prompts), bool)
  is_answered[prompts[_seen(examined, examined.part[prompts], texts, name)]] = True

  return is_answered


def _leakage_said(shares: dict[str, float]) -> str:
  sentence = [
    f"{findings.percent(share)} of {name.replace('_', ' ')}"
    for name, share in shares.items()
    if share
  ]
  if not sentence:
    return "No prompt that measures is near one that trains, nor of the same conversation."

  return f"Prompts whose like was trained on: {', '.join(sentence)}."


def _leakage_examples(examined, alike, talks, near, same) -> tuple[findings.Example, ...]:
  """Shows prompts that leak, each beside one that trains, the held-out ones first."""
  shown = []
  for name, others in trained_by(examined.names).items():
    trains = _is_in(examined, examined.part, others)
    for labels, flags in ((alike, near[name]), (talks, same[name])):
      for prompt in np.flatnonzero(flags)[: findings.EXAMPLES]:
        other = np.flatnonzero(trains & (labels == labels[prompt]))[0]
        texts = [findings.shorten(examined.prompts[number], 90) for number in (prompt, other)]
        parts = [examined.named(examined.part[number]) for number in (prompt, other)]
        sentence = f"{parts[0]}: {texts[0]} | {parts[1]}: {texts[1]}"
        shown.append(findings.Example(examined.places(*examined.first[[prompt, other]]), sentence))

  return tuple(shown[: findings.EXAMPLES])
