"""Prompt formats as data: one value makes a new kind of question, in plain text and in a chat."""

import chats
import pytest

from pit_jax.data import chat, conversations, encode, template, text
from pit_jax.data.prompt_formats import Format, Text

ASK = conversations.Turn("user", "Write a better one.")
CRITIC = Format(
  "critic",
  ("answer", "reference"),
  "Question: {prompt}\nAnswer: {answer}\nBest: {reference}\nCritique:",
  (
    Text("assistant", "answer"),
    conversations.Turn("user", "The best is {this}:"),
    Text("assistant", "reference"),
    conversations.Turn("user", "What is weak?"),
  ),
)
TALK = (
  conversations.Turn("user", "the rent ?"),
  conversations.Turn("assistant", "4"),
  conversations.Turn("user", "why, mia ?"),
)


@pytest.fixture(scope="module")
def bytewise(tmp_path_factory):
  """One token per byte, so that lengths can be counted by hand."""
  return text.train_tokenizer(["a"], 258, tmp_path_factory.mktemp("bytewise"))


def test_a_format_in_plain_text(bytewise):
  form = template.Template()
  asked = CRITIC.conversations(["why", TALK], [" so\n", "a longer one"], ["b", "c"])
  encoded = form.encode(bytewise, asked)
  said = "Human: the rent ?\n\nAssistant: 4\n\nHuman: why, mia ?\n\nAssistant:"
  assert [bytewise.decode(row) for row in encoded.ids] == [
    "Question: why\nAnswer: so\nBest: b\nCritique:",
    f"Question: {said}\nAnswer: a longer one\nBest: c\nCritique:",
  ]
  assert not encoded.is_cut.any()


def test_texts_are_cut_as_the_responses_they_were_and_words_are_not(bytewise):
  form = template.Template()
  asked = CRITIC.conversations(["why"] * 3, ["12345", "123", "1"], ["1", "12345678", "2"])
  encoded = form.encode(bytewise, asked, None, 4)  # the space before a text is a token
  assert [bytewise.decode(row) for row in encoded.ids] == [
    "Question: why\nAnswer: 123\nBest: 1\nCritique:",
    "Question: why\nAnswer: 123\nBest: 123\nCritique:",
    "Question: why\nAnswer: 1\nBest: 2\nCritique:",
  ]
  assert encoded.is_cut.tolist() == [True, True, False]


def test_a_format_in_a_chat(tmp_path):
  form, words = chat.choose("model", chats.save(tmp_path, "chatml"), template.Template(), "Again.")
  asked = CRITIC.conversations(["why ?", TALK], [" so\n", "rent 4 " * 9], ["b", "c"])
  whole = form.encode(words, asked)
  for row, one in zip(whole.ids, asked):
    first, *_ = one.texts
    turns = [
      *conversations.turns(one.prompt),
      ("assistant", first.strip()),
      ("user", "The best is {this}:"),
      ("assistant", one.texts[1]),
      ("user", "What is weak?"),
    ]
    messages = chats.spell([conversations.Turn(*turn) for turn in turns])
    assert row == words.encode_form(words.render(form.form, messages, True))
  cut = form.encode(words, asked, None, 2)
  assert cut.is_cut.tolist() == [False, True]
  assert cut.ids[0] == whole.ids[0]
  assert len(cut.ids[1]) == len(whole.ids[1]) - len(words.encode(("rent 4 " * 9).strip())[2:])


def test_one_call_takes_conversations_of_several_formats(bytewise):
  form = template.Template()
  policy, improver = form.formats["policy"], form.formats["improver"]
  asked = [
    *improver.conversations(["a"], ["b"]),
    *policy.conversations(["a"]),
    *CRITIC.conversations(["a"], ["long " * 9], ["b"]),
  ]
  mixed = form.encode(bytewise, asked, 40, 5)
  apart = [form.encode(bytewise, [one], 40, 5) for one in asked]
  assert mixed.ids == [row for encoded in apart for row in encoded.ids]
  assert mixed.is_cut.tolist() == [False, False, True]


def test_formats_of_one_name_are_never_taken_for_each_other(bytewise, tmp_path):
  settings = encode.Settings(bytewise, template.Template(), 100, 100)
  shown = [Format("critic", plain=f"{word}: {{prompt}}\nSay:") for word in ("Q", "Question")]
  tables = [encode.prompts(one.conversations(["a"]), settings, tmp_path) for one in shown]
  assert [bytewise.decode(t[:].tokens[0][t[:].mask[0]].tolist()) for t in tables] == [
    "Q: a\nSay:",
    "Question: a\nSay:",
  ]
  assert len(list(tmp_path.glob("critic_prompts-*"))) == 2


def test_what_cannot_be_shown_is_refused(bytewise):
  with pytest.raises(ValueError, match="2 prompts but 1 answers; give one answer per prompt"):
    CRITIC.conversations(["a", "b"], ["c"], ["d", "e"])
  only_chat = Format("spoken", turns=(ASK,))
  with pytest.raises(ValueError, match="the format spoken has no plain text; give it one, or use"):
    template.Template().encode(bytewise, only_chat.conversations(["a"]))
  with pytest.raises(ValueError, match=r"the critic template .* needs a space before \{answer\}"):
    Format("critic", ("answer",), "{prompt}\nAnswer:{answer}\nWhy:")
  with pytest.raises(ValueError, match=r"has the slots .* it needs exactly .*answer"):
    Format("critic", ("answer",), "{prompt}\nWhy:")
