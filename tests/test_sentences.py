"""Sentences as spans of characters and tokens, against a splitter that goes letter by letter."""

import random
import re

import pytest
import tokenizers

from pit_jax.tasks import sentences

CASES = {
  "": [],
  "  \n ": [],
  "No mark": ["No mark"],
  "Hi Kim, it is Oak. The calls: Ann Mia of Fig. Bye.": [
    "Hi Kim, it is Oak.", "The calls: Ann Mia of Fig.", "Bye.",
  ],
  "a of Oak. it is Oak. Thanks": ["a of Oak.", "it is Oak.", "Thanks"],
  "It costs 3.50. It weighs .5 kg, or 1,000.25 g.": [
    "It costs 3.50.", "It weighs .5 kg, or 1,000.25 g.",
  ],
  "Dr. Lee and Mrs. Day met, e.g. at noon. i.e. late.": [
    "Dr. Lee and Mrs. Day met, e.g. at noon.", "i.e. late.",
  ],
  "Fig. 2 shows it, Fig. It is so. See No. 5. No. It is not.": [
    "Fig. 2 shows it, Fig.", "It is so.", "See No. 5.", "No.", "It is not.",
  ],
  "Salt, etc. and so on. Salt, etc. Then more.": [
    "Salt, etc. and so on.", "Salt, etc.", "Then more.",
  ],
  "The U.S. and others. At 5 a.m. he left. It was 6 p.m. He ate.": [
    "The U.S. and others.", "At 5 a.m. he left.", "It was 6 p.m.", "He ate.",
  ],
  "J. R. Smith won. So am I. Then B. Hill.": ["J. R. Smith won.", "So am I.", "Then B. Hill."],
  "The answer is B. Because it is.": ["The answer is B.", "Because it is."],
  "1. Add.\n2. Stir it. 3. Wait.": ["1. Add.", "2. Stir it.", "3. Wait."],
  "Steps: 1. One. 2. Two.\n a. Three": ["Steps: 1. One.", "2. Two.", "a. Three"],
  "- one\n- two": ["- one", "- two"],
  'Really?! "Yes." (Done.) Ok': ["Really?!", '"Yes."', "(Done.)", "Ok"],
  "Well... maybe. Wait… what? So... Then.": ["Well... maybe.", "Wait… what?", "So...", "Then."],
  "x=1.y=2 is one.Two too.": ["x=1.y=2 is one.Two too."],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_sentences_end_where_they_do(text):
  assert sentences.said(text) == CASES[text]


def slow(text):
  """Goes letter by letter, and asks at each mark whether the sentence goes on."""
  found, piece = [], ""
  i = 0
  while i < len(text):
    letter = text[i]
    if letter == "\n":
      found.append(piece)
      piece = ""
      i += 1
      continue
    piece += letter
    i += 1
    if letter not in ".!?…":
      continue
    run = letter
    while i < len(text) and text[i] in ".!?…":
      run += text[i]
      piece += text[i]
      i += 1
    closes = ""
    while i < len(text) and text[i] in "\"'”’»)]":
      closes += text[i]
      piece += text[i]
      i += 1
    if i < len(text) and not text[i].isspace():
      continue
    rest = text[i:].lstrip()
    if run in ("..", "...", "....", "…") and not closes:
      ends = not rest[:1].islower()
    elif run == "." and not closes:
      ends = not goes_on(piece[:-1], rest)
    else:
      ends = True
    if ends:
      found.append(piece)
      piece = ""
  return [one.strip() for one in [*found, piece] if one.strip()]


def goes_on(before, rest):
  words = before.split()
  last = (words[-1] if words else "").lstrip("(\"'“‘[")
  small = last.lower()
  is_short = (last.isdigit() and len(last) <= 3) or (len(last) == 1 and last.isalpha())
  is_entry = len(words) == 1 and words[0].lstrip("(") == last and is_short
  if is_entry or (last.isdigit() and len(last) <= 3 and len(words) > 1 and words[-2][-1] in ":;"):
    return rest != ""
  if small in {"dr", "mrs", "e.g", "i.e"}:
    return rest != ""
  if small in {"fig", "no", "p"}:
    return rest[:1].isdigit()
  if small in {"etc"} or (all(len(part) == 1 for part in small.split(".")) and "." in small):
    return rest[:1].islower()
  if len(last) == 1 and last.isalpha() and last.isupper() and small != "i":
    chosen = words[-2].lower() if len(words) > 1 else ""
    return rest[:1].isupper() and chosen not in {"is", "are", "answer", "or", "and"}
  return False


def drawn(rng):
  pieces = (
    *("Dr.", "e.g.", "3.5", "12.", "b.", "Fig.", "7", "is", "B.", "etc.", "and", "U.S.", "Oak"),
    *("oak.", "No.", "I.", "So", "1.", "...", "Why?!", '"Yes."', "(no.)", "x:", "J.", "…"),
  )
  gaps = (" ", " ", " ", "  ", "\n")
  return "".join(rng.choice(pieces) + rng.choice(gaps) for _ in range(rng.randint(1, 12)))


def test_the_splitter_is_the_slow_one_on_drawn_texts():
  rng = random.Random(0)
  for _ in range(3_000):
    text = drawn(rng)
    assert sentences.said(text) == slow(text), text


def test_spans_cover_all_but_white_space_in_order():
  rng = random.Random(1)
  for _ in range(500):
    text = drawn(rng)
    spans = sentences.split(text)
    covered = [place for begin, end in spans for place in range(begin, end)]
    assert covered == sorted({*covered})
    assert all(text[place].isspace() for place in {*range(len(text))} - {*covered})


def test_what_repeats_is_left_out_and_the_rest_stays_as_it_is():
  text = "It is so.  it is  SO. Why?\nIt is so. Because."
  listed = sentences.said(text)
  assert sentences.repeated(listed) == [False, True, False, True, False]
  assert sentences.distinct(text) == "It is so. Why? Because."
  unchanged = "One.  Two.\nThree"
  assert sentences.distinct(unchanged) == unchanged


class Pieces:
  """A tokenizer whose tokens are pieces of bytes."""

  def __init__(self, *pieces):
    self.pieces = [piece if isinstance(piece, bytes) else piece.encode() for piece in pieces]
    self.ids = [*range(len(self.pieces))]

  def decode(self, ids):
    return b"".join(self.pieces[i] for i in ids).decode(errors="replace")


@pytest.mark.parametrize(
  ("pieces", "wanted"),
  [
    (("It", " is", ".", " No", "."), [2, 4]),
    (("It is", ". No", "."), [1, 2]),  # a token that straddles the border ends the first
    (("It is. No. W", "hy?"), [0, 0, 1]),  # two end within one
    (("It", " is", ".", " ", "\n", "No", "", "."), [2, 7]),
    (("caf", b"\xc3", b"\xa9", ".", " Oui", ".", ""), [3, 5]),
    ((b"A\xe2\x80", b"\xa6 B"), [1, 1]),  # an ellipsis whose bytes two tokens share
  ],
)
def test_a_sentence_ends_with_the_token_that_completes_its_last_character(pieces, wanted):
  made = Pieces(*pieces)
  text = made.decode(made.ids)
  found = sentences.last_tokens(made.decode, made.ids, text, sentences.split(text))
  assert found == wanted


def test_last_tokens_are_those_of_a_tokenizer_s_own_offsets():
  """A tokenizer that merges across marks and spaces says itself which characters each token has."""
  rng = random.Random(2)
  corpus = [drawn(rng) for _ in range(300)]
  learnt = tokenizers.ByteLevelBPETokenizer(add_prefix_space=False)
  learnt.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
    add_prefix_space=False, use_regex=False
  )
  learnt.train_from_iterator(corpus, vocab_size=600, show_progress=False)
  straddling = 0
  for _ in range(200):
    text = drawn(rng)
    encoding = learnt.encode(text)
    spans = sentences.split(text)
    found = sentences.last_tokens(learnt.decode, encoding.ids, text, spans)
    for (_, end), place in zip(spans, found, strict=True):
      begin, last = encoding.offsets[place]
      assert begin < end <= last
      straddling += last > end
  assert straddling > 50


def test_line_ends_and_marks_are_the_only_borders():
  assert re.sub(r"\s", "", "".join(sentences.said("a, b; c: d – e"))) == "a,b;c:d–e"
