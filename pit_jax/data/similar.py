"""Texts that are nearly the same: shingles of words, their MinHash, and what bands have in common.

Two texts are alike where the Jaccard similarity of their sets of shingles is at least SIMILAR.
MinHash (Broder 1997) with banding only finds the candidates: each is compared exactly. The hashes
are fixed numbers, so that the same texts give the same groups everywhere.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Sequence

import numpy as np
import scipy.sparse
import scipy.sparse.csgraph
from jaxtyping import Bool, Int, UInt64

SHINGLE = 3  # words
SIMILAR = 0.8  # Jaccard similarity
HASHES, BAND = 64, 4  # a pair at SIMILAR goes unseen with probability (1 − 0.8⁴)¹⁶ = 0.02%
NEIGHBOURS = 4  # each text is compared with so many others of a bucket, at most
PIECE = 2_048  # texts at a time
KEPT = np.uint64(53)  # bits of a hash; the others number the texts of a piece
WORDS = 200_000  # whose hashes are kept
_WORD = re.compile(r"\w+")
_FACTOR, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


@dataclasses.dataclass(frozen=True)
class Shingles:
  """The sets of several texts, as sorted hashes end to end.

  Attributes:
    hashes: of text i they are hashes[starts[i] : starts[i + 1]].
    starts: one more than there are texts.
  """

  hashes: UInt64[np.ndarray, " shingles"]
  starts: Int[np.ndarray, " starts"]

  def of(self, text: int | np.integer) -> np.ndarray:
    """Returns the set of one text."""
    return self.hashes[self.starts[text] : self.starts[text + 1]]

  def similarity(self, one: int | np.integer, other: int | np.integer) -> float:
    """Returns the Jaccard similarity of two texts, |A ∩ B| / |A ∪ B|, in [0, 1]."""
    first, second = self.of(one), self.of(other)
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


@dataclasses.dataclass(frozen=True)
class Groups:
  """Texts that are linked by similar pairs.

  Attributes:
    labels: of each text the number of its group; most are alone in theirs.
    pairs: similar pairs that link the groups, (text, text, similarity).
  """

  labels: Int[np.ndarray, " texts"]
  pairs: tuple[tuple[int, int, float], ...]


def words(text: str) -> list[str]:
  """Returns the words of a text without their case; a text without any is one word itself."""
  return _WORD.findall(text.casefold()) or [text.casefold()]


def groups(texts: Sequence[str]) -> Groups:
  """Returns which texts are nearly the same, directly or through others.

  Texts are linked one similar pair after the other, and texts that are linked already are not
  compared again: `pairs` are as many as link the groups, not all similar ones. The order of the
  texts decides nothing.
  """
  count = len(texts)
  labels, pairs = np.arange(count), []
  if count < 2:
    return Groups(labels, ())
  in_order = np.array(sorted(range(count), key=texts.__getitem__))
  sets = shingles([texts[number] for number in in_order])
  signatures = minhash(sets)
  for start in range(0, HASHES, BAND):
    order, same = _buckets(signatures[:, start : start + BAND])
    for distance in range(1, NEIGHBOURS + 1):
      left = np.flatnonzero(_within(same, distance))
      one, other = order[left], order[left + distance]
      apart = labels[one] != labels[other]
      alike = [
        (int(i), int(j), similarity)
        for i, j in zip(one[apart], other[apart], strict=True)
        if (similarity := sets.similarity(i, j)) >= SIMILAR
      ]
      if alike:
        pairs += alike
        labels = linked(count, np.array([pair[:2] for pair in pairs]))
  named = [(int(in_order[i]), int(in_order[j]), similarity) for i, j, similarity in pairs]
  return Groups(labels[np.argsort(in_order)], tuple(named))


def shingles(texts: Sequence[str]) -> Shingles:
  """Returns the sets of SHINGLE words in a row; past its end a text has words that are nothing."""
  word_hash = functools.lru_cache(maxsize=WORDS)(_word_hash)
  hashes, lengths = [], []
  for start in range(0, len(texts), PIECE):
    said = [words(text) for text in texts[start : start + PIECE]]
    padded = [word_hash(word) for row in said for word in (*row, *[""] * (SHINGLE - 1))]
    flat = np.array(padded, np.uint64)
    owner = np.repeat(np.arange(len(said)), [len(row) + SHINGLE - 1 for row in said])
    rolled = np.zeros(len(flat) - SHINGLE + 1, np.uint64)
    for offset in range(SHINGLE):
      rolled = _scramble(rolled + flat[offset : len(rolled) + offset])
    inside = owner[: len(rolled)] == owner[SHINGLE - 1 :]
    rolled, owner = rolled[inside], owner[: len(rolled)][inside]
    # One sort for text and hash: the text's number takes the place of the hash's lowest bits.
    key = np.unique((owner.astype(np.uint64) << KEPT) | (rolled >> (np.uint64(64) - KEPT)))
    hashes.append(key & ((np.uint64(1) << KEPT) - np.uint64(1)))
    lengths.append(np.bincount((key >> KEPT).astype(int), minlength=len(said)))
  starts = np.concatenate([[0], np.concatenate(lengths).cumsum()])
  return Shingles(np.concatenate(hashes), starts)


def minhash(sets: Shingles) -> UInt64[np.ndarray, "texts hashes"]:
  """Returns the least value of each of HASHES hash functions over each set.

  Two sets have the same least value with a probability that is their Jaccard similarity.
  """
  count = len(sets.starts) - 1
  signatures = np.empty((count, HASHES), np.uint64)
  keys = np.random.default_rng(0).integers(0, 2**63, HASHES, np.uint64)
  for start in range(0, count, PIECE):
    end = min(start + PIECE, count)
    piece = sets.hashes[sets.starts[start] : sets.starts[end]]
    cuts = sets.starts[start:end] - sets.starts[start]
    for number, key in enumerate(keys):
      signatures[start:end, number] = np.minimum.reduceat(_scramble(piece ^ key), cuts)
  return signatures


def _word_hash(word: str) -> int:
  return int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest()) if word else 0


def _scramble(values: np.ndarray) -> np.ndarray:
  """Mixes 64 bits so that each depends on all (two rounds of multiply and shift)."""
  values = (values ^ (values >> np.uint64(32))) * _MIX
  return (values ^ (values >> np.uint64(29))) * _FACTOR


def _buckets(band: np.ndarray) -> tuple[np.ndarray, Bool[np.ndarray, " neighbours"]]:
  """Returns texts in an order that brings equal bands together, and which equal the next one."""
  key = np.zeros(len(band), np.uint64)
  for column in band.T:
    key = _scramble(key ^ column)
  order = np.argsort(key, kind="stable")
  return order, key[order][1:] == key[order][:-1]


def _within(same: np.ndarray, distance: int) -> np.ndarray:
  """Returns which texts are in one bucket with that so many places on."""
  count = max(len(same) - distance + 1, 0)
  return np.all([same[i : i + count] for i in range(distance)], axis=0)


def linked(count: int, links: Int[np.ndarray, "links 2"]) -> Int[np.ndarray, " count"]:
  """Numbers things so that those that are linked, directly or through others, share a number."""
  one, other = links.T
  graph = scipy.sparse.coo_array((np.ones(len(links)), (one, other)), (count, count))
  return scipy.sparse.csgraph.connected_components(graph, directed=False)[1]


def joined(*labellings: Int[np.ndarray, " count"]) -> Int[np.ndarray, " count"]:
  """Numbers things so that those that some labelling gives one label share a number."""
  links = []
  for labels in labellings:
    _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
    links.append(np.stack([first[inverse], np.arange(len(labels))], axis=1))
  return linked(len(labellings[0]), np.concatenate(links))
