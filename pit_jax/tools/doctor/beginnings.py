"""Findings on prompts that begin alike: turns of one conversation, and much-used first turns."""

import numpy as np

from pit_jax.data import conversations, similar
from pit_jax.tools.doctor import cases, findings

LARGE = 0.1  # share of the prompts that one first turn may have before folds are out of proportion
FEW = 5  # prompts that may always have one


def shared(examined: cases.Cases, talks: np.ndarray) -> findings.Finding:
  """Finds prompts that share their beginning, and whether folds keep these together.

  Prompts with the same first turn of a user, however they are written, are in one fold. Others that
  share their beginning are written in a way that nobody knows, such as between two names.

  Args:
    examined: the rows.
    talks: Int[prompts], which prompts are of one conversation.
  """
  opening = _openings(examined)
  labels = similar.joined(opening, talks)
  groups = [group for group in cases.rows_of(labels) if len(group) > 1]
  split = [group for group in groups if _is_split(examined, group)]
  prompts = len(examined.prompts)
  largest = int(np.bincount(opening).max())

  # The empty one keeps whole numbers where no group is split.
  concerned = np.concatenate([*split, np.array([], int)])
  is_large = largest > max(LARGE * prompts, FEW)
  return findings.Finding(
    "beginnings",
    "Shared beginnings",
    findings.gravest(
      [
        findings.severity(len(concerned) / prompts),
        "problem" if is_large else "ok",
      ]
    ),
    _said(groups, split, is_large, largest / prompts),
    _advice(bool(split), is_large),
    (
      findings.Figure("prompts that begin like another one", sum(map(len, groups))),
      findings.Figure("beginnings that they share", len(groups)),
      findings.Figure("most prompts with one beginning", max(map(len, groups), default=0)),
      findings.Figure("most prompts with one first turn of the user", largest),
      findings.Figure("shared beginnings in several folds", len(split)),
    ),
    tuple(_example(examined, group) for group in (split or groups)[: findings.EXAMPLES]),
    places=examined.places(*examined.first[np.sort(concerned)]),
  )


def _openings(examined: cases.Cases) -> np.ndarray:
  """Numbers prompts by what they are divided by: the user's first turn."""
  numbers: dict[str, int] = {}
  texts = (conversations.opening(examined.rows[row].prompt) for row in examined.first)
  return np.array([numbers.setdefault(text, len(numbers)) for text in texts])


def _is_split(examined: cases.Cases, group: np.ndarray) -> bool:
  return examined.part is not None and len(set(examined.part[group].tolist())) > 1


def _said(groups: list, split: list, is_large: bool, share: float) -> str:
  if not groups:
    return "No two prompts begin with the same turn."
  sentence = (
    f"{findings.count(sum(map(len, groups)), 'prompt begins/prompts begin')} like another one, "
    f"with {findings.count(len(groups), 'beginning')} in common; "
  )

  if split:
    sentence += f"{findings.count(len(split), 'of them is/of them are')} split over several folds."
  else:
    sentence += "each of them is in one fold."

  if is_large:
    sentence += (
      f" One first turn alone opens {findings.percent(share)} of the prompts, which are all in one "
      "fold."
    )

  return sentence


def _advice(is_split: bool, is_large: bool) -> str:
  advice = []
  if is_split:
    advice.append(
      "What is held out was partly trained on: write conversations as message lists, or keep what "
      "goes on with another prompt in its fold with data.fold_by=cluster."
    )

  if is_large:
    advice.append(
      "Where this turn only says what is to be done with what precedes it, put it behind the rest, "
      "so that the user's first turn holds all that is asked."
    )

  return " ".join(advice)


def _example(examined: cases.Cases, group: np.ndarray) -> findings.Example:
  shown = group[:2]
  texts = [findings.shorten(examined.prompts[prompt], 90) for prompt in shown]
  if examined.part is not None:
    names = [examined.named(examined.part[prompt]) for prompt in shown]
    texts = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]

  return findings.Example(examined.places(*examined.first[shown]), " | ".join(texts))
