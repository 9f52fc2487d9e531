"""Sentences as spans of characters and tokens, against a splitter that goes letter by letter."""

import random
import re
import time

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
  "**Bold.** Next. *Hi.* Next. _So?_ `x.` Next": [
    "**Bold.**", "Next.", "*Hi.*", "Next.", "_So?_", "`x.`", "Next",
  ],
  "Do `git add .` and *etc.* or **go!** on. **Dr.** Lee": [
    "Do `git add .` and *etc.* or **go!** on.", "**Dr.** Lee",
  ],
  "**1.** First. **2.** Second": ["**1.** First.", "**2.** Second"],
  "a) x\n1) y": ["a) x", "1) y"],
  "The result is: 42. Then stop.": ["The result is: 42.", "Then stop."],
  "Total: 12. Next sentence here.": ["Total: 12.", "Next sentence here."],
  "It is: 1. Then stop.": ["It is: 1.", "Then stop."],
  "Do: **1.** Add. **2.** Stir.": ["Do: **1.** Add.", "**2.** Stir."],
  "Answer: B. Next. **Answer:** C. So.": ["Answer: B.", "Next.", "**Answer:** C.", "So."],
  "Name: J. Smith, P. Hill, p. 5.": ["Name: J. Smith, P. Hill, p. 5."],
  "It is Elm St. He lives there.": ["It is Elm St.", "He lives there."],
  "By Al Jr. It's on St. John St. \"They\" know, at St. Theresa.": [
    "By Al Jr.", "It's on St. John St.", '"They" know, at St. Theresa.',
  ],
  "Dr. You met Mr. So, cf. The Sun.": ["Dr. You met Mr. So, cf. The Sun."],
  "Code:\n```python\nx = 1\n```\nMore.": ["Code:\n```python", "x = 1\n```", "More."],
  "---\n***\nHi. ...\n---\n| a |\n|---|\n| b |": [
    "---\n***\nHi. ...\n---", "| a |\n|---|", "| b |",
  ],
  "So\n\\[\nx\n\\]\n\\begin{align*}\ny\n\\end{align*}": [
    "So\n\\[", "x\n\\]\n\\begin{align*}", "y\n\\end{align*}",
  ],
  "```\n---": ["```\n---"],
}  # fmt: skip


@pytest.mark.parametrize("text", CASES)
def test_sentences_end_where_they_do(text):
  assert sentences.said(text) == CASES[text]


def slow(text):
  """Goes letter by letter, and asks at each mark whether the sentence goes on."""
  pieces = [one for one in slow_pieces(text) if one[0].strip()]
  found = []
  for place, (piece, _) in enumerate(pieces):
    has_before = any(has_words(one) for one, _ in pieces[:place])
    if not found or (has_words(piece) and has_before):
      found.append(place)
  ends = [*found[1:], len(pieces)]
  return [
    text[pieces[i][1] : pieces[j - 1][1] + len(pieces[j - 1][0])].strip()
    for i, j in zip(found, ends, strict=True)
  ]


def has_words(piece):
  is_fence = piece.strip().startswith("```") and " " not in piece.strip()
  return not is_fence and any(letter.isalnum() for letter in piece)


def slow_pieces(text):
  """Returns what marks and lines divide a text into, each with its place."""
  found, piece = [], ""
  i = 0
  while i < len(text):
    letter = text[i]
    if letter == "\n":
      found.append((piece, i - len(piece)))
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
    while i < len(text) and text[i] in "\"'”’»)]*_`":
      closes += text[i]
      piece += text[i]
      i += 1
    if i < len(text) and not text[i].isspace():
      continue
    rest = text[i:].lstrip()
    if any(one in closes for one in "*_`") and rest[:1].islower():
      ends = False
    elif run in ("..", "...", "....", "…") and not closes:
      ends = not rest[:1].islower()
    elif run == "." and all(one in "*_" for one in closes):
      ends = not goes_on(piece[: len(piece) - 1 - len(closes)], rest)
    else:
      ends = True
    if ends:
      found.append((piece, i - len(piece)))
      piece = ""
  return [*found, (piece, len(text) - len(piece))]


def goes_on(before, rest):
  words = before.split()
  last = (words[-1] if words and not before[-1:].isspace() else "").lstrip("(\"'“‘[*_")
  small = last.lower()
  previous = words[-2].lower() if len(words) > 1 else ""
  is_short = (last.isdigit() and len(last) <= 3) or (len(last) == 1 and last.isalpha())
  if is_short and len(words) == 1 and words[0].lstrip("(*_") == last:
    return rest != ""
  if last == "1" and previous.strip("*_")[-1:] in (":", ";"):
    return any(word.lstrip("(*_").rstrip("*_") == "2." for word in rest.split())
  following = rest.split()[0].strip('"*_.?!,') if rest else ""
  if small == "st" and following in {"He", "So", "It", "I", "Why", "They"}:
    return False
  if small in {"dr", "mrs", "e.g", "i.e", "st"}:
    return rest != ""
  if small in {"fig", "no", "p"} and rest[:1].isdigit():
    return True
  if small == "etc" or (all(len(part) == 1 for part in small.split(".")) and "." in small):
    return rest[:1].islower()
  if len(last) == 1 and last.isalpha() and last.isupper() and small != "i":
    chosen = previous.strip("*_:")
    return rest[:1].isupper() and chosen not in {"is", "are", "answer", "or", "and"}
  return False


def drawn(rng):
  pieces = (
    *("Dr.", "e.g.", "3.5", "12.", "b.", "Fig.", "7", "is", "B.", "etc.", "and", "U.S.", "Oak"),
    *("oak.", "No.", "I.", "So", "1.", "...", "Why?!", '"Yes."', "(no.)", "x:", "J.", "…"),
    *("2.", "**B.**", "*so.*", "`x.`", "_Why?_", "**1.**", "*2.*", "Answer:", "St.", "He", "It"),
    *("```", "```py", "---", "|--|", "!", "\\["),
  )
  gaps = (" ", " ", " ", "  ", "\n")
  return "".join(rng.choice(pieces) + rng.choice(gaps) for _ in range(rng.randint(1, 12)))


def test_the_splitter_is_the_slow_one_on_drawn_texts():
  rng = random.Random(0)
  for _ in range(3_000):
    text = drawn(rng)
    assert sentences.said(text) == slow(text), text


def test_long_texts_take_time_by_their_length():
  """Sentences, words, runs of marks and gaps may each be long: each is read once."""
  for text in ("A. ", "x: 1. ", ". ", ".'", ".", "\n", "```\n", "a.", "**"):
    long = f"Dr. {text * 10_000}x."
    begun = time.process_time()
    sentences.split(long)
    assert time.process_time() - begun < 8  # about 1 where types are checked; 13 by the square


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


@pytest.mark.parametrize(
  "text",
  [
    "Code:\n```\nx = 1\n```\nMore:\n```\ny = 2\n```",
    "Code:\n```python\nx = 1\n```\nMore:\n```python\ny = 2\n```",
    "So\n\\[\nx\n\\]\nand\n\\[\ny\n\\]",
    "\\begin{align}\nx\n\\end{align}\n\\begin{align}\ny\n\\end{align}",
    "| a |\n|---|---|\n| b |\n---\n| c |\n|---|---|\n---\n| d |",
    "Wow! ... Well. ... !",
    "---\n---",
  ],
)
def test_what_has_no_words_is_no_repeated_sentence(text):
  assert sentences.distinct(text) == text
  assert not any(sentences.repeated(sentences.said(text)))
  assert not any(sentences.repeated(text.split("\n")))


def test_what_is_left_out_is_what_counts_as_repeated():
  assert sentences.distinct("A:\n```\nx\n```\nB:\n```\nx\n```") == "A:\n```\nx\n```\nB:\n```\n```"
  assert sentences.repeated(["x\n```", "x", "---\nx", "y"]) == [False, True, True, False]
  rng = random.Random(3)
  for _ in range(500):
    text = drawn(rng)
    is_repeated = any(sentences.repeated(sentences.said(text)))
    assert (sentences.distinct(text) != text.strip()) == is_repeated, text


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
