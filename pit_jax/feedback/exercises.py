"""Exercises: what an instructor is asked for, and what its reply holds.

An instructor is any writer. It is shown one problem, mostly one that a student failed on, and
answers with similar problems and their worked answers:

    Question: …
    Answer: …

Replies are read leniently (numbers, bold letters and other words for a question are no harm), and
whatever in them is no exercise is counted, by one of few reasons.
"""

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

from pit_jax.feedback import writers
from pit_jax.tasks import exercises, verify

# What is said of the problem; None: nothing of the student.
LEADS = {
  True: "A student answered this problem right.",
  False: "A student answered this problem wrong.",
  None: "This is a problem of the kind that a student has to answer.",
}
PROBLEM = "Problem:"
ANSWER = "The student's answer:"
SOLVED = "The student answered these problems right, those most like it first."
SOLVED_PROBLEM = "Solved problem:"
WANTED = "Write {count} similar problems with their worked answers."

NO_EXERCISE = "no exercise in the reply"
NO_QUESTION = "no question"
NO_ANSWER = "no answer"
NO_FINAL = "no final answer"
RIGHT = 0.95  # share of the embedded instructor's answers that are right

# A line that begins with the name of a part, whatever numbers and marks stand around it; or that
# is a heading, with or without marks, and has nothing else.
_MARK = re.compile(
  r"^(?P<before>[^\w\n]*+)(?:\d+[.):][^\w\n]*+)?(?:(?:new|next|another|similar)[ \t]+)?"
  r"(?P<name>question|problem|exercise|answer|solution)(?![^\W\d])"
  r"(?P<number>[^\w\n:(]*+(?:\d+[^\w\n:(]*+)?)(?:(?:\([^()\n]*\)|\()?[^\w\n:(]*:[*_]*|$)",
  re.IGNORECASE | re.MULTILINE,
)
_RULE = re.compile(r"[-*_=]{3,}|(?:[-*_] ){2,}[-*_]")
_HEADING = re.compile(r"#{1,3}(?:\s.*)?|#{5,6}\s.*")  # "####" marks a final answer
_QUESTIONS = ("question", "problem", "exercise")
_REQUEST = re.compile(
  rf"(?:{re.escape(SOLVED)}\n\n(?P<solved>.*?)\n\n)?(?:{'|'.join(map(re.escape, LEADS.values()))})"
  rf"\n\n{PROBLEM} (?P<question>.*?)(?:\n\n{re.escape(ANSWER)} (?P<answer>.*?))?"
  r"\n\nWrite (?P<count>\d+) similar problems.*",
  re.DOTALL,
)


class Request(NamedTuple):
  """What an instructor is asked for: so many exercises like a problem."""

  question: str
  answer: str  # the student's; "" shows none
  is_right: bool | None  # None: no student answered it
  solved: Sequence[str]  # problems that the student answered right, nearest first
  count: int


class Exercise(NamedTuple):
  """A part of a reply: a question with its answer, or why it is none."""

  question: str
  answer: str
  failure: str = ""  # one of the reasons above; "" of an exercise


def ask(request: Request) -> str:
  """Returns a request in words; `read` undoes it."""
  paragraphs = []
  if request.solved:
    paragraphs += [SOLVED, *(f"{SOLVED_PROBLEM} {text}" for text in request.solved)]
  paragraphs += [LEADS[request.is_right], f"{PROBLEM} {request.question}"]
  if request.answer:
    paragraphs.append(f"{ANSWER} {request.answer}")
  return "\n\n".join([*paragraphs, WANTED.format(count=request.count)])


def read(text: str) -> Request:
  """Reads a request back from its words.

  Raises:
    ValueError: the text is none.
  """
  match = _REQUEST.fullmatch(text)
  if not match:
    raise ValueError(f"not a request for exercises: {text[:80]!r}")
  solved = (match["solved"] or "").split(f"{SOLVED_PROBLEM} ")[1:]
  (is_right,) = (known for known, lead in LEADS.items() if lead in text)
  shown = tuple(one.strip() for one in solved)
  return Request(match["question"], match["answer"] or "", is_right, shown, int(match["count"]))


def parse(reply: str, form: str = "") -> list[Exercise]:
  """Returns the exercises of a reply, and what in it is none, in order; there is one at least.

  What stands before the first question or answer is left out. A further answer within an exercise
  is part of its answer, as of a worked one that ends in "Answer: 12". With a form, paragraphs after
  the one that marks the final answer are left out: they are a remark.

  Args:
    reply: of an instructor, any text.
    form: of the final answer that an answer has to hold, one of `verify.FORMS`; "": any.
  """
  parts: list[tuple[str | None, str | None]] = []
  for mark, said in _labelled(reply):
    if mark["name"].lower() in _QUESTIONS:
      parts.append((said, None))
    elif parts and parts[-1][0] is not None:
      question, answer = parts[-1]
      whole = said if answer is None else f"{answer}\n{mark[0].strip()} {said}"
      parts[-1] = (question, whole.strip())
    else:
      parts.append((None, said))
  if not parts:
    return [Exercise("", "", NO_EXERCISE)]
  return [_exercise(question or "", answer or "", form) for question, answer in parts]


def _labelled(reply: str) -> list[tuple[re.Match[str], str]]:
  """Returns the labels in a reply, each with the text up to the next one."""
  marks = [mark for mark in _MARK.finditer(reply) if _is_label(mark)]
  ends = [*(mark.start() for mark in marks[1:]), len(reply)][: len(marks)]
  said = [_without_rules(reply[mark.end() : end]) for mark, end in zip(marks, ends, strict=True)]
  labelled = list(zip(marks, said, strict=True))
  following = [*marks[1:], None][: len(marks)]
  return [one for one, after in zip(labelled, following, strict=True) if not _is_title(*one, after)]


def _is_label(mark: re.Match[str]) -> bool:
  """Returns whether a name is a label: before a colon, as a heading, or a question's number."""
  is_numbered = mark["name"].lower() in _QUESTIONS and any(map(str.isdigit, mark["number"]))
  return (
    ":" in mark[0][len(mark["before"]) :]
    or "#" in mark["before"]
    or "**" in mark["before"]
    or is_numbered
  )


def _is_title(mark: re.Match[str], said: str, after: re.Match[str] | None) -> bool:
  """Returns whether a label is the title of an exercise whose question has a label of its own."""
  if said or after is None or not {mark["name"].lower(), after["name"].lower()} <= {*_QUESTIONS}:
    return False
  return "#" in mark["before"] or mark["name"].lower() != after["name"].lower()


def _without_rules(said: str) -> str:
  """Returns a text without the headings and rules that it ends in, which are of what follows."""
  lines = said.strip().split("\n")
  while lines and (
    not lines[-1].strip()
    or _RULE.fullmatch(lines[-1].strip())
    or _HEADING.fullmatch(lines[-1].strip())
  ):
    lines.pop()
  return "\n".join(lines).strip()


def _without_remark(answer: str, form: str) -> str:
  """Returns an answer up to the last paragraph that marks a final answer, or is nothing else."""
  paragraphs = re.split(r"\n[ \t]*\n", answer)
  is_bare = len(paragraphs[0].split()) == 1 and verify.final(paragraphs[0], form) is not None
  ends = [place for place, one in enumerate(paragraphs)
          if verify.is_marked(one, form) or (place == 0 and is_bare)]  # fmt: skip
  return answer if not ends else "\n\n".join(paragraphs[: ends[-1] + 1])


def _exercise(question: str, answer: str, form: str) -> Exercise:
  if form and answer:
    answer = _without_remark(answer, form)
  if not question:
    failure = NO_QUESTION
  elif not answer:
    failure = NO_ANSWER
  else:
    failure = NO_FINAL if form and verify.final(answer, form) is None else ""
  return Exercise(question, answer, failure)


def write(some: Sequence[tuple[str, str]]) -> str:
  """Returns questions and answers as a reply; `parse` undoes it."""
  return "\n\n".join(f"Question: {question}\nAnswer: {answer}" for question, answer in some)


def instructor(name: str, right: float | int = RIGHT, seed: int = 0) -> writers.Writer:
  """Returns the embedded task's instructor as a writer; see tasks/exercises.py.

  Its exercises are a function of seed, key, request and the number of the sample.

  Args:
    name: of the writer.
    right: share of its answers that are right.
    seed: of its noise.

  Raises, where it is asked:
    ValueError: a conversation is no request about a question of the embedded task.
  """

  def answer(asked, key, temperature, samples, top_p):
    del temperature, top_p
    noise = jax.random.key_data(key).tolist()
    texts = []
    for one in asked:
      said = one.turns[-1].content
      request = read(said)
      given = (request.question, request.answer, request.solved, request.count, right)
      rngs = [random.Random(f"exercises {seed} {noise} {i} {said}") for i in range(samples)]
      texts.append([write(exercises.similar(*given, rng)) for rng in rngs])
    return writers.Written(texts)

  return writers.Writer(name, answer)
