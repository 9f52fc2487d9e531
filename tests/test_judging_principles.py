"""Who compares by one principle at a time, and who writes letters that follow some."""

import random
from unittest import mock

import numpy as np
import pytest
import tiny_run

from pit_jax.data import principles
from pit_jax.feedback import factories, judges, language_judge, language_models, named, transcripts
from pit_jax.run import context as contexts
from pit_jax.run import origin
from pit_jax.tasks import critics, synthetic, words

BANK = principles.read(str(origin.BANKS["embedded"]))
WRITER = synthetic.writer_named("hasty", works=0.5, warm=0.5, calm=0.5, first=0.5)


def questions(count, seed="by principle"):
  return [synthetic.ask(synthetic.question(random.Random(f"{seed} {i}"))) for i in range(count)]


# A reader of one check


def test_a_reader_says_what_the_check_says_with_noise_in_each_order_and_pairs_that_are_flipped():
  rows = []
  for x in questions(600):
    a, b = (synthetic.letter_to(x, WRITER, seed) for seed in (0, 1))
    passes = [synthetic.checks(x, letter)["closing"] for letter in (a, b)]
    if a != b:
      rows.append((x, a, b, passes[0] - passes[1]))
  clear = critics.Reader("closing", noise=0.0, flip=0.0)
  assert [clear.difference(x, a, b, 0) for x, a, b, _ in rows] == [d for *_, d in rows]

  reader = critics.Reader("closing", noise=0.35, flip=0.1)
  orders = np.array([
    (reader.difference(x, a, b, 0), -reader.difference(x, b, a, 0)) for x, a, b, _ in rows
  ])  # fmt: skip
  truth = np.array([d for *_, d in rows])
  same = truth == 0
  # Where there is no difference all is noise, of its deviation, and apart in both orders.
  np.testing.assert_allclose(orders[same].std(), 0.35, rtol=0.1)
  assert abs(np.corrcoef(orders[same].T)[0, 1]) < 0.2
  wrong = (orders.mean(axis=1) * truth < 0)[~same].mean()
  assert 0.05 < wrong < 0.16  # a tenth is flipped in both orders
  assert reader.difference(rows[0][0], rows[0][1], rows[0][1], 0) == 0.0
  other = [reader.difference(x, a, b, 1) for x, a, b, _ in rows]
  assert other != orders[:, 0].tolist()


@pytest.mark.parametrize(
  ("changes", "said"),
  [({"check": "kind"}, "check='kind'; the checks are"), ({"noise": -1}, "noise=-1; use a finite"),
   ({"flip": 2}, "flip=2; use a share")],
)  # fmt: skip
def test_a_reader_that_cannot_be_is_refused(changes, said):
  with pytest.raises(ValueError) as error:
    critics.Reader(**{"check": "tone", "noise": 0.1, "flip": 0.1} | changes)
  assert said in str(error.value)


def test_configurations_name_readers_who_are_asked_by_principles_alone(tmp_path):
  config = tiny_run.config("salmon")
  context = mock.Mock(spec=contexts.Context, config=config)
  tone = BANK.by_name["tone"]
  judge = named.build(context, "raters", "self", principle=tone)
  x = questions(1)[0]
  a, b = (synthetic.letter_to(x, WRITER, seed) for seed in (0, 1))
  reader = critics.Reader("tone", 0.35, 0.1)
  orders = judge.verdicts([x], [a], [b]).orders[0]
  expected = [reader.difference(x, a, b, 0), -reader.difference(x, b, a, 0)]
  np.testing.assert_allclose(orders, expected)
  with pytest.raises(ValueError, match="is of kind reader, which compares by principles alone"):
    named.build(context, "raters", "self")
  with config.unlocked():
    config.evaluation.judges = ("self",)
  with pytest.raises(ValueError, match="compares by principles alone; leave it out"):
    named.check(config)


# A language model


def test_a_language_model_is_told_the_principle_and_nothing_else_counts():
  asked = []

  def ask(prompts):
    asked.extend(prompts)
    return [transcripts.Reply(logprobs={"A": -1.0, "B": -2.0, "C": -9.0}) for _ in prompts]

  judge = language_judge.judge(ask, verdict="logprob", principle="It is short.")
  verdicts = judge.verdicts(["q"], ["a"], ["b"])
  assert len(asked) == 2 and all("more nearly true: It is short. Nothing" in one for one in asked)
  assert not any("harmless" in one for one in asked)
  # It likes the first place, in either order: its mean cancels, and both orders are told.
  first = verdicts.orders[0, 0]
  np.testing.assert_allclose(verdicts.orders[0], [first, -first])
  assert verdicts.difference[0] == 0.0 and first > 0.3
  plain = language_judge.write("q", "a", "b", "logprob")
  assert "correct and complete, and is clear, honest and harmless. Length is no merit" in plain


def test_configurations_ask_language_models_by_principles(tmp_path):
  config = tiny_run.config("salmon_chat", "smollm2_135m_smoke")
  context = mock.Mock(spec=contexts.Context, config=config, workdir=tmp_path)
  context.models = mock.Mock()
  seen = {}
  judge = judges.reader(critics.Reader("tone", 0.1, 0.0), "self")
  with (
    mock.patch.object(language_models, "rater", lambda *given: seen.update(given=given) or judge),
    mock.patch.object(factories.Given, "published", lambda *_: None),
  ):
    named.build(context, "raters", "self", principle=principles.Principle("p", "P.", "N."))
  assert seen["given"][0] == "self" and seen["given"][-2:] == ("P.", "feedback.raters.self")


# Letters


@pytest.mark.parametrize(
  "template", ["Principles: {principles}\n{prompt}", "{prompt}\n{principles}"]
)
@pytest.mark.parametrize("name", ["embedded", "embedded_brief"])
def test_a_writer_follows_the_principles_beside_a_question(template, name):
  told = principles.read(str(origin.BANKS[name]))
  bank = principles.Bank(told.principles, {}, template)
  rng = random.Random(0)
  for x in questions(200):
    shown = [principles.Shown(one, rng.random() < 0.5) for one in bank.draw(rng, x, 3)]
    letter = words.letter_to(bank.show(x, shown), WRITER, 0)
    assert letter == words.letter_to(bank.show(x, shown), WRITER, 0)
    passed = synthetic.checks(x, letter)
    assert synthetic.is_letter(letter)
    assert all(passed[one.principle.name] != one.is_negated for one in shown), letter


def test_what_a_list_does_not_mention_is_as_the_writer_has_it():
  shown = BANK.chosen("closing")
  letters = [(x, words.letter_to(BANK.show(x, shown), WRITER, 0)) for x in questions(600)]
  shares = {
    name: np.mean([synthetic.checks(*row)[name] for row in letters])
    for name in ("working", "greeting", "tone", "closing")
  }
  assert shares.pop("closing") == 1.0
  assert all(0.4 < share < 0.6 for share in shares.values())


def test_without_principles_a_letter_is_what_it_was():
  for x in questions(20):
    assert words.letter_to(x, WRITER, 3) == synthetic.letter_to(x, WRITER, 3)
  with pytest.raises(ValueError, match="not a question"):
    words.letter_to("Principles: Nobody grumbles.\nWhat is it?", WRITER, 0)


def test_judges_of_principles_have_no_scores():
  judge = judges.reader(critics.Reader("tone", 0.1, 0.0), "me")
  assert judge.score is None and judge.name == "me"
