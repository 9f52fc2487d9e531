"""Responses that are cut at words."""

from collections.abc import Sequence

from pit_jax.data import preferences, rows


def at_words(text: str, most: float | int, least: int = 1) -> str:
  """Returns the first words of a text, as they stand, with whatever space is between them.

  Args:
    text: any.
    most: how many words, 1 or more; below 1, which share of them, rounded down.
    least: of a share, how many at least; a shorter text stays whole.
  """
  words = text.split(" ")
  count = int(most) if most >= 1 else max(int(most * len(words)), least)
  return " ".join(words[:count])


def pairs(fold: preferences.Fold, most: float | int, least: int = 1) -> preferences.Fold:
  """Returns pairs whose responses are cut at words, without those that become equal.

  A response that is cut ends like one that was finished, as in the published code of Zhang et al.
  2024 (arXiv 2410.16198), whose cut comes before the template.
  """

  def cut(part: Sequence[rows.Preference]) -> tuple[rows.Preference, ...]:
    shortened = [
      (row.prompt, *(at_words(side, most, least) for side in (row.chosen, row.rejected)))
      for row in part
    ]
    return tuple(rows.Preference(*texts) for texts in shortened if texts[1] != texts[2])

  return preferences.Fold(cut(fold.rows), cut(fold.validation))
