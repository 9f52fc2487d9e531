"""The words that a revision changed, marked as a page marks them."""

import difflib
import re

import markupsafe

ALIKE = 0.5  # share of words, of 1
LONG = 500  # words and spaces, from which on frequent ones are no landmarks: it takes squares else


def mark(before: str, after: str) -> markupsafe.Markup:
  """Returns a revision with the words that it took out (<del>) and put in (<ins>).

  The text is escaped. Without what is in <del> it is the revision, after, without what is in <ins>
  the draft, before.
  """
  old, new = (re.findall(r"\s+|\S+", text) for text in (before, after))
  parts: list[list] = []  # each [what both have | None, old, new]
  codes = _compared(old, new).get_opcodes()

  for place, (kind, i, j, k, m) in enumerate(codes):
    gone = "".join(old[i:j])
    came = "".join(new[k:m])
    # White space between two changes is part of one change: marks of whole phrases read better.
    is_between = 0 < place < len(codes) - 1 and not gone.strip()

    is_shared = kind == "equal" and not is_between
    if not is_shared and parts and not parts[-1][0]:
      parts[-1] = [False, parts[-1][1] + gone, parts[-1][2] + came]
    else:
      parts.append([is_shared, gone, came])

  return markupsafe.Markup("").join(_marked(*part) for part in parts)


def alike(before: str, after: str) -> bool:
  """Returns whether two texts share most of their words, so that what differs is worth marking."""
  words = (before.split(), after.split())
  return _compared(*words).ratio() >= ALIKE


def _compared(old: list[str], new: list[str]) -> difflib.SequenceMatcher:
  # By itself difflib passes over the frequent words of texts from 200 on (autojunk).
  return difflib.SequenceMatcher(None, old, new, autojunk=max(len(old), len(new)) > LONG)


def _marked(is_shared: bool, gone: str, came: str) -> markupsafe.Markup:
  if is_shared:
    return markupsafe.escape(came)
  sides = (("del", gone), ("ins", came))
  tags = (markupsafe.Markup("<{0}>{1}</{0}>").format(tag, text) for tag, text in sides if text)
  return markupsafe.Markup("").join(tags)
