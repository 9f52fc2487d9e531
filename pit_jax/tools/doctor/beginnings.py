"""Findings on prompts that begin alike: turns of one conversation, and much-used first turns."""

import numpy as np
from jaxtyping import Int

from pit_jax.data import conversations, similar
from pit_jax.tools.doctor import cases, findings

LARGE = 0.1  # share of the prompts that one first turn may have before folds are out of proportion
FEW = 5  # prompts that may always have one

# What to do about beginnings in several folds, and about a first turn that is much used.
SPLIT = (
  "What is held out was partly trained on: write conversations as message lists, or keep what goes "
  "on with another prompt in its fold with data.fold_by=cluster."
)
FIRST = (
  "Where this turn only says what is to be done with what precedes it, put it behind the rest, so "
  "that the user's first turn holds all that is asked."
)


def shared(examined: cases.Cases, talks: Int[np.ndarray, " prompts"]) -> findings.Finding:
  """Finds prompts that share their beginning, and whether folds keep these together.

  Prompts with the same first turn of a user, however they are written, are in one fold. Others that
  share their beginning are written in a way that nobody knows, such as between two names. `talks`
  says which prompts are of one conversation; see `copies.conversations_of`.
  """
  # Numbered by what prompts are divided by: the user's first turn.
  texts = (conversations.opening(examined.rows[row].prompt) for row in examined.first)
  opening, _ = cases.numbered(texts)
  labels = similar.joined(opening, talks)
  groups = [group for group in cases.rows_of(labels) if len(group) > 1]
  split = [group for group in groups if _is_split(examined, group)]
  prompts = len(examined.prompts)
  largest = int(np.bincount(opening).max())
  many = sum(map(len, groups))

  # The empty one keeps whole numbers where no group is split.
  concerned = np.concatenate([*split, np.array([], int)])
  is_large = largest > max(LARGE * prompts, FEW)
  least = "problem" if is_large else "ok"
  return findings.Finding(
    "beginnings",
    "Shared beginnings",
    findings.gravest([findings.severity(len(concerned) / prompts), least]),
    _said(groups, split, many, largest / prompts if is_large else 0.0),
    " ".join(advice for advice, is_due in ((SPLIT, split), (FIRST, is_large)) if is_due),
    (
      findings.Figure("prompts that begin like another one", many),
      findings.Figure("beginnings that they share", len(groups)),
      findings.Figure("most prompts with one beginning", max(map(len, groups), default=0)),
      findings.Figure("most prompts with one first turn of the user", largest),
      findings.Figure("shared beginnings in several folds", len(split)),
    ),
    tuple(examined.beside(group[:2]) for group in (split or groups)[: findings.EXAMPLES]),
    places=examined.places(*examined.first[np.sort(concerned)]),
  )


def _is_split(examined: cases.Cases, group: np.ndarray) -> bool:
  return examined.part is not None and len(set(examined.part[group].tolist())) > 1


def _said(groups: list, split: list, many: int, share: float) -> str:
  if not groups:
    return "No two prompts begin with the same turn."
  sentence = (
    f"{findings.count(many, 'prompt begins/prompts begin')} like another one, "
    f"with {findings.count(len(groups), 'beginning')} in common; "
  )

  if split:
    sentence += f"{findings.count(len(split), 'of them is/of them are')} split over several folds."
  else:
    sentence += "each of them is in one fold."

  if share:
    sentence += (
      f" One first turn alone opens {findings.percent(share)} of the prompts, which are all in one "
      "fold."
    )

  return sentence
