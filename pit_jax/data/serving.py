"""Forms as chat templates (Jinja) of Hugging Face, by which others ask the models of a run.

What a template is given are messages; the last of them decide what it writes:

  policy    …, user                          the prompt
  improver  …, user, assistant               the prompt, which shows the answer to improve
  reward    …, user, assistant               the prompt, the answer and its end
  gap       …, user, assistant, assistant    the prompt with the reference, the answer and its end

Policy and improver write an answer and its end too where one more message of the assistant follows.
What a scalar model reads ends there: it learnt its score at the end of the answer and nowhere else.
A template refuses messages that end in another way, since it would write what no model was trained
on. Its own variables are called pit_…, so that they meet none of the template that it wraps.
"""

import json
from collections.abc import Sequence

from pit_jax.data import conversations

_ANSWER = "{%- set pit_answer = messages[-1]['content'] | trim -%}"
_OPENINGS = {  # shows a reference? → what divides the messages
  False: (
    "{%- set pit_ends = messages[-1]['role'] == 'assistant' -%}"
    "{%- set pit_asked = messages[:-1] if pit_ends else messages -%}"
    "{%- set pit_draft = '' -%}"
  ),
  True: (
    "{%- set pit_ends = messages | length > 2 and messages[-1]['role'] == 'assistant'"
    " and messages[-2]['role'] == 'assistant' -%}"
    "{%- set pit_given = messages[:-1] if pit_ends else messages -%}"
    "{%- set pit_asked = pit_given[:-1] -%}"
    "{%- set pit_draft = pit_given[-1]['content'] | trim -%}"
  ),
}
_ENDS = {  # shows a reference, is scored? → what messages have to end in, in words
  (False, False): "the user's",
  (False, True): "the user's, and the assistant's answer to it",
  (True, False): "the user's, and the assistant's answer that is to be improved",
  (True, True): "the user's, the assistant's reference, and the assistant's answer",
}
# What `conversations.said` returns of the messages, as `pit_talk.said`.
_SAID = (
  "{%- set pit_talk = namespace(said='') -%}"
  "{%- if pit_asked | length == 1 -%}"
  "{%- set pit_talk.said = pit_asked[0]['content'] | trim -%}"
  "{%- else -%}"
  "{%- for turn in pit_asked -%}"
  f"{{%- set pit_label = {conversations.LABELS}[turn['role']] -%}}"
  "{%- set pit_talk.said = pit_talk.said + pit_label + ': ' + (turn['content'] | trim)"
  r" + '\n\n' -%}"
  "{%- endfor -%}"
  f"{{%- set pit_talk.said = pit_talk.said + '{conversations.LABELS['assistant']}:' -%}}"
  "{%- endif -%}"
)
# What fills the slots of a plain form.
PROMPT = "pit_talk.said"
REFERENCE = "pit_draft"


def plain(parts: Sequence[str], end: str, shows_reference: bool, is_scored: bool) -> str:
  """Returns the chat template of a plain form.

  Args:
    parts: Jinja expressions of the prompt's parts, in order; see `literal`, PROMPT and REFERENCE.
    end: the token that ends an answer.
    shows_reference: whether the prompt shows an answer: of improver and gap reward.
    is_scored: whether an answer has to follow: of reward models.
  """
  shown = "".join("{{ " + part + " }}" for part in parts)
  return _opening(shows_reference, is_scored) + _SAID + shown + _answer("' '", end)


def wrapped(
  form: str, lead: str, end: str, *, improver_turn: str | None, is_scored: bool, before: str = ""
) -> str:
  """Returns a chat model's own template, asked as the run asked its models in training.

  The own template writes the prompt up to where the assistant's turn begins. The answer follows as
  training joins them, and not as the template would write it into a history.

  Args:
    form: the chat model's own template.
    lead: white space between a prompt and its answer.
    end, is_scored: as for `plain`.
    improver_turn: what the user says after the reference; None shows none.
    before: what defines functions that the template calls.
  """
  turns = ""
  if improver_turn is not None:
    turns = "{'role': 'assistant', 'content': pit_draft}, "
    turns += f"{{'role': 'user', 'content': {literal(improver_turn)}}}"

  text = "dict(turn, content=turn['content'] | trim) if turn['content'] is string else turn"
  return (
    before
    + _opening(improver_turn is not None, is_scored)
    + "{%- set pit_talk = namespace(messages=[]) -%}{%- for turn in pit_asked -%}"
    + f"{{%- set pit_talk.messages = pit_talk.messages + [{text}] -%}}{{%- endfor -%}}"
    + f"{{%- set messages = pit_talk.messages + [{turns}] -%}}"
    + "{%- set add_generation_prompt = add_generation_prompt or pit_ends -%}"
    # Empty expressions keep blocks of ours from taking line breaks of the template at its borders,
    # whose last one no template writes.
    + f"{{%- set pit_shown %}}{{{{ '' }}}}{form.removesuffix(chr(10))}{{{{ '' }}}}{{% endset -%}}"
    # A space at the end belongs to what follows, as in training.
    + "{{ pit_shown[:-1] if pit_shown[-1:] == ' ' else pit_shown }}"
    + _answer(literal(lead), end)
  )


def literal(text: str) -> str:
  """Returns a text as Jinja spells it."""
  return json.dumps(text, ensure_ascii=False)


def _opening(shows_reference: bool, is_scored: bool) -> str:
  """Returns what divides the messages, and refuses those that end in another way."""
  wrong = "not pit_asked or pit_asked[-1]['role'] != 'user'"
  if shows_reference:
    wrong += " or pit_given[-1]['role'] != 'assistant'"
  if is_scored:
    wrong += " or not pit_ends"
  message = literal(f"the last messages have to be {_ENDS[shows_reference, is_scored]}")
  refusal = f"{{%- if {wrong} -%}}{{{{ raise_exception({message}) }}}}{{%- endif -%}}"

  return _ANSWER + _OPENINGS[shows_reference] + refusal


def _answer(lead: str, end: str) -> str:
  """Returns what writes an answer and its end, where there is one."""
  parts = f"{lead} + pit_answer + {literal(end)}"
  return f"{{%- if pit_ends -%}}{{{{ {parts} }}}}{{%- endif -%}}"
