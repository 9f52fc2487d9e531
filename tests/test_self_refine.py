"""Self-Refine: what the model is shown, and what becomes of its replies."""

import dataclasses

import chats
import jax
import numpy as np
import pytest
import report_example
import tiny_models
import tiny_run
import transformers

from pit_jax.data import chat, conversations, encode, padding, template
from pit_jax.data.critiques import (
  COPIED_ANSWER,
  COPIED_FEEDBACK,
  NO_ANSWER,
  NO_FEEDBACK,
  REFINED,
  TOO_LONG,
  UNCHANGED,
)
from pit_jax.improve import self_refine
from pit_jax.improve.self_refine import STOPPED
from pit_jax.report import pages
from pit_jax.rollout import inference

METHOD = report_example.METHOD

FORM = self_refine.Form("What is weak? Or: It is fine.", "Now better.", "It is fine", 30, 400)
TALK = (
  conversations.Turn("user", "the rent ?"),
  conversations.Turn("assistant", "4"),
  conversations.Turn("user", "why, mia ?"),
)


@pytest.fixture(scope="module", params=["chatml", "llama3"])
def asking(request, tmp_path_factory):
  """How a chat model is asked; nobody answers yet."""
  folder = tmp_path_factory.mktemp(request.param)
  words = chats.save(folder / "chat", request.param)
  form, words = chat.choose("model", words, template.Template(), "Again.")
  made = tiny_models.inference_of(folder / "plain")
  settings = encode.Settings(words, form, max_prompt_length=96, max_response_length=32)
  return dataclasses.replace(made, settings=settings, response_length=32)


@pytest.fixture
def ask(asking, monkeypatch):
  """Returns how to play with a script: (prompt as a model reads it, call) → reply; and the log."""

  def playing(script, answers, questions=("why ?",), rounds=1, form=FORM):
    words, log = asking.settings.tokenizer, []

    def respond(self, params, prompts, key, temperature, drafts):
      ids = [row[mask].tolist() for row, mask in zip(prompts.tokens, prompts.mask)]
      shown = [words._fast.decode(row, clean_up_tokenization_spaces=False) for row in ids]
      log.append((shown, self.response_length, jax.random.key_data(key).tolist(), temperature))
      said = [script(text, len(log)) for text in shown]
      rows = self.settings.template.encode_responses(words, said, self.response_length).ids
      return padding.pad_responses(rows, self.response_length, words.pad_id)

    monkeypatch.setattr(inference.Inference, "respond", respond)
    made = self_refine.play(
      asking, {}, form, questions, answers, rounds=rounds, key=jax.random.key(3), temperature=0.5
    )
    return made, log

  return playing


def written_out(asking, question, *further):
  """Returns a conversation as the template's own reader writes it."""
  messages = chats.spell([*conversations.turns(question), *further])
  return asking.settings.tokenizer.render(asking.settings.template.form, messages, True)


def talk(*said):
  """Returns what follows x: drafts and feedback in turn, each with the request after it."""
  requests = ("What is weak? Or: It is fine.", "Now better.")
  return [
    conversations.Turn(role, content)
    for i, text in enumerate(said)
    for role, content in (("assistant", text), ("user", requests[i % 2]))
  ]


def numbered(_, call):
  """Says in which call something was said: feedback in the odd ones, answers in the even ones."""
  return f"bill {call}" if call % 2 else f"letter {call}"


def test_each_request_shows_what_the_paper_shows(ask, asking):
  questions, drafts = ["why ?", TALK], ["draft a", "draft b"]
  made, log = ask(numbered, drafts, questions, rounds=3)
  assert made.texts == [drafts, ["letter 2"] * 2, ["letter 4"] * 2, ["letter 6"] * 2]
  assert made.feedback == [[f"bill {k}"] * 2 for k in (1, 3, 5)]
  assert made.written == made.texts[1:] and made.outcomes == [[REFINED] * 2] * 3
  better = ("user", "Now better.")
  for row, question in enumerate(questions):
    history = []
    for k in range(3):
      said = [("assistant", made.texts[k][row]), ("user", "What is weak? Or: It is fine.")]
      assert log[2 * k][0][row] == written_out(asking, question, *said)  # eq. 2: no history
      history += [*said, ("assistant", f"bill {2 * k + 1}"), better]
      assert log[2 * k + 1][0][row] == written_out(asking, question, *history)  # eq. 4
  assert [length for _, length, _, _ in log] == [30, 32] * 3
  assert len({tuple(key) for _, _, key, _ in log}) == 6 and {t for *_, t in log} == {0.5}


def test_a_prompt_is_literally_this(ask, asking):
  if asking.settings.template.form != chats.CHATML:
    pytest.skip("written out for one template")
  _, log = ask(numbered, ["draft a"])
  start = "<|im_start|>system\nBe of help.<|im_end|>\n<|im_start|>user\nwhy ?<|im_end|>\n"
  start += "<|im_start|>assistant\ndraft a<|im_end|>\n"
  start += "<|im_start|>user\nWhat is weak? Or: It is fine.<|im_end|>\n<|im_start|>assistant\n"
  more = "bill 1<|im_end|>\n<|im_start|>user\nNow better.<|im_end|>\n<|im_start|>assistant\n"
  assert [shown for shown, *_ in log] == [[start], [start + more]]


def test_what_is_read_are_the_ids_of_transformers(asking, tmp_path):
  settings = asking.settings
  settings.tokenizer.save(tmp_path)
  theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
  said = ("to mia , please", "rent 4", "naïve café")
  asked = [FORM.conversation(question, said) for question in ("the bill ?", TALK)]
  found = encode.prompts(asked, settings)[:]
  options = {"add_generation_prompt": True, "return_dict": False}
  for row, question in enumerate(["the bill ?", TALK]):
    messages = chats.spell([*conversations.turns(question), *talk(*said)])
    expected = theirs.apply_chat_template(messages, **options)
    assert found.tokens[row][found.mask[row]].tolist() == expected


def test_x_is_what_the_policy_sees_of_it(asking):
  settings = dataclasses.replace(asking.settings, max_prompt_length=44)
  long = (conversations.Turn("user", "rent 4 " * 30), *TALK[1:])
  seen = encode.prompts(settings.formats["policy"].conversations([long]), settings)[:]
  read = encode.prompts([FORM.conversation(long, ("4",))], settings)[:]
  ids, all_ids = (row.tokens[0][row.mask[0]].tolist() for row in (seen, read))
  short = written_out(asking, TALK[2:])
  assert settings.tokenizer._fast.decode(ids) == short
  whole = settings.tokenizer._fast.decode(all_ids)
  assert whole == written_out(asking, TALK[2:], *talk("4"))


OUTCOMES = {  # feedback, answer → what becomes of the draft
  ("rent is weak", "to mia"): REFINED,
  ("rent is weak", "  Draft \n A "): UNCHANGED,
  ("Well. It is FINE, really.", None): STOPPED,
  (" ", None): NO_FEEDBACK,
  ("draft a", None): COPIED_FEEDBACK,
  ("Why ?", None): COPIED_FEEDBACK,
  ("Well. What is weak? Or: it is fine.", None): COPIED_FEEDBACK,
  ("What is weak? Or: it is fi", None): COPIED_FEEDBACK,
  ("rent is weak", "\n"): NO_ANSWER,
  ("rent is weak", "Rent is weak"): COPIED_ANSWER,
  ("rent is weak", "why ?"): COPIED_ANSWER,
  ("rent is weak", "user: now  better. please"): COPIED_ANSWER,
}


def test_what_breaks_the_form_falls_back_to_the_draft(ask):
  questions = ["why ?"] * len(OUTCOMES)
  waiting = {
    1: [feedback for feedback, _ in OUTCOMES],
    2: [a for _, a in OUTCOMES if a is not None],
  }
  made, log = ask(lambda _, call: waiting[call].pop(0), ["draft a"] * len(OUTCOMES), questions)
  assert made.outcomes == [list(OUTCOMES.values())]
  for row, ((_, answer), outcome) in enumerate(OUTCOMES.items()):
    assert made.texts[1][row] == (answer if outcome == REFINED else "draft a")
    assert (made.written[0][row] is None) == (answer is None)
  assert [len(shown) for shown, *_ in log] == [len(OUTCOMES), 6]
  assert {outcome for outcome in OUTCOMES.values() if outcome != STOPPED} == {
    *(REFINED, UNCHANGED, NO_FEEDBACK, COPIED_FEEDBACK, NO_ANSWER, COPIED_ANSWER),
  }


def test_a_round_that_failed_leaves_no_trace(ask, asking):
  replies = {1: "bill 1", 2: "", 3: "bill 3", 4: "letter 4", 5: "bill 5", 6: "letter 6"}
  made, log = ask(lambda _, call: replies[call], ["draft a"], rounds=3)
  assert made.outcomes == [[NO_ANSWER], [REFINED], [REFINED]]
  assert [text for (text,) in made.texts] == ["draft a", "draft a", "letter 4", "letter 6"]
  said = talk("draft a", "bill 3", "letter 4", "bill 5")
  assert log[-1][0] == [written_out(asking, "why ?", *said)]


def test_who_has_stopped_is_not_asked_again(ask):
  def script(shown, call):
    return "It is fine." if "mia" in shown and call == 3 else numbered(shown, call)

  made, log = ask(script, ["draft a", "draft b"], ["why ?", "why, mia ?"], rounds=3)
  assert made.outcomes == [[REFINED, REFINED], [REFINED, STOPPED], [REFINED, STOPPED]]
  assert [row[1] for row in made.texts] == ["draft b", "letter 2", "letter 2", "letter 2"]
  assert [row[1] for row in made.feedback] == ["bill 1", "It is fine.", None]
  assert [len(shown) for shown, *_ in log] == [2, 2, 2, 1, 1, 1]
  everyone, log = ask(lambda *_: "It is fine.", ["draft a"], rounds=3)
  assert everyone.outcomes == [[STOPPED]] * 3 and len(log) == 1
  free = dataclasses.replace(FORM, stop="")
  assert ask(lambda *_: "It is fine.", ["draft a"], form=free)[0].outcomes == [[COPIED_ANSWER]]


def test_what_is_too_long_loses_its_oldest_drafts(ask, asking):
  _, whole = ask(numbered, ["draft a"], rounds=3)
  words = asking.settings.tokenizer
  sizes = [len(words.encode_form(shown)) for (shown,), *_ in whole]
  form = dataclasses.replace(FORM, max_prompt_tokens=sizes[3])
  made, log = ask(numbered, ["draft a"], rounds=3, form=form)
  assert made.outcomes == [[REFINED]] * 3
  assert [row[0] for row in log[:5]] == [row[0] for row in whole[:5]]
  said = talk("letter 2", "bill 3", "letter 4", "bill 5")
  assert log[5][0] == [written_out(asking, "why ?", *said)], "draft a is gone, x is not"
  form = dataclasses.replace(FORM, max_prompt_tokens=sizes[1] - 1)
  made, log = ask(numbered, ["draft a"], form=form)
  assert (made.outcomes, made.texts[1], len(log)) == ([[TOO_LONG]], ["draft a"], 1)
  form = dataclasses.replace(FORM, max_prompt_tokens=8)
  made, log = ask(numbered, ["draft a"], form=form, rounds=2)
  assert (made.outcomes, made.feedback, log) == ([[TOO_LONG]] * 2, [[None]] * 2, [])


def test_the_report_says_why_nobody_plays(asking, tmp_path):
  plain = dataclasses.replace(asking.settings, template=template.Template())
  c = tiny_run.config().evaluation.self_refine
  assert self_refine.absence(asking, c) == ""
  reason = self_refine.absence(dataclasses.replace(asking, settings=plain), c)
  assert "chat template" in reason
  c.play = False
  assert self_refine.absence(asking, c) == "evaluation.self_refine.play is False"
  results = report_example.example() | {"absent": {"self_refine": reason}}
  assert f"self_refine is not among them: {reason}." in " ".join(
    pages.tables(results, METHOD).split()
  )


@pytest.mark.parametrize(
  ("changes", "said"),
  [
    ({"feedback_turn": " ", "stop": ""}, "feedback_turn is empty"),
    ({"refine_turn": ""}, "refine_turn is empty"),
    ({"stop": "perfect"}, "stop='perfect' is not among the words of "),
    ({"max_feedback_tokens": 0}, "max_feedback_tokens is 0; use 1 or more"),
  ],
)
def test_what_nobody_can_be_asked_is_refused(changes, said):
  config = tiny_run.config(**{f"evaluation__self_refine__{k}": v for k, v in changes.items()})
  with pytest.raises(ValueError, match=said):
    self_refine.form_of(config.evaluation.self_refine)


def test_the_default_words_are_accepted():
  form = self_refine.form_of(tiny_run.config().evaluation.self_refine)
  assert np.isin([form.max_feedback_tokens, form.max_prompt_tokens], [128, 2048]).all()
