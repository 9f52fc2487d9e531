"""Near-duplicate texts: shingles of words, their MinHash, and banding (LSH) to find candidates.

Two texts are alike where the Jaccard similarity of their sets of shingles is at least SIMILAR.
MinHash (Broder 1997) with banding only finds the candidates: each is compared exactly. The hashes
are fixed numbers, so that the same texts give the same groups everywhere.
"""

import dataclasses
import functools
import re
import zlib
from collections.abc import Iterator, Sequence

import numpy as np
import scipy  # its parts are imported when they are used
from jaxtyping import Int, UInt32

SHINGLE = 3  # words
SIMILAR = 0.8  # Jaccard similarity
# A pair at SIMILAR goes unseen with probability (1 − 0.8⁴)¹⁶ = 0.02%.
HASHES = 64
BAND = 4
NEIGHBOURS = 4  # each text is compared with so many others of a bucket, at most
COMPARED = 4_096  # texts whose shingles are kept for the next comparison
_WORD = re.compile(r"\w+")


@dataclasses.dataclass(frozen=True)
class Groups:
  """Texts that are linked by similar pairs."""

  labels: Int[np.ndarray, " texts"]  # of each text the number of its group; most are alone
  pairs: tuple[tuple[int, int, float], ...]  # that link the groups: text, text, similarity


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
  labels = np.arange(count)
  pairs = []
  if count < 2:
    return Groups(labels, ())

  # Sorted first, so that the order in which texts come decides nothing.
  in_order = np.array(sorted(range(count), key=texts.__getitem__))
  shingles_of = functools.lru_cache(COMPARED)(lambda place: shingles(texts[in_order[place]]))

  for one, other in _candidates(minhash([texts[number] for number in in_order])):
    apart = labels[one] != labels[other]
    places = zip(one[apart].tolist(), other[apart].tolist(), strict=True)
    compared = [(i, j, similarity(shingles_of(i), shingles_of(j))) for i, j in places]
    alike = [pair for pair in compared if pair[2] >= SIMILAR]

    if alike:
      pairs += alike
      labels = linked(count, np.array([pair[:2] for pair in pairs]))

  named = [(int(in_order[i]), int(in_order[j]), jaccard) for i, j, jaccard in pairs]
  return Groups(labels[np.argsort(in_order)], tuple(named))


def shingles(text: str) -> frozenset[str]:
  """Returns the SHINGLE words in a row of a text; past its end it has words that are nothing."""
  padded = [*words(text), *[""] * (SHINGLE - 1)]
  return frozenset(map(" ".join, zip(*(padded[i:] for i in range(SHINGLE)), strict=False)))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
  """Returns the Jaccard similarity of two sets, |A ∩ B| / |A ∪ B|, in [0, 1]."""
  shared = len(one & other)
  return shared / (len(one) + len(other) - shared)


def minhash(texts: Sequence[str]) -> UInt32[np.ndarray, "texts hashes"]:
  """Returns the least value of each of HASHES hash functions over the shingles of each text.

  Two sets have the same least value with a probability that is their Jaccard similarity.
  """
  import datasketch  # here because it takes half a second to import

  sets = ([shingle.encode() for shingle in shingles(text)] for text in texts)
  signatures = datasketch.MinHash.generator(
    sets, num_perm=HASHES, seed=0, hashfunc=zlib.crc32, scheme="affine32"
  )
  return np.stack([text.hashvalues for text in signatures])


def _candidates(signatures: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
  """Yields pairs of places whose texts fall into one bucket of a band, a few of each bucket."""
  for start in range(0, HASHES, BAND):
    band = signatures[:, start : start + BAND]
    bucket = np.unique(band, axis=0, return_inverse=True)[1].ravel()
    order = np.argsort(bucket, kind="stable")

    # All pairs of a large bucket would be quadratic; neighbours alone link most of it.
    for distance in range(1, NEIGHBOURS + 1):
      left = np.flatnonzero(bucket[order][distance:] == bucket[order][:-distance])
      yield order[left], order[left + distance]


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
