"""Counts of what stop rules keep, by what a judge says of each version."""

import functools
from collections.abc import Mapping, Sequence

import numpy as np

KINDS = ("better", "equal", "worse", "identical")  # than the version before; the last word for word


def count(kinds: np.ndarray, is_kept: np.ndarray) -> dict[str, int]:
  """Returns of each kind how many versions there are, and how many are kept."""
  counts: dict[str, int] = {}
  for kind in KINDS:
    counts |= {kind: int((kinds == kind).sum()), f"{kind}_kept": int(is_kept[kinds == kind].sum())}
  return counts


def pool(parts: Sequence[Mapping]) -> dict:
  """Returns the counts of several seeds together; each has the same rules, margins and rounds."""
  rows = zip(*(part["rows"] for part in parts), strict=True)
  return {"judge": parts[0]["judge"], "rows": [functools.reduce(_added, row) for row in rows]}


def over_rounds(rows: Sequence[Mapping]) -> list[dict]:
  """Returns the counts of all rounds together, a row for every rule and margin."""
  joined: dict[tuple, Mapping] = {}
  for row in rows:
    name = row["rule"], row["margin"]
    joined[name] = _added(joined[name], row) if name in joined else row

  return [{**row, "k": None} for row in joined.values()]


def _added(one: Mapping, other: Mapping) -> dict:
  names = [name for kind in KINDS for name in (kind, f"{kind}_kept")]
  return {**one, **{name: one[name] + other[name] for name in names}}
