"""How preferences are divided among the stages of training."""

import collections
import types

import hypothesis
import pytest
from hypothesis import strategies

from pit_jax.data import conversations, preferences

MANY = [preferences.Preference(f"question {i // 2}", f"a{i}", f"b{i}") for i in range(6000)]


def test_every_row_is_in_one_fold_and_so_is_every_prompt():
  parts = preferences.divide(MANY, held_out=0.1, validation=0.2)
  assert collections.Counter(row for part in parts.values() for row in part) == (
    collections.Counter(MANY)
  )
  of_prompt = collections.defaultdict(set)
  for name, part in parts.items():
    for row in part:
      of_prompt[row.prompt].add(name)
  assert {len(names) for names in of_prompt.values()} == {1}


def test_folds_have_the_sizes_asked_for():
  folds = preferences.divide(MANY, held_out=0.1, validation=0.2)
  third = 0.9 / 3 * len(MANY)
  sizes = {name: len(part) for name, part in folds.items()}
  expected = {
    "sft": 0.8 * third,
    "sft_validation": 0.2 * third,
    "reward": 0.8 * third,
    "reward_validation": 0.2 * third,
    "rl": third,
    "held_out": 0.1 * len(MANY),
  }
  for name, size in expected.items():
    deviation = 2 * (size / 2 * (1 - size / len(MANY))) ** 0.5  # binomial, over pairs of rows
    assert abs(sizes[name] - size) < 4 * deviation, name


def test_a_fold_depends_on_the_prompt_alone():
  whole = preferences.divide(MANY, held_out=0.1, validation=0.2)
  reverse = preferences.divide(MANY[::-1], held_out=0.1, validation=0.2)
  few = preferences.divide(MANY[:1000], held_out=0.1, validation=0.2)
  for name, part in whole.items():
    assert reverse[name] == part[::-1]
    assert set(few[name]) == set(part) & set(MANY[:1000])


def test_folds_never_change_between_versions():
  """Another hash would train on what an older run held out."""
  found = {}
  folds = preferences.divide(MANY, held_out=0.1, validation=0.2)
  for name, part in folds.items():
    found |= {row.prompt: name for row in part}
  pinned = ["sft", "reward_validation", "held_out", "reward", "sft", "rl"]
  assert [found[f"question {i}"] for i in range(6)] == pinned


def test_larger_fractions_take_rows_and_move_no_others():
  small = preferences.divide(MANY, held_out=0.1, validation=0.1)
  large = preferences.divide(MANY, held_out=0.3, validation=0.2)
  assert set(small["held_out"]) < set(large["held_out"])
  for fold in ("sft", "reward"):
    before = {*small[fold], *small[fold + "_validation"]}
    after = {*large[fold], *large[fold + "_validation"]}
    assert after == before - set(large["held_out"])
    kept = set(small[fold + "_validation"]) - set(large["held_out"])
    assert kept < set(large[fold + "_validation"])


def test_folds_that_cannot_be_are_refused():
  with pytest.raises(ValueError, match="held_out is 1"):
    preferences.divide(MANY, held_out=1, validation=0.1)
  with pytest.raises(ValueError, match=r"validation is -0\.1"):
    preferences.divide(MANY, held_out=0.1, validation=-0.1)
  with pytest.raises(ValueError, match=r"4 rows with 2 different prompts leave .* empty"):
    preferences.divide(MANY[:4], held_out=0.1, validation=0.1)
  without = preferences.divide(MANY, held_out=0, validation=0)
  assert without["held_out"] == without["sft_validation"] == without["reward_validation"] == ()


def test_an_independent_judge_takes_its_rows_from_the_reward_fold_alone():
  without = preferences.divide(MANY, held_out=0.1, validation=0.2)
  asked = preferences.divide(MANY, held_out=0.1, validation=0.2, judge=0.5)
  assert without["judge"] == ()
  for name in without.keys() - {"reward", "judge"}:
    assert asked[name] == without[name]
  assert set(asked["judge"]) | set(asked["reward"]) == set(without["reward"])
  assert not {row.prompt for row in asked["judge"]} & {row.prompt for row in asked["reward"]}
  assert 0.4 < len(asked["judge"]) / len(without["reward"]) < 0.6


def talk(number, *more):
  """A conversation about a question, ended by further turns of assistant and user."""
  said = [f"question {number}", *more]
  roles = ("user", "assistant")
  return tuple(conversations.Turn(roles[i % 2], text) for i, text in enumerate(said))


def test_all_turns_of_a_conversation_are_in_one_fold():
  ends = ((), ("so", "why?"), ("no", "why?"), ("so", "why?", "because", "oh"))
  talks = [talk(i, *end) for i in range(500) for end in ends]
  system = conversations.Turn("system", "Be brief.")
  # HH-RLHF has dialogues in which the assistant speaks twice; those stay texts.
  written = [conversations.write(talk(i, "so"))[: -len("Assistant:")].strip() for i in range(500)]
  plain = [f"question {i}" for i in range(500)]
  prompts = [*talks, *((system, *one) for one in talks[::4]), *written, *plain]
  folds = preferences.divide([preferences.Preference(x, "a", "b") for x in prompts], 0.1, 0.2)
  of_question = collections.defaultdict(set)
  for name, part in folds.items():
    for row in part:
      question = row.prompt
      if not isinstance(question, str):
        (question, *_) = (turn.content for turn in question if turn.role == "user")
      of_question[question.removeprefix("Human: ").split("\n")[0]].add(name)
  assert len(of_question) == 500
  assert {len(names) for names in of_question.values()} == {1}


def test_a_text_in_which_no_user_speaks_is_its_own_opening():
  texts = (
    "Who? Human: x",
    "a\n\nAssistant: b",
    "",
    "System: alone",
    "Assistant: a\n\nAssistant: b",
  )
  texts += (
    "Human:",
    "Humans: we",
    "Q: one?\nA: two\nQ: three?",
    "## Questions\nWho?",
    "a < user > b",
  )
  assert [conversations.opening(text) for text in texts] == list(texts)


SAID = strategies.text("ab :\n", min_size=1).map(str.strip).filter(bool)
SAID |= strategies.sampled_from(["Human: a", "System: a", "### Human: a", "<|user|>a"])
TURNS = strategies.builds(conversations.Turn, strategies.sampled_from(["user", "assistant"]), SAID)
TALKS = strategies.builds(
  lambda system, said, last: (*system, *said, conversations.Turn("user", last)),
  strategies.lists(
    strategies.builds(conversations.Turn, strategies.just("system"), SAID), max_size=1
  ),
  strategies.lists(TURNS, max_size=4),
  SAID,
)


@hypothesis.settings(deadline=None)
@hypothesis.given(TALKS)
def test_a_conversation_written_out_opens_as_it_does(talk):
  written = conversations.write(talk)
  assert conversations.opening(written) == conversations.opening(talk)
  assert conversations.split(written) == ("", [*talk, ("assistant", "")])
  (first, *_) = (turn.content for turn in talk if turn.role == "user")
  assert conversations.opening(first) == conversations.opening(talk)


def test_folds_have_the_sizes_that_are_asked_for_in_the_order_of_their_names():
  settings = types.SimpleNamespace(folds=("b", "a"), fold_sizes=(1.0, 3.0))
  sizes = preferences.sizes_of(settings)
  assert list(sizes.items()) == [("b", 1.0), ("a", 3.0)]
  assert preferences.sizes_of(types.SimpleNamespace(folds=("x",), fold_sizes=())) == {"x": 1.0}
  parts = preferences.divide(MANY, 0.1, 0.2, folds=sizes, prompts_only=("b",))
  assert list(parts) == ["b", "a", "a_validation", "held_out", "set_aside"]
  shares = {name: len(part) / len(MANY) for name, part in parts.items()}
  expected = {"b": 0.225, "a": 0.54, "a_validation": 0.135, "held_out": 0.1, "set_aside": 0}
  assert shares == pytest.approx(expected, abs=0.02)
  for folds, sizes in ((("a", "a"), ()), (("a", "b"), (1.0,))):
    with pytest.raises(ValueError, match="give each fold once, and a size for each"):
      preferences.sizes_of(types.SimpleNamespace(folds=folds, fold_sizes=sizes))
