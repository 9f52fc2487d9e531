"""Principles that answers are to follow: a bank of them, and how a prompt shows some.

A bank is a YAML file. A principle has what holds of an answer that follows it, and what holds of
one that does not; it is drawn by its weight, and of prompts of its classes alone where it has any.
A class is the prompts that hold a regular expression.

  principles:
    concise: {text: The answer is short., negation: The answer is long.}
    shown:
      {text: Every step is shown., negation: No step is shown., weight: 5, classes: [reasoning]}
  classes:
    reasoning: '(?i)how many|prove'
"""

import dataclasses
import functools
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pit_jax import ranges, value_files
from pit_jax.data import conversations

MOST = 8  # principles that a prompt shows
NOT = "not:"  # before the name of a principle that is negated
PARTS = ("principles", "classes")  # of a file
_NAME = re.compile(r"\w[\w-]*")
_FIELDS = {  # of a principle → what it may be, and what it is where it is not said
  "text": (ranges.SAID.words, ranges.SAID.holds, ""),
  "negation": (ranges.SAID.words, ranges.SAID.holds, ""),
  "weight": (ranges.POSITIVE.words, ranges.POSITIVE.holds, 1.0),
  "classes": (
    "a list of classes",
    lambda value: bool(value) and ranges.is_list(value) and all(map(ranges.SAID.holds, value)),
    (),
  ),
}


@dataclasses.dataclass(frozen=True)
class Principle:
  """A rule that an answer may follow."""

  name: str
  text: str  # what holds where it is followed
  negation: str  # what holds where it is not
  weight: float = 1.0  # how often it is drawn, beside the others
  classes: tuple[str, ...] = ()  # of the prompts that it is for; none of them: all prompts


class Shown(NamedTuple):
  """A principle as a prompt shows it."""

  principle: Principle
  is_negated: bool = False

  @property
  def sentence(self) -> str:
    """What it says."""
    return self.principle.negation if self.is_negated else self.principle.text

  @property
  def name(self) -> str:
    """What a list of principles calls it."""
    return f"{NOT}{self.principle.name}" if self.is_negated else self.principle.name


@dataclasses.dataclass(frozen=True)
class Bank:
  """Principles, classes of prompts, and the form in which prompts show principles."""

  principles: tuple[Principle, ...]
  classes: Mapping[str, str]  # name → the expression that its prompts hold
  # A prompt with principles: {principles} and {prompt}, in either order.
  template: str = "Principles: {principles}\n{prompt}"
  joint: str = " "  # between two principles
  # A response as a reward model is shown it: {response} alone, after a prompt with principles; or
  # with {principles} and, where it is to come first, {prompt}, in any order.
  response: str = "{response}"
  length: int = 0  # most tokens of a response with principles; 0: they stand in the prompt
  default: str = ""  # the list that is shown where none is named; "": none

  @functools.cached_property
  def by_name(self) -> dict[str, Principle]:
    """The principles by their names."""
    return {one.name: one for one in self.principles}

  def fitting(self, prompt: conversations.Prompt) -> list[Principle]:
    """Returns the principles that are for a prompt."""
    said = conversations.said(prompt)
    there = {name for name, pattern in self.classes.items() if re.search(pattern, said)}
    return [one for one in self.principles if not one.classes or there.intersection(one.classes)]

  def draw(self, rng: random.Random, prompt: conversations.Prompt, count: int) -> list[Principle]:
    """Draws principles for a prompt by their weights, each at most once, at most `count`."""
    left = self.fitting(prompt)
    drawn = []
    while left and len(drawn) < count:
      (one,) = rng.choices(left, [each.weight for each in left])
      drawn.append(one)
      left.remove(one)
    return drawn

  def chosen(self, names: str | Sequence[str]) -> tuple[Shown, ...]:
    """Returns the principles of a list such as "concise,not:polite".

    Raises:
      ValueError: a name is none of the bank's, or stands twice, or they are too many.
    """
    listed = names.split(",") if isinstance(names, str) else names
    chosen = []
    for name in map(str.strip, listed):
      bare = name.removeprefix(NOT)
      if bare not in self.by_name:
        raise ValueError(
          f"there is no principle {bare!r}; use some of {', '.join(self.by_name)}, or {NOT} before "
          "one that is to be negated"
        )
      if bare in (one.principle.name for one in chosen):
        raise ValueError(f"the principle {bare!r} is named twice; name it once")
      chosen.append(Shown(self.by_name[bare], name != bare))
    if len(chosen) > MOST:
      raise ValueError(f"{len(chosen)} principles are named; a prompt shows {MOST} at most")
    return tuple(chosen)

  def show(self, prompt: conversations.Prompt, shown: Sequence[Shown]) -> conversations.Prompt:
    """Returns a prompt with principles, of a conversation in its last turn; as it is with none."""
    if not shown:
      return prompt
    said = self._said(shown)
    if isinstance(prompt, str):
      return self.template.format(principles=said, prompt=prompt.strip())
    *earlier, (role, content) = prompt
    content = self.template.format(principles=said, prompt=content)
    return (*earlier, conversations.Turn(role, content))

  def show_all(
    self, prompts: Sequence[conversations.Prompt], shown: Sequence[Shown]
  ) -> list[conversations.Prompt]:
    """Returns `show` of many prompts."""
    return [self.show(prompt, shown) for prompt in prompts]

  def read(
    self, prompt: conversations.Prompt, response: str, shown: Sequence[Shown]
  ) -> tuple[conversations.Prompt, str]:
    """Returns prompt and response as a reward model is shown them with principles."""
    if not self.is_after:
      return self.show(prompt, shown), response
    parts = {"response": response.strip(), "principles": self._said(shown)}
    written = self.response.format(prompt=conversations.said(prompt), **parts)
    return ("" if "{prompt}" in self.response else prompt), written

  def read_all(
    self,
    prompts: Sequence[conversations.Prompt],
    responses: Sequence[str],
    shown: Sequence[Shown],
  ) -> tuple[list[conversations.Prompt], list[str]]:
    """Returns `read` of many pairs, as columns."""
    rows = [self.read(*row, shown) for row in zip(prompts, responses, strict=True)]
    return [prompt for prompt, _ in rows], [response for _, response in rows]

  @property
  def is_after(self) -> bool:
    """Whether a reward model reads principles with the response, and not with the prompt."""
    return "{principles}" in self.response

  def _said(self, shown: Sequence[Shown]) -> str:
    return self.joint.join(one.sentence for one in shown)

  def described(self) -> dict[str, Any]:
    """Returns what `restored` makes the bank from, as JSON holds it."""
    return {**dataclasses.asdict(self), "classes": dict(self.classes)}


def restored(described: Mapping[str, Any]) -> Bank:
  """Returns the bank that `Bank.described` described; raises a ValueError where it is none."""
  try:
    made = [
      Principle(**{**one, "classes": tuple(one["classes"])}) for one in described["principles"]
    ]
    bank = Bank(**{**described, "principles": tuple(made)})
  except (KeyError, TypeError) as error:
    raise ValueError(f"what describes the principles is damaged: {error}") from error
  check_template(bank.template)
  check_response(bank.response)
  if bank.default:
    bank.chosen(bank.default)
  return bank


def chosen(
  bank: Bank | None, names: str | Sequence[str] | None, named: str, whose: str
) -> tuple[Shown, ...]:
  """Returns principles by their names, for models that read those of a bank, or none.

  Args:
    bank: that of the models; None: they read none.
    names: a list of them, or one text with commas; None: the bank's default.
    named: what the list is called where it was given.
    whose: where the models are.

  Raises:
    ValueError: a name is none of the bank's, or there is none.
  """
  if bank is None:
    if names is None:
      return ()
    raise ValueError(
      f"{named}={names!r}: the models of {whose} were trained without principles; leave it out, or "
      "use a run whose recipe trains them with some"
    )
  listed = bank.default if names is None else names
  try:
    return bank.chosen(listed) if listed else ()
  except ValueError as error:
    raise ValueError(f"{named}={names!r}: {error}") from error


def check_template(template: str) -> None:
  """Raises a ValueError for a form that does not show both principles and prompt, each once."""
  try:
    filled = template.format(principles="\0", prompt="\1")
  except (KeyError, IndexError, ValueError) as error:
    raise ValueError(
      f"{template!r} has a slot that nothing fills ({error}); use {{principles}} and {{prompt}}"
    ) from error
  if not filled.count("\0") == filled.count("\1") == 1:
    raise ValueError(
      f"{template!r} does not show both; use {{principles}} and {{prompt}}, each once"
    )


def check_response(form: str) -> None:
  """Raises a ValueError for a form of responses that shows none, or a slot that nothing fills."""
  try:
    form.format(response="", principles="", prompt="")
  except (KeyError, IndexError, ValueError) as error:
    problem = f"{form!r} has a slot that nothing fills ({error})"
    raise ValueError(f"{problem}; use {{response}}, {{principles}} and {{prompt}}") from error
  counts = [form.count(f"{{{slot}}}") for slot in ("response", "principles", "prompt")]
  if counts[0] != 1 or max(counts) > 1 or counts[2] > counts[1]:
    raise ValueError(
      f"{form!r} does not show a response once; use {{response}} alone, or with {{principles}} and "
      "perhaps {prompt}, each once"
    )


def read(file: str, template: str = Bank.template, joint: str = Bank.joint) -> Bank:
  """Returns the bank in a file.

  Args:
    file: YAML; see above.
    template: how a prompt shows principles.
    joint: what stands between two of them.

  Raises:
    ValueError: the file cannot be read, or something of it is wrong; the message names the line.
      Or the template does not show both.
  """
  check_template(template)
  try:
    given = value_files.read(file)
  except OSError as error:
    raise ValueError(f"there is no file of principles {file}; give a YAML file") from error

  for one in given:
    part, _, rest = one.key.partition(".")
    depth = rest.count(".") + 1 if rest else 0
    if part not in PARTS or depth != {"principles": 2, "classes": 1}[part]:
      raise _wrong(
        file, one.line,
        f"{one.key} is not known; give principles.NAME with {', '.join(_FIELDS)}, and "
        "classes.NAME with an expression",
      )  # fmt: skip

  classes = {one.key.partition(".")[2]: one for one in given if one.key.startswith("classes.")}
  for name, one in classes.items():
    try:
      re.compile(one.value if isinstance(one.value, str) else "(")
    except re.error as error:
      problem = f"the class {name} has to be a regular expression: {error}"
      raise _wrong(file, one.line, problem) from error

  made = tuple(_principles(file, given, [*classes]))
  if not made:
    raise ValueError(f"{file} holds no principle; give one or more as principles.NAME")
  used = {name for one in made for name in one.classes}
  for name, one in classes.items():
    if name not in used:
      raise _wrong(file, one.line, f"no principle is for the class {name}; leave it out")
  return Bank(made, {name: one.value for name, one in classes.items()}, template, joint)


def _principles(
  file: str, given: Sequence[value_files.Given], classes: Sequence[str]
) -> Iterator[Principle]:
  """Yields the principles that a file gives, checked one by one."""
  fields: dict[str, dict[str, value_files.Given]] = {}
  for one in given:
    part, name, *field = one.key.split(".")
    if part == "principles":
      fields.setdefault(name, {})[field[0]] = one

  for name, own in fields.items():
    line = min(one.line for one in own.values())
    if not _NAME.fullmatch(name):
      raise _wrong(
        file, line, f"{name!r} is no name of a principle; use letters, digits, '_' and '-'"
      )
    for field, one in own.items():
      if field not in _FIELDS:
        problem = f"{name}.{field} is not known; a principle has {', '.join(_FIELDS)}"
        raise _wrong(file, one.line, problem)
      words, holds, _ = _FIELDS[field]
      if not holds(one.value):
        raise _wrong(file, one.line, f"{name}.{field}={one.value!r}; use {words}")
    for field in ("text", "negation"):
      if field not in own:
        raise _wrong(file, line, f"{name} has no {field}, which every principle needs")
    for one in own["classes"].value if "classes" in own else ():
      if one not in classes:
        there = ", ".join(classes) or "none"
        problem = f"{name} is for the class {one!r}, which nobody has; there are: {there}"
        raise _wrong(file, own["classes"].line, problem)
    values = {field: own[field].value if field in own else unsaid
              for field, (_, _, unsaid) in _FIELDS.items()}  # fmt: skip
    values = {"weight": float(values.pop("weight")), "classes": tuple(values.pop("classes"))} | {
      field: value.strip() for field, value in values.items()
    }
    yield Principle(name, **values)


def _wrong(file: str, line: int, problem: str) -> ValueError:
  return ValueError(f"{file}, line {line}: {problem}")
