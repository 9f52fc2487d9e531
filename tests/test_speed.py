"""Speeds of stages: tokens are those the models are asked to read, operations counted by hand."""

import dataclasses

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest
import tiny

from pit_jax import costs, parallel
from pit_jax.models import architecture
from pit_jax.stages import objectives, speed
from pit_jax.types import Demonstrations, GapPreferences, Packed, Preferences

PROMPTS = tiny.prompts(1, [2, 1, 3], 3)
OTHERS = tiny.prompts(2, [1, 3, 3], 3)
CHOSEN = tiny.responses(3, [4, 1, 2], 4)
REJECTED = tiny.responses(4, [1, 1, 5], 5)
ROW = np.array([[2, 2, 5, 5, 5, 0], [3, 3, 3, 0, 0, 0]])
PACKED = Packed(tokens=tiny.ids(5, 2, 6), mask=ROW > 0, ends=ROW, is_response=np.roll(ROW, -1) > 3)
BATCHES = {
  "demonstrations": (objectives.imitation, Demonstrations(PROMPTS, CHOSEN)),
  "packed": (objectives.imitation, PACKED),
  "pairs": (objectives.preference_pairs(), Preferences(PROMPTS, CHOSEN, REJECTED)),
  "gaps": (objectives.gap_order(), GapPreferences(PROMPTS, OTHERS, CHOSEN, REJECTED)),
}
PEAK = costs.Peak(flops=1e9, bytes=1.0, memory=1, link=1.0)


@pytest.mark.parametrize("kind", BATCHES)
def test_what_is_counted_is_what_a_loss_asks_its_model_to_read(kind):
  objective, batch = BATCHES[kind]
  model = (tiny.language if objective is objectives.imitation else tiny.scalar)(layers=1)
  masks = []

  def apply(params, given, *mask, **more):
    masks.extend(np.asarray(one) for one in mask)  # none where only the head is asked
    return model.apply(params, given, *mask, **more)

  asked = objective(dataclasses.replace(model, apply=apply))
  params, asked_of = jax.tree.map(jnp.asarray, (tiny.parameters(model, seed=0), batch))
  asked(params, {"term_weights": jnp.ones(5)}, asked_of, jax.random.key(0))
  read, places = (sum(int(f(mask)) for mask in masks) for f in (np.sum, np.size))
  found = objectives.reading(batch)
  assert found == {"tokens/read": read, "tokens/padding": pytest.approx(1 - read / places)}
  assert 0 < read < places


@pytest.mark.parametrize("adapter", [None, architecture.Adapter(3)])
def test_a_supervised_step_is_six_operations_per_parameter_and_token(adapter, monkeypatch):
  monkeypatch.setitem(costs.PEAKS, "cpu", PEAK)
  model = tiny.scalar(adapter=adapter)
  params = tiny.parameters(model, seed=0)
  paths = jax.tree_util.tree_flatten_with_path(params)[0]
  sizes = {".".join(key.key for key in path): leaf.size for path, leaf in paths}
  count = sum(size for name, size in sizes.items() if "embedding" not in name)
  is_learnt = {name: ".adapters." in name or not name.startswith("trunk") for name in sizes}
  learnt = sum(size for name, size in sizes.items() if is_learnt[name]) if adapter else count
  told = speed.supervised(model, params, mesh(4))({"tokens/read": 300.0}, 2.0)
  flops = 300 * (4 * count + 2 * learnt)
  assert told == {"perf/tokens_per_second": 150.0, "perf/mfu": pytest.approx(flops / 2 / 4e9)}


def test_an_iteration_counts_sampling_judging_and_the_passes_that_were_made(monkeypatch):
  monkeypatch.setitem(costs.PEAKS, "cpu", PEAK)
  models = {"policy": tiny.language(), "value": tiny.scalar()}
  params = {kind: tiny.parameters(model, seed=0) for kind, model in models.items()}
  job = ml_collections.ConfigDict({"batch_size": 10, "minibatches": 2, "samples": 1})
  # Two passes of two updates each were asked for, or more; the third update was the last.
  measured = {"tokens/prompt_length": 7.0, "tokens/response_length": 5.0}
  measured |= {"policy/updates": 3.0, "value/updates": 3.0}
  told = speed.reinforcement(models, params, job, mesh(1))(measured, 4.0)
  policy, value = (costs.multiplied(models[kind].config, params[kind]) for kind in models)
  # Policy: sampled with, asked for probabilities, and as the reference; value: asked once.
  flops = 10 * (7 + 5) * (3 * 2 * policy + 2 * value + 1.5 * 6 * (policy + value))
  assert told == {"perf/tokens_per_second": 50 / 4, "perf/mfu": pytest.approx(flops / 4 / 1e9)}
  told = speed.reinforcement(models, params, job, mesh(1))(measured | {"policy/updates": 0.0}, 4.0)
  saved = 10 * (7 + 5) * 1.5 * 6 * policy  # while it waits for the value model
  assert told["perf/mfu"] == pytest.approx((flops - saved) / 4 / 1e9)


def test_devices_of_unknown_peak_have_no_utilisation():
  model = tiny.scalar()
  told = speed.supervised(model, tiny.parameters(model, seed=0), mesh(1))
  assert told({"tokens/read": 300.0}, 2.0) == {"perf/tokens_per_second": 150.0}


def mesh(devices: int):
  return parallel.make_mesh((devices, 1, 1), devices=jax.devices()[:devices])
