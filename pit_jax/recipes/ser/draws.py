"""Which rows of a fold keep their labels: the seed, a part of it that validates, and the rest."""

import dataclasses
import random
from collections.abc import Sequence

from pit_jax.data import preferences

FEWEST = 2  # pairs of the validation part, and of those that are trained on


@dataclasses.dataclass(frozen=True)
class Draw:
  """A draw of labels, by the places of the rows in their fold."""

  number: int  # from 1 on
  training: tuple[int, ...]  # of the seed: labels that are trained on
  validation: tuple[int, ...]  # of the seed: labels that stop the rounds and choose among them
  pool: tuple[int, ...]  # rows whose labels nothing reads


def draw(
  rows: Sequence[preferences.Preference],
  number: int,
  *,
  share: float | int,
  validation: float | int,
  seed: int,
) -> Draw:
  """Returns a draw of the rows that keep their labels.

  Args:
    rows: of a fold.
    number: of the draw.
    share: of the rows that keep their labels, between 0 and 1.
    validation: of these, the share that is never trained on. All labels of a prompt are on one
      side, so it may be a few more.
    seed: of the draw.

  Raises:
    ValueError: too few labels are left to train on, or to validate on.
  """
  generator = random.Random(seed)
  kept = generator.sample(range(len(rows)), round(share * len(rows)))
  places: dict[object, list[int]] = {}
  for place in kept:
    places.setdefault(rows[place].prompt, []).append(place)

  wanted = round(validation * len(kept))
  validating: list[int] = []
  training: list[int] = []
  for group in places.values():  # in the order in which they were drawn
    (validating if len(validating) < wanted else training).extend(group)

  if min(len(training), len(validating)) < FEWEST:
    raise ValueError(
      f"ser.share={share:g} of {len(rows)} rows leaves {len(kept)} labels, of which "
      f"ser.validation={validation:g} takes {len(validating)} and leaves {len(training)} to train "
      f"on; use a larger share or more rows: each needs {FEWEST} or more"
    )

  unlabelled = sorted({*range(len(rows))} - {*kept})
  return Draw(number, tuple(sorted(training)), tuple(sorted(validating)), tuple(unlabelled))
