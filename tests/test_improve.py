"""The rounds of improvement and the rule that ends them."""

import jax
import numpy as np
import pytest
import tiny_models

from pit_jax.improve import improvement
from pit_jax.rollout import inference

QUESTIONS = [f"question {i}" for i in range(6)]
ANSWERS = [f"answer {i}" for i in range(6)]
KEY = jax.random.key(3)


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def scripted(asking, monkeypatch):
  """Returns a function of a table of raw gaps, table[k - 1][i], that returns an improver.

  Its version k of an answer ends in k strokes. The rows asked for in each round are in `calls`. The
  stop rule has one zero point, so that a gain is a raw gap less that; see test_gains.py of others.
  """

  def script(table, stop_rule="zero_point", **settings):
    calls = []

    def revise(self, params, questions, drafts, key, temperature):
      calls.append([QUESTIONS.index(question) for question in questions])
      return [draft + "'" for draft in drafts]

    def gaps(self, params, questions, answers, references):
      assert list(answers) == [reference + "'" for reference in references]
      pairs = zip(questions, answers)
      return np.array([table[y.count("'") - 1][QUESTIONS.index(x)] for x, y in pairs], np.float32)

    monkeypatch.setattr(inference.Inference, "revise", revise)
    monkeypatch.setattr(inference.Inference, "gaps", gaps)
    return improvement.Improver(asking, {}, {}, {}, stop_rule=stop_rule, **settings), calls

  return script


def run(improver, rounds=4, **settings):
  rows = {"questions": QUESTIONS, "answers": ANSWERS}
  return improvement.improve(improver, **rows, rounds=rounds, key=KEY, temperature=1.0, **settings)


def walk(column, threshold):
  """The rule for one answer, the obvious way: how many versions are kept."""
  kept = 0
  for gap in column:
    if gap <= threshold:
      break
    kept += 1
  return kept


@pytest.mark.parametrize("zero_point, margin", [(0.0, 0.0), (0.5, 0.0), (0.5, 0.25), (-1.0, 0.5)])
@pytest.mark.parametrize("until_stopped", [False, True])
def test_the_first_version_without_enough_gain_ends_it(scripted, zero_point, margin, until_stopped):
  table = np.random.default_rng(0).normal(zero_point + margin + 0.5, 1.0, size=(4, 6))
  table = table.astype(np.float32)
  improver, calls = scripted(table, zero_point=zero_point, margin=margin)
  made = run(improver, until_stopped=until_stopped)
  kept = [walk(column, zero_point + margin) for column in table.T]
  assert len(set(kept)) > 2  # the table tries several lengths
  assert made.kept.tolist() == kept
  for k in range(5):
    assert made.with_stop(k) == [y + "'" * min(k, kept[i]) for i, y in enumerate(ANSWERS)]
    assert made.stopped(k).tolist() == [kept[i] < k for i in range(6)]
  assert [made.ended(i) for i in range(6)] == [n + 1 if n < 4 else None for n in kept]
  if until_stopped:
    open_rows = [[i for i in range(6) if kept[i] >= k] for k in range(4)]
    assert calls == [rows for rows in open_rows if rows]
  else:
    assert calls == [list(range(6))] * 4
    assert made.texts == [[y + "'" * k for y in ANSWERS] for k in range(5)]
    np.testing.assert_allclose(made.gaps, table - zero_point, atol=1e-6)


def test_as_good_as_an_identical_answer_is_no_gain(scripted):
  gaps = [[0.5, 0.75, 0.875, 0.25, 0.5, 0.75]]
  improver, _ = scripted(gaps, zero_point=0.5)
  assert run(improver, rounds=1).kept.tolist() == [0, 1, 1, 0, 0, 1]
  improver, _ = scripted(gaps, zero_point=0.5, margin=0.25)
  assert run(improver, rounds=1).kept.tolist() == [0, 0, 1, 0, 0, 0]


def test_a_later_gain_does_not_revive_an_ended_row(scripted):
  improver, _ = scripted([[1.0] * 6, [-1.0] * 6, [9.0] * 6], zero_point=0.0)
  made = run(improver, rounds=3)
  assert made.kept.tolist() == [1] * 6
  assert made.with_stop(3) == [y + "'" for y in ANSWERS]


def test_the_rounds_end_when_every_row_has(scripted):
  improver, calls = scripted([[1.0] * 6, [-1.0] * 6], zero_point=0.0)
  made = run(improver, rounds=50, until_stopped=True)
  assert len(calls) == 2 and [made.ended(i) for i in range(6)] == [2] * 6


def test_what_was_not_made_has_no_gap(scripted):
  improver, _ = scripted([[-1.0] + [1.0] * 5, [1.0] * 6], zero_point=0.0)
  made = run(improver, rounds=2, until_stopped=True)
  assert np.isnan(made.gaps).tolist() == [[False] * 6, [True] + [False] * 5]


def test_a_margin_of_minus_infinity_keeps_every_version(scripted):
  improver, _ = scripted([[-1e9] * 6] * 3, zero_point=0.0, margin=-np.inf)
  made = run(improver, rounds=3, until_stopped=True)
  assert made.kept.tolist() == [3] * 6 and made.ended(0) is None


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"rounds": 0}, "rounds=0"),
    ({"temperature": -0.5}, "temperature=-0.5"),
    ({"temperature": float("nan")}, "temperature=nan"),
  ],
)
def test_senseless_settings_are_refused(scripted, changes, message):
  improver, _ = scripted([[1.0] * 6], zero_point=0.0)
  settings = {"rounds": 1, "key": KEY, "temperature": 1.0} | changes
  with pytest.raises(ValueError, match=message):
    improvement.improve(improver, QUESTIONS, ANSWERS, **settings)


def test_a_run_without_an_improver_says_so(asking):
  improver = improvement.Improver(asking, {}, None, None, zero_point=0.0)
  with pytest.raises(ValueError, match="no improver"):
    run(improver)


def test_models_see_the_version_before(asking):
  """Greedy rounds, and their gaps, are what the models say one step at a time."""
  models = tiny_models.models_of(asking)
  trained = [models[name] for name in ("policy", "improver", "gap_reward")]
  improver = improvement.Improver(asking, *trained, zero_point=0.25)
  questions, texts = QUESTIONS[:3], [ANSWERS[:3]]
  made = improvement.improve(improver, questions, texts[0], rounds=2, key=KEY, temperature=0)
  for k in range(2):
    texts.append(asking.revise(models["improver"], questions, texts[k], KEY, 0.0))
    pair = texts[k + 1], texts[k]
    forth, back = (
      asking.gaps(models["gap_reward"], questions, *order) for order in (pair, pair[::-1])
    )
    np.testing.assert_allclose(made.gaps[k], (forth - back) / 2, atol=1e-6)
  assert made.texts == texts


def test_every_round_has_noise_of_its_own(scripted, monkeypatch):
  improver, _ = scripted([[1.0] * 6] * 3, zero_point=0.0)
  keys, revise = [], inference.Inference.revise

  def watch(self, params, questions, drafts, key, temperature):
    keys.append(tuple(jax.random.key_data(key).tolist()))
    return revise(self, params, questions, drafts, key, temperature)

  monkeypatch.setattr(inference.Inference, "revise", watch)
  run(improver, rounds=3)
  assert len(set(keys)) == 3


def test_the_key_decides_the_noise(asking):
  models = tiny_models.models_of(asking)
  trained = [models[name] for name in ("policy", "improver", "gap_reward")]
  improver = improvement.Improver(asking, *trained, zero_point=0.0)
  drafts = ["the word"] * 4

  def sample(key):
    made = improvement.improve(improver, ["what ?"] * 4, drafts, rounds=2, key=key, temperature=1.0)
    return made.texts[1:]

  assert sample(KEY) == sample(KEY) != sample(jax.random.key(4))
