"""The optimiser step: the gradient it takes, what it refuses, and how batches are cut."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny

from pit_jax.losses import tokens as token_losses
from pit_jax.models import architecture, pure
from pit_jax.stages import objectives
from pit_jax.training import step as training_step
from pit_jax.types import Demonstrations

KEY = jax.random.key(0)
SGD = optax.identity()  # the step itself multiplies by the learning rate


def normal(seed, *shape):
  return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def regression(params, frozen, batch, rng):
  """The masked mean of squared errors; a row has as many terms as its mask says."""
  errors = jnp.where(batch["mask"], batch["x"] @ params["w"] + params["b"] - batch["y"], 0.0)
  loss = frozen["scale"] * token_losses.masked_mean(errors**2, batch["mask"])
  weight = batch["mask"].sum().astype(jnp.float32)
  return loss, {"loss": loss, "largest": jnp.abs(errors).max(), "weight": weight}


def problem(lengths=(4, 1, 3, 2, 4, 4, 1, 2)):
  batch = {
    "x": normal(0, 8, 4, 3),
    "y": normal(1, 8, 4),
    "mask": tiny.right(lengths, 4),
  }
  params = {"w": normal(2, 3), "b": np.float32(0.5)}
  return *jax.tree.map(jnp.array, (params, batch)), {"scale": jnp.float32(2.0)}


def slow_gradient(params, batch):
  x, y, mask = (np.asarray(batch[name], np.float64) for name in ("x", "y", "mask"))
  errors = (x @ np.asarray(params["w"], np.float64) + float(params["b"]) - y) * mask
  count = mask.sum()
  return {
    "w": 4 * (errors[..., None] * x).sum(axis=(0, 1)) / count,
    "b": 4 * errors.sum() / count,
  }


def run(params, batch, frozen, *, optimizer=SGD, accumulation=1, rate=0.1, steps=1, **keywords):
  step = jax.jit(training_step.make_train_step(regression, optimizer, accumulation=accumulation))
  state = training_step.init_state(params, optimizer)
  for _ in range(steps):
    state, metrics = step(state, frozen, batch, KEY, jnp.float32(rate), **keywords)
  return state, metrics


# The update


@pytest.mark.parametrize("accumulation", [1, 2, 8])
def test_a_step_descends_the_gradient_of_the_whole_batch(accumulation):
  params, batch, frozen = problem()
  state, metrics = run(params, batch, frozen, accumulation=accumulation)
  gradient = slow_gradient(params, batch)
  for name in params:
    expected = np.asarray(params[name]) - 0.1 * gradient[name]
    np.testing.assert_allclose(state.params[name], expected, rtol=1e-5, atol=1e-6)
  norm = np.sqrt((gradient["w"] ** 2).sum() + gradient["b"] ** 2)
  np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)
  assert metrics["skipped"] == 0 and state.step == 1


def test_metrics_of_micro_batches_are_averaged_by_weight():
  params, batch, frozen = problem()
  (_, whole), (_, parts) = (run(params, batch, frozen, accumulation=n) for n in (1, 8))
  assert whole.keys() == parts.keys()
  np.testing.assert_allclose(parts["loss"], whole["loss"], rtol=1e-5)
  assert parts["weight"] == whole["weight"] == 21
  errors = np.asarray(batch["x"] @ params["w"] + params["b"] - batch["y"])
  lengths = np.asarray(batch["mask"]).sum(axis=1)
  largest = [np.abs(row[:n]).max() for row, n in zip(errors, lengths)]
  expected = (lengths * largest).sum() / lengths.sum()
  np.testing.assert_allclose(parts["largest"], expected, rtol=1e-5)


def test_accumulation_takes_the_same_steps_of_a_language_model():
  """Every step of a path, each from one state: SGD multiplies what rounding made before."""
  model = tiny.language(layers=1)
  params = jax.tree.map(jnp.array, tiny.parameters(model, seed=3))
  batch = jax.tree.map(
    jnp.array,
    Demonstrations(
      prompts=tiny.prompts(4, [2, 3, 1, 3, 2, 2, 3, 1], 3),
      responses=tiny.responses(5, [5, 1, 2, 5, 3, 1, 4, 2], 5),
    ),
  )
  loss_fn = objectives.imitation(model)
  steps = [
    jax.jit(training_step.make_train_step(loss_fn, SGD, accumulation=accumulation))
    for accumulation in (1, 8)
  ]
  state, losses = training_step.init_state(params, SGD), []
  for _ in range(6):
    (whole, expected), (parts, found) = (
      step(state, {}, batch, KEY, jnp.float32(0.3)) for step in steps
    )
    for name in ("loss", "grad_norm"):
      np.testing.assert_allclose(found[name], expected[name], rtol=1e-5)
    jax.tree.map(
      lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-4, atol=2e-6),
      parts.params,
      whole.params,
    )
    assert parts.step == whole.step
    losses.append(expected["loss"])
    state = whole
  assert losses[-1] < 0.9 * losses[0]


def test_a_batch_that_cannot_be_cut_is_refused():
  params, batch, frozen = problem()
  with pytest.raises(ValueError, match=r"batch of 8 .*accumulation=3.*multiple of 3"):
    run(params, batch, frozen, accumulation=3)


# What changes nothing


def assert_unchanged(state, params):
  jax.tree.map(np.testing.assert_array_equal, state.params, params)
  assert state.step == 1
  for leaf in jax.tree.leaves(state.opt_state):
    assert not np.any(leaf)


ADAM = training_step.adam(clip_norm=1.0)


@pytest.mark.parametrize("accumulation", [1, 4])
@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_is_skipped_and_reported(poison, accumulation):
  params, batch, frozen = problem()
  batch["y"] = batch["y"].at[3, 0].set(poison)
  state, metrics = run(params, batch, frozen, optimizer=ADAM, accumulation=accumulation)
  assert_unchanged(state, params)
  assert metrics["skipped"] == 1 and not np.isfinite(metrics["grad_norm"])


def test_training_goes_on_after_a_skipped_step():
  params, batch, frozen = problem()
  bad = batch | {"y": batch["y"].at[0, 0].set(jnp.nan)}
  step = jax.jit(training_step.make_train_step(regression, ADAM))
  state = training_step.init_state(params, ADAM)
  state, _ = step(state, frozen, bad, KEY, jnp.float32(0.1))
  state, metrics = step(state, frozen, batch, KEY, jnp.float32(0.1))
  undisturbed, _ = run(params, batch, frozen, optimizer=ADAM)
  jax.tree.map(np.testing.assert_array_equal, state.params, undisturbed.params)
  assert metrics["skipped"] == 0 and state.step == 2


def test_an_inactive_step_changes_nothing_and_is_no_failure():
  params, batch, frozen = problem()
  state, metrics = run(params, batch, frozen, optimizer=ADAM, is_active=jnp.bool_(False))
  assert_unchanged(state, params)
  assert metrics["skipped"] == 0 and metrics["grad_norm"] > 0


# The optimiser


def slow_adam(weights, gradients, *, clip, epsilon, decay, scale, rate):
  first = second = np.zeros_like(weights)
  for t, gradient in enumerate(gradients, start=1):
    gradient = gradient * min(1.0, clip / np.sqrt((gradient**2).sum()))
    first = 0.9 * first + 0.1 * gradient
    second = 0.999 * second + 0.001 * gradient**2
    update = first / (1 - 0.9**t) / (np.sqrt(second / (1 - 0.999**t)) + epsilon)
    weights = weights - rate * scale * (update + decay * weights)
  return weights


def test_adam_equals_the_loop_with_its_clip_epsilon_and_decay():
  constants = {"epsilon": 0.3, "scale": 2.0}
  optimizer = training_step.adam(clip_norm=1.5, weight_decay=0.2, **constants)
  weights, directions = normal(6, 5), normal(7, 4, 5)
  directions[2] *= 10  # clipped

  def linear(params, frozen, batch, rng):
    return params["w"] @ batch, {"weight": jnp.float32(1)}

  step = jax.jit(training_step.make_train_step(linear, optimizer))
  state = training_step.init_state({"w": jnp.array(weights)}, optimizer)
  for direction in directions:
    state, metrics = step(state, {}, jnp.array(direction), KEY, jnp.float32(0.1))
    np.testing.assert_allclose(metrics["grad_norm"], np.linalg.norm(direction), rtol=1e-5)
  wide = weights.astype(np.float64), directions.astype(np.float64)
  expected = slow_adam(*wide, clip=1.5, decay=0.2, rate=0.1, **constants)
  np.testing.assert_allclose(state.params["w"], expected, rtol=1e-5, atol=1e-6)


def test_the_learning_rate_is_an_argument_of_one_compiled_step():
  params, batch, frozen = problem()
  traces = []

  def counted(*arguments):
    traces.append(None)
    return regression(*arguments)

  step = jax.jit(training_step.make_train_step(counted, SGD))
  state = training_step.init_state(params, SGD)
  moved = [
    step(state, frozen, batch, KEY, jnp.float32(rate))[0].params["w"] - params["w"]
    for rate in (0.1, 0.2, 0.0)
  ]
  assert len(traces) == 1
  np.testing.assert_allclose(moved[1], 2 * moved[0], rtol=1e-4)
  assert not np.any(moved[2])


@pytest.mark.parametrize(
  "step, expected",
  [(0, 0.2), (2, 0.6), (4, 1.0), (5, 1.0), (10, 0.5), (14, 0.1), (15, 0.0), (99, 0.0)],
)
def test_the_rate_climbs_and_falls(step, expected):
  schedule = training_step.warmup_linear(1.0, steps=15, warmup=5)
  np.testing.assert_allclose(schedule(step), expected, atol=1e-6)


def test_without_warm_up_the_first_step_is_not_lost():
  assert training_step.warmup_linear(3.0, steps=4, warmup=0)(0) == 3.0


# Weight decay

EVERY = {"qkv_bias": True, "output_bias": True, "qk_norm": True, "post_norms": True}


@pytest.mark.parametrize("adapter", [None, architecture.Adapter(1)])
@pytest.mark.parametrize("kind", [tiny.language, tiny.scalar])
def test_norms_and_biases_do_not_decay_and_all_else_does(kind, adapter):
  model = kind(adapter=adapter, tied=False, **EVERY)
  params = pure.split(model, jax.tree.map(jnp.asarray, tiny.parameters(model, seed=3)))[0]
  optimizer = training_step.adam(clip_norm=1.0, weight_decay=0.1)
  nothing = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(nothing, optimizer.init(params), params)
  named, spared = pure.named(params), set()
  for name, update in pure.named(updates).items():
    if not np.any(update):
      spared.add(name.removeprefix("trunk.").removeprefix("blocks."))
    else:
      np.testing.assert_allclose(update, 0.1 * named[name], rtol=1e-6)
  norms = ["attention", "query", "key", "post_attention", "post_mlp", "mlp"]
  wanted = {f"{name}_norm.scale" for name in norms} | {"norm.scale"}
  wanted |= {f"{name}_bias" for name in ("query", "key", "value", "output")}
  is_scalar = kind is tiny.scalar
  head = {"bias"} if is_scalar else set()
  assert spared == (head if adapter else wanted | head)
  assert not adapter or sum("adapters" in name for name in named) == 2 * 7


@pytest.mark.parity
@pytest.mark.parametrize("family", ["Qwen2", "Qwen3", "Llama", "Gemma2"])
def test_as_many_numbers_decay_as_under_transformers_trainer(family):
  transformers = pytest.importorskip("transformers")
  shape = {
    "vocab_size": tiny.VOCABULARY, "hidden_size": 16, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 4, "intermediate_size": 24,
    "tie_word_embeddings": True, "num_labels": 1, "pad_token_id": 0,
  }  # fmt: skip
  config = getattr(transformers, f"{family}Config")(**shape)
  theirs = getattr(transformers, f"{family}ForSequenceClassification")(config)
  decayed = set(transformers.Trainer.get_decay_parameter_names(None, theirs))
  sizes = {name: leaf.numel() for name, leaf in theirs.named_parameters()}
  ours = {
    "Qwen2": {"qkv_bias": True}, "Qwen3": {"qk_norm": True}, "Llama": {},
    "Gemma2": {"post_norms": True, "norm_offset": 1.0},
  }[family]  # fmt: skip
  model = tiny.scalar(tied=True, **ours)
  params = tiny.parameters(model, seed=0)
  pairs = zip(*map(jax.tree.leaves, (params, training_step.is_decayed(params))), strict=True)
  found = {True: 0, False: -1}  # theirs have no bias in the head
  for leaf, is_decayed in pairs:
    found[is_decayed] += leaf.size
  assert found[True] == sum(size for name, size in sizes.items() if name in decayed)
  assert found[False] == sum(size for name, size in sizes.items() if name not in decayed)
