"""Rewards per token, their names and weights, and Python functions that reward texts."""

import sys
import types

import hypothesis
import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import ragged
import tiny_models
import tiny_run
from hypothesis import strategies

from pit_jax.data import conversations, encode, preferences
from pit_jax.data import rows as data_rows
from pit_jax.losses import ppo
from pit_jax.recipes import running
from pit_jax.rollout import rewards as token_rewards
from pit_jax.stages import rewards, rl

QUESTIONS = ["why ?", (conversations.Turn("user", "what is the word ?"),), "who ?"]
ANSWERS, REFERENCES = ["it is .", "the last .", ""], ["a", "b", "c"]


# Per token


@ragged.QUICK
@hypothesis.given(lengths=ragged.ROW_LENGTHS, beta=strategies.sampled_from([0.0, 0.05, 2.0]))
def test_a_reward_all_at_the_last_token_is_a_score_to_the_bit(lengths, beta):
  """A score was put there after the penalty of each token was taken, and so it was added."""
  mask, scores = jnp.array(ragged.mask_of(lengths)), jnp.array(ragged.normal(0, ragged.ROWS))
  logprobs, reference = (jnp.array(ragged.normal(i, ragged.ROWS, ragged.LENGTH)) for i in (1, 2))
  is_last = jnp.arange(ragged.LENGTH) == mask.sum(axis=1, keepdims=True) - 1

  @jax.jit
  def scored(scores):
    return jnp.where(
      mask, -beta * (logprobs - reference) + jnp.where(is_last, scores[:, None], 0.0), 0.0
    )

  @jax.jit
  def rewarded(rewards):
    return ppo.shaped_rewards(rewards, logprobs, reference, mask, beta)

  by_token = np.zeros(mask.shape, np.float32)
  for row, length in enumerate(lengths):
    by_token[row, length - 1 : length] = scores[row]
  total, _ = token_rewards.weighted({"own": scores}, {"own": 1.0}, mask)
  np.testing.assert_array_equal(total, by_token)
  assert np.asarray(scored(scores)).tobytes() == np.asarray(rewarded(total)).tobytes()


@ragged.QUICK
@hypothesis.given(lengths=ragged.ROW_LENGTHS)
def test_the_weighted_sum_is_that_of_the_loop(lengths):
  mask = ragged.mask_of(lengths)
  scores, spans = ragged.normal(3, ragged.ROWS), ragged.normal(4, ragged.ROWS, ragged.LENGTH)
  expected, each = np.zeros(mask.shape), {"end": np.zeros(ragged.ROWS), "spans": []}
  for row, length in enumerate(lengths):
    expected[row, :length] = -0.5 * spans[row, :length]
    each["spans"].append(spans[row, :length].sum())
    if length:
      expected[row, length - 1] += 2.0 * scores[row]
      each["end"][row] = scores[row]
  given = {"end": jnp.array(scores), "spans": ragged.poison(spans, mask)}
  total, found = token_rewards.weighted(given, {"end": 2.0, "spans": -0.5}, jnp.array(mask))
  np.testing.assert_allclose(total, expected, rtol=1e-5, atol=1e-6)
  for name, scored in found.items():
    np.testing.assert_allclose(scored, each[name], rtol=1e-5, atol=1e-6)


# By name


@pytest.fixture
def module(monkeypatch):
  made = types.ModuleType("lent_rewards")
  monkeypatch.setitem(sys.modules, "lent_rewards", made)
  return made


@pytest.fixture(scope="module")
def asking(tmp_path_factory):
  return tiny_models.inference_of(tmp_path_factory.mktemp("tokenizer"))


def section(*pairs):
  return ml_collections.ConfigDict({"rewards": pairs})


def chosen(asking, job, own=("gap",), references=REFERENCES):
  context = tiny_run.pretended(asking)
  own = {name: lambda *_, name=name: name for name in own}
  return rewards.chosen(context, job, own, QUESTIONS, references)


@pytest.mark.parametrize(
  "pairs, expected",
  [
    ((), {"gap": 1.0}),
    ((("gap", 0.5),), {"gap": 0.5}),
    ((("reward", 2.0),), {"gap": 1.0}),  # said of another stage
    ((("reward", 2.0), ("lent_rewards:f", 3.0)), {"gap": 1.0}),
    ((("reward", 2.0), ("gap", 0), ("lent_rewards:f", 3.0)), {"gap": 0.0, "lent_rewards:f": 3.0}),
    ((("lent_rewards:f", 3.0),), {"lent_rewards:f": 3.0}),
    ((("gap", 1.0), ("length", 5.0)), {"gap": 1.0, "length": 5.0}),
    ((("length", 5.0),), {"length": 5.0}),
  ],
)
def test_a_stage_takes_what_is_said_of_it(asking, module, pairs, expected):
  module.f = len
  found = chosen(asking, section(*pairs))
  assert {name: weight for name, (weight, _) in found.items()} == expected
  if "gap" in found:
    assert found["gap"][1](0, 0, 0) == "gap"


def score(asking, function, module, references=REFERENCES):
  """Returns what a function gives the answers to questions 2, 1 and 1, and what it was asked."""
  asked = []
  module.f = lambda *texts: asked.append(texts) or function(*texts)
  named = chosen(asking, section(("lent_rewards:f", 1.0)), references=references)
  responses = jax.tree.map(jnp.asarray, asking.responses(ANSWERS))
  shown = asking.settings.formats["policy"].conversations(QUESTIONS)
  prompts = encode.prompts(shown, asking.settings)[:]
  total, _ = rl._rewarded(named, np.array([2, 1, 1]), prompts, responses)
  return np.asarray(total), np.asarray(responses.mask), asked[0]


def test_a_function_is_asked_in_words(asking, module):
  total, mask, asked = score(asking, lambda x, y, z: [float(len(text)) for text in y], module)
  shown = "Human: what is the word ?\n\nAssistant:"
  assert asked == (["who ?", shown, shown], ANSWERS, ["c", "b", "b"])
  expected = np.zeros(mask.shape)
  expected[range(3), mask.sum(axis=1) - 1] = [len(text) for text in ANSWERS]
  np.testing.assert_array_equal(total, expected)
  assert score(asking, lambda x, y, z: [0, 1, 2], module, None)[2][2] is None


def test_length_is_a_share_of_the_most_there_may_be(asking):
  """5 · min(tokens / most, .8) at the end of a response, beside the stage's own reward."""
  named = chosen(asking, section(("length", 5.0)))
  answers = ["it is .", "the last . " * 40]
  responses = jax.tree.map(jnp.asarray, asking.responses(answers))
  shown = asking.settings.formats["policy"].conversations(QUESTIONS[:2])
  prompts = encode.prompts(shown, asking.settings)[:]
  total, by_name = rl._rewarded(named, np.array([0, 1]), prompts, responses)
  tokens = np.asarray(responses.mask).sum(axis=1)
  most = asking.response_length
  assert tokens[0] < 0.8 * most and tokens[1] == most
  np.testing.assert_allclose(by_name["length"], [tokens[0] / most, 0.8], rtol=1e-6)
  np.testing.assert_allclose(np.asarray(total).sum(axis=1), [5 * tokens[0] / most, 4.0], rtol=1e-6)
  assert np.asarray(total)[1, -1] == pytest.approx(4.0)


def test_a_function_may_reward_every_token(asking, module):
  counts = np.asarray(asking.responses(ANSWERS).mask).sum(axis=1)
  assert len({*counts}) > 1
  total, mask, _ = score(asking, lambda *_: [range(1, n + 1) for n in counts], module)
  np.testing.assert_array_equal(total, np.cumsum(mask, axis=1) * mask)


@pytest.mark.parametrize(
  "given, said",
  [
    ([1.0, 2.0], "lent_rewards:f gave 2 rewards for 3 responses"),
    ([1.0, float("nan"), 2.0], "lent_rewards:f gave the reward nan: not finite"),
    ([1.0, None, 2.0], "lent_rewards:f gave"),
    ([1.0, "good", 2.0], "lent_rewards:f gave a reward that is no number"),
    ([[1.0], [2.0], [3.0]], "lent_rewards:f gave 1 rewards for a response of "),
    (1.0, "lent_rewards:f: TypeError: 'float' object is not iterable; it is called as f"),
  ],
)
def test_what_no_reward_is_made_of_is_refused(asking, module, given, said):
  with pytest.raises(ValueError, match=said):
    score(asking, lambda *_: given, module)


def sought(prompts, responses, references):
  return [{"known": 1.0}[prompt] for prompt in prompts]


@pytest.mark.parametrize(
  "function, said",
  [
    (
      lambda x, y: [0.0],
      r"rl\.rewards: lent_rewards:f: TypeError: .* takes 2 .*; it is called",
    ),
    (sought, rf"KeyError: 'who \?' \(line {sought.__code__.co_firstlineno + 1} of .*test_rewards"),
    (lambda *_: 0.5, "TypeError: 'float' object is not iterable; .* a number for each response"),
    (lambda *_: [0.5], r"rl\.rewards: lent_rewards:f gave 1 rewards for 2 responses"),
    (lambda x, y, z: [len(text) for text in z], "TypeError: 'NoneType' .*is None for a policy"),
  ],
)
def test_a_function_that_fails_is_found_before_training(asking, module, function, said):
  module.f = function
  with pytest.raises(ValueError, match=said):
    tried(asking, section(("reward", 1.0), ("lent_rewards:f", 1.0)), ["reward"])


def tried(asking, job, own, is_improver=False):
  context = tiny_run.pretended(asking)
  context.config = ml_collections.ConfigDict({"rl": job})
  rows = [
    data_rows.Preference(prompt, chosen=f"yes {prompt} .", rejected="no .")
    for prompt in ("who ?", "why ?", "when ?")
  ]
  fold = preferences.Fold(tuple(rows), ())
  rewards.try_functions(context, "rl", fold, own, is_improver=is_improver)


def test_a_function_is_tried_where_a_stage_takes_it(asking, module):
  asked = []
  module.f = lambda *texts: asked.append(texts) or [0.0, 1.0]
  said = section(("gap", 1.0), ("lent_rewards:f", 1.0))
  tried(asking, said, ["reward"])
  assert not asked, "the policy keeps its own reward"
  tried(asking, said, ["gap"], is_improver=True)
  answers = ["yes who ? .", "yes why ? ."]
  assert asked == [(["who ?", "why ?"], answers, ["no .", "no ."])]
  tried(asking, section(), ["gap"], is_improver=True)
  assert len(asked) == 1


@pytest.mark.parametrize("recipe", ["rlhf", "pit"])
def test_a_recipe_tries_functions_before_its_first_stage(recipe, module, tmp_path):
  """An improver's function is shown references, a policy's None."""
  asked = []
  calls = {"rlhf": 1, "pit": 2}[recipe]  # the last of which fails
  module.f = lambda *texts: asked.append(texts[2]) or [0.0] * (3 if len(asked) == calls else 2)
  config = tiny_run.config(recipe, rl__rewards=(("lent_rewards:f", 1.0),))
  with pytest.raises(ValueError, match=r"rl\.rewards: lent_rewards:f gave 3 rewards for 2 resp"):
    running.run(config, tmp_path / "run")
  assert asked[-1] is None and len(asked) == calls
  assert recipe == "rlhf" or len(asked[0]) == 2
  assert not (tmp_path / "run" / "metrics").exists()


@pytest.mark.parametrize(
  "pairs, said",
  [
    ((("reward", 1.0), ("gold", 1.0)), "names 'gold'; use some of reward, gap, length, or a"),
    ((("reward", 1.0), ("reward", 0.5)), r"names \['reward', 'reward'\]; name each once"),
    (
      (["reward", 1.0], [len, 2.0]),
      "function len.*; name the function as 'my_package.my_module:fu",
    ),
    (("reward",), "has 'reward'; give pairs of a name and a weight"),
    ((("reward", float("inf")),), "give pairs of a name and a weight"),
    ((("absent_module:f", 1.0),), "absent_module:f cannot be imported .*No module named"),
    ((("lent_rewards:g", 1.0),), "lent_rewards:g cannot be imported .*no attribute 'g'"),
    ((("lent_rewards:f", 1.0),), "lent_rewards:f is no function but int"),
  ],
)
def test_wrong_names_are_said_before_training(module, pairs, said):
  module.f = 3
  (problem,) = rewards.problems("rl", section(*pairs), ("reward", "gap"))
  with pytest.raises(ValueError, match=said):
    raise ValueError(problem)
  assert problem.startswith("rl.rewards")


def test_right_names_are_no_problem(module):
  module.f = len
  right = section(("reward", 1), ("lent_rewards:f", -0.5))
  assert not [*rewards.problems("rl", right, ("reward",))]
  assert not [*rewards.problems("rl", section(), ("reward",))]
