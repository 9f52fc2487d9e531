"""Self-Refine (Madaan et al. 2023, arXiv 2303.17651): a model prompted to criticise and rewrite.

A baseline without training, for chat models. Round k asks one and the same model twice:

  f_k = M(x, y_{k−1}, feedback?)                               (eq. 2)
  y_k = M(x, y_0, f_1, y_1, f_2, …, y_{k−1}, f_k, refine!)     (eq. 4)

The words of both requests are ours, since neither paper prints any for dialogues. Replies are read
as critiques are (data/critiques.py), in free words: what breaks the form is counted by its kind,
and the draft before stays the answer; such a round leaves no trace in the history. A conversation
that is too long loses its oldest drafts, each with its feedback; x is what the policy sees of it,
and stays.
"""

import dataclasses
import functools
import itertools
from collections.abc import Sequence

import jax
import ml_collections
import numpy as np

from pit_jax.data import chat, conversations, critiques, prompt_formats
from pit_jax.rollout import inference
from pit_jax.types import Params

STOPPED = "stopped"  # what becomes of a draft whose feedback says that nothing is weak

FEEDBACK = critiques.Form("{weaknesses}")
ANSWER = critiques.Form("{answer}")

NO_TEMPLATE = (
  "the policy is not asked through a chat template, and only a model that was taught to follow "
  "requests can criticise its own answers"
)
SWITCHED_OFF = "evaluation.self_refine.play is False"

Said = tuple[str, ...]  # drafts and feedback in turn, beginning with a draft


@dataclasses.dataclass(frozen=True)
class Form:
  """Prompts and limits by which a model refines its own answers."""

  feedback_turn: str  # what the user says after a draft
  refine_turn: str  # what the user says after the feedback
  stop: str  # feedback that says this ends the rounds of its draft; "" has all of them played
  max_feedback_tokens: int
  max_prompt_tokens: int  # of a conversation

  def __post_init__(self):
    for name in ("feedback_turn", "refine_turn"):
      if not getattr(self, name).strip():
        raise ValueError(f"evaluation.self_refine.{name} is empty; say what the model is to do")

    if critiques.plain(self.stop) not in critiques.plain(self.feedback_turn):
      raise ValueError(
        f"evaluation.self_refine.stop={self.stop!r} is not among the words of "
        f"evaluation.self_refine.feedback_turn={self.feedback_turn!r}; give words that ask for it, "
        'or "" for no stop'
      )

    for name in ("max_feedback_tokens", "max_prompt_tokens"):
      if getattr(self, name) < 1:
        raise ValueError(f"evaluation.self_refine.{name} is {getattr(self, name)}; use 1 or more")

  @property
  def requests(self) -> tuple[str, str]:
    """What the user says, of which a copy is no reply."""
    return self.feedback_turn, self.refine_turn

  def conversation(
    self, question: conversations.Prompt, said: Sequence[str]
  ) -> prompt_formats.Conversation:
    """Returns the conversation that asks for what comes next.

    After a draft that is its feedback, after feedback a better answer; said are both in turn.
    """
    return prompt_formats.Conversation(question, _format(self, len(said)), said)


@functools.cache
def _format(form: Form, count: int) -> prompt_formats.Format:
  """Returns the prompt format of drafts and feedback in turn, each with the request after it."""
  requests = itertools.cycle((form.feedback_turn, form.refine_turn))
  texts = tuple(f"text {i}" for i in range(count))
  turns: list[prompt_formats.Text | conversations.Turn] = []
  for name, request in zip(texts, requests, strict=False):
    turns += [prompt_formats.Text("assistant", name), conversations.Turn("user", request)]

  return prompt_formats.Format("self_refine", texts, turns=tuple(turns))


@dataclasses.dataclass(frozen=True)
class Refinements:
  """Every version of N answers, and how it came about: column[k − 1][i] of answer i in round k."""

  texts: list[list[str]]  # texts[k][i] is answer i after k rounds; texts[0] are the first answers
  feedback: list[list[str | None]]  # what the model said of it; None where nobody asked
  written: list[list[str | None]]  # what it then wrote, before it was checked; None likewise
  # critiques.REFINED or UNCHANGED, STOPPED (from there on), or a failure of critiques.FAILURES.
  outcomes: list[list[str]]

  def first(self, count: int) -> "Refinements":
    """Returns the same of the first `count` answers."""
    return Refinements(*([row[:count] for row in column] for column in vars(self).values()))


def absence(asking: inference.Inference, c: ml_collections.ConfigDict) -> str:
  """Returns why the section `evaluation.self_refine` lets nobody play; "" where somebody does."""
  if asking.settings.template.kind != chat.Chat.kind:
    return NO_TEMPLATE
  return "" if c.play else SWITCHED_OFF


def form_of(c: ml_collections.ConfigDict) -> Form:
  """Returns the prompts and limits of the section `evaluation.self_refine` of a configuration.

  Raises:
    ValueError: nobody can be asked so.
  """
  return Form(**{field.name: c[field.name] for field in dataclasses.fields(Form)})


def play(
  asking: inference.Inference,
  policy: Params,
  form: Form,
  questions: Sequence[conversations.Prompt],
  answers: Sequence[str],
  *,
  rounds: int,
  key: jax.Array,
  temperature: float | int,
) -> Refinements:
  """Has a chat model refine answers again and again.

  Args:
    asking: how the model is asked.
    policy: its parameters.
    form: the words and the limits.
    questions: x, one per row, at least one; `answers` are y_0.
    rounds: to play, at least 1; round k has the noise of fold_in(key, 2k − 1) and fold_in(key, 2k).
    temperature: divides the logits; 0 takes the most likely tokens.
  """
  texts = [list(answers)]
  columns = ([], [], [])
  histories: list[Said] = [()] * len(answers)
  is_open = np.ones(len(answers), bool)

  for k in range(1, rounds + 1):
    rows = np.flatnonzero(is_open)
    prompts, drafts, before = ([c[i] for i in rows] for c in (questions, texts[-1], histories))
    keys = [jax.random.fold_in(key, 2 * k - 1), jax.random.fold_in(key, 2 * k)]
    results = _round(_Player(asking, policy, form, temperature), prompts, drafts, before, keys)

    for column, values, other in zip(columns, results, (None, None, STOPPED), strict=True):
      whole = np.full(len(answers), other, object)
      whole[rows] = values
      column.append(whole.tolist())

    feedback, written, outcomes = (column[-1] for column in columns)
    texts.append(list(texts[-1]))
    for i in np.flatnonzero([outcome == critiques.REFINED for outcome in outcomes]):
      histories[i] += (texts[-1][i], feedback[i])
      texts[-1][i] = written[i]

    # A round that failed ends no row: the next one asks again, with other noise.
    is_open = np.array([outcome != STOPPED for outcome in outcomes], bool)

  return Refinements(texts, *columns)


@dataclasses.dataclass(frozen=True)
class _Player:
  """A model that refines, and how it is asked."""

  asking: inference.Inference
  policy: Params
  form: Form
  temperature: float | int

  def reply(
    self,
    questions: Sequence,
    said: Sequence[Said],
    key: jax.Array,
    length: int,
    drafts: Sequence[str] | None = None,
  ) -> list[str | None]:
    """Returns replies of at most `length` tokens, None where the conversation is too long.

    Drafts are what the replies are likely to repeat.
    """
    # A conversation is limited as a whole, so that no draft and no feedback is cut.
    settings = dataclasses.replace(self.asking.settings, max_response_length=None)
    asking = dataclasses.replace(self.asking, settings=settings, response_length=length)
    fitted = fit(asking, self.form, questions, said)
    rows = [i for i, texts in enumerate(fitted) if texts]
    if not rows:
      return [None] * len(fitted)
    chats = [self.form.conversation(questions[i], fitted[i]) for i in rows]
    repeated = drafts and [drafts[i] for i in rows]
    written = asking.reply(self.policy, chats, key, float(self.temperature), repeated)
    replies = dict(zip(rows, written, strict=True))
    return [replies.get(i) for i in range(len(fitted))]


def fit(
  asking: inference.Inference,
  form: Form,
  questions: Sequence[conversations.Prompt],
  said: Sequence[Said],
) -> list[Said]:
  """Takes the oldest drafts, each with its feedback, from conversations that are too long.

  What was said are drafts and feedback in turn, the last draft perhaps without. Returned is what is
  left of it after each x; nothing where x and the last draft alone are too long for the form.
  """
  fitted = list(said)
  long = list(range(len(said)))
  while long:
    lengths = asking.lengths([form.conversation(questions[i], fitted[i]) for i in long]).tolist()
    long = [i for i, n in zip(long, lengths, strict=True) if n > form.max_prompt_tokens]
    for i in long:
      # A draft goes with its feedback, so that the two still alternate.
      fitted[i] = fitted[i][2:]
    long = [i for i in long if fitted[i]]

  return fitted


def _round(
  player: _Player,
  questions: Sequence[conversations.Prompt],
  drafts: Sequence[str],
  histories: Sequence[Said],
  keys: Sequence[jax.Array],
) -> tuple[list[str | None], list[str | None], list[str]]:
  """Plays a round on some rows; returns feedback, what was written, and how the round ended."""
  form = player.form
  if not drafts:
    return [], [], []

  # Feedback sees the draft alone (eq. 2); the answer after it, all rounds before (eq. 4).
  first = [(draft,) for draft in drafts]
  feedback = player.reply(questions, first, keys[0], form.max_feedback_tokens)
  outcomes = [_of_feedback(form, *row) for row in zip(questions, drafts, feedback, strict=True)]
  rows = [i for i, outcome in enumerate(outcomes) if not outcome]
  turns = [(*histories[i], drafts[i], feedback[i]) for i in rows]
  written: list[str | None] = [None] * len(drafts)
  asked = [questions[i] for i in rows]

  texts = [drafts[i] for i in rows]
  replies = player.reply(asked, turns, keys[1], player.asking.response_length, texts)
  for i, reply in zip(rows, replies, strict=True):
    written[i] = reply
    shown = (questions[i], feedback[i])
    _, _, outcomes[i] = ANSWER.refine(drafts[i], reply, shown, form.requests)

  return feedback, written, outcomes


def _of_feedback(
  form: Form, question: conversations.Prompt, draft: str, feedback: str | None
) -> str:
  """Returns the outcome of a round that ends with its feedback; "" where it goes on."""
  _, failure = FEEDBACK.read(feedback, (question, draft), form.requests)
  if failure:
    return failure
  is_fine = form.stop and critiques.plain(form.stop) in critiques.plain(feedback)
  return STOPPED if is_fine else ""


def told(refined: Refinements, row: int) -> list[dict]:
  """Returns the history of one answer, round by round: feedback, refinement, outcome, text."""
  columns = (refined.feedback, refined.written, refined.outcomes, refined.texts[1:])
  names = ("feedback", "written", "outcome", "text")
  rounds = zip(*columns, strict=True)
  return [{name: column[row] for name, column in zip(names, r, strict=True)} for r in rounds]
