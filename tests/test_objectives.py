"""Networks and losses put together: which response is read after which prompt."""

import jax
import jax.numpy as jnp
import numpy as np
import tiny

from pit_jax.models import pure
from pit_jax.stages import objectives
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations, GapPreferences, Preferences, Prompts, Responses

KEY, ROWS = jax.random.key(0), 3


def constant(cls, token, length):
  shape = (ROWS, length)
  return cls(tokens=jnp.full(shape, token, jnp.int32), mask=jnp.ones(shape, bool))


def reading_model():
  """A scalar model whose score is 10 × the response's last token + the prompt's last token."""

  def apply(params, tokens, mask, last, segments):
    prompt = tokens[:, -last:][:, :1]
    return (params["scale"] * (10.0 * tokens + prompt))[:, -last:]

  return pure.PureModel(init=lambda key: {}, apply=apply, axes={}, config=tiny.config())


def test_four_gaps_read_each_response_after_each_reference():
  batch = GapPreferences(
    given_chosen=constant(Prompts, 7, 2),
    given_rejected=constant(Prompts, 3, 2),
    chosen=constant(Responses, 7, 4),
    rejected=constant(Responses, 3, 4),
  )
  params = {"scale": 1.0}
  gaps = objectives.four_gaps(reading_model(), params, batch)
  wl, ww, ll, lw = ([value] * ROWS for value in (73, 77, 33, 37))
  np.testing.assert_array_equal(gaps, [wl, ww, ll, lw])
  # Differences wl−ww, wl−ll, wl−lw, ww−lw, ll−lw in nats, once the scores are scaled down.
  weights, differences = np.array([1, 2, 0.5, 1, 3]), np.array([-4, 40, 36, 40, -4]) * 0.1
  loss_fn = objectives.gap_order()(reading_model())
  frozen = {"term_weights": jnp.array(weights)}
  loss, metrics = loss_fn({"scale": 0.1}, frozen, batch, KEY)
  np.testing.assert_allclose(loss, (weights * np.log1p(np.exp(-differences))).sum(), rtol=1e-5)
  assert metrics["weight"] == ROWS and metrics["accuracy"] == 1 and metrics["order"] == 0


def test_pair_scores_read_both_responses_after_the_prompt():
  batch = Preferences(
    prompts=constant(Prompts, 5, 2),
    chosen=constant(Responses, 7, 4),
    rejected=constant(Responses, 3, 4),
  )
  chosen, rejected = objectives.pair_scores(reading_model(), {"scale": 1.0}, batch)
  np.testing.assert_array_equal([chosen, rejected], [[75] * ROWS, [35] * ROWS])
  loss_fn = objectives.preference_pairs()(reading_model())
  loss, metrics = loss_fn({"scale": 0.1}, {}, batch, KEY)
  np.testing.assert_allclose(loss, np.log1p(np.exp(-4.0)), rtol=1e-5)
  assert metrics["weight"] == ROWS


def test_imitation_is_the_mean_over_response_tokens():
  model = tiny.language(layers=1)
  params = tiny.parameters(model, seed=0)
  prompts, responses = tiny.prompts(1, [2, 1, 3], 3), tiny.responses(2, [4, 1, 2], 4)
  batch = jax.tree.map(jnp.array, Demonstrations(prompts=prompts, responses=responses))
  tokens = jnp.concatenate([batch.prompts.tokens, batch.responses.tokens], axis=1)
  mask = jnp.concatenate([batch.prompts.mask, batch.responses.mask], axis=1)
  law = tiny.softmax(jax.jit(model.apply)(params, tokens, mask))
  losses = [
    -np.log(law[b, 3 + t - 1, responses.tokens[b, t]])
    for b, length in enumerate([4, 1, 2])
    for t in range(length)
  ]
  loss, metrics = jax.jit(objectives.imitation(model))(params, {}, batch, KEY)
  np.testing.assert_allclose(loss, np.mean(losses), rtol=1e-4)
  assert metrics["weight"] == 7


# Learning


def train(objective, network, batch, steps, frozen=None):
  model = network(layers=1)
  optimizer = training_step.adam(clip_norm=1.0, epsilon=1e-8)
  state = training_step.init_state(tiny.parameters(model, seed=3, scale=0.1), optimizer)
  step = jax.jit(training_step.make_train_step(objective(model), optimizer))
  for _ in range(steps):
    state, metrics = step(state, frozen or {}, batch, KEY, jnp.float32(0.02))
  return state.params, model, metrics


def marked(seed, token, rows=32, length=5):
  """Returns random responses over tokens 2 … 8 with a mark at a random place."""
  draw = np.random.default_rng(seed)
  tokens = draw.integers(2, 9, (rows, length)).astype(np.int32)
  tokens[np.arange(rows), draw.integers(0, length, rows)] = token
  return Responses(tokens=tokens, mask=np.ones((rows, length), bool))


def preferences(seed):
  prompts = tiny.prompts(seed, [3] * 32, 3)
  return Preferences(prompts=prompts, chosen=marked(seed + 1, 9), rejected=marked(seed + 2, 10))


def test_a_reward_model_separates_separable_data_it_has_not_seen():
  batch = jax.tree.map(jnp.array, preferences(10))
  params, model, metrics = train(objectives.preference_pairs(), tiny.scalar, batch, steps=60)
  assert metrics["accuracy"] == 1
  unseen = jax.tree.map(jnp.array, preferences(20))
  score = jax.jit(lambda params, batch: objectives.pair_scores(model, params, batch))
  chosen, rejected = score(params, unseen)
  assert (chosen > rejected).mean() > 0.9


def test_a_gap_model_learns_the_order_of_the_four_gaps():
  """The mark stands in the reference too: better than a bad one, worse than a good one."""
  pairs = preferences(30)
  batch = GapPreferences(
    given_chosen=Prompts(tokens=pairs.chosen.tokens, mask=pairs.chosen.mask),
    given_rejected=Prompts(tokens=pairs.rejected.tokens, mask=pairs.rejected.mask),
    chosen=pairs.chosen,
    rejected=pairs.rejected,
  )
  frozen = {"term_weights": jnp.ones(5)}
  batch = jax.tree.map(jnp.array, batch)
  _, _, metrics = train(objectives.gap_order(), tiny.scalar, batch, steps=100, frozen=frozen)
  assert metrics["accuracy"] == 1
  assert metrics["order"] > 0.9
